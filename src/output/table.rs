//! Tables with a header; when narrow, columns drop from the right in a given order.

/// A table: columns by name, rows of cells.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub(crate) fn new(header: &[&'static str]) -> Self {
        Self {
            header: header.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row: one cell a column.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.header.len());
        self.rows.push(cells);
    }

    /// The table in at most `width` columns, if dropping `droppable` ones (first first) is enough.
    pub(crate) fn render(mut self, width: usize, droppable: &[&str]) -> String {
        let mut dropped = 0;
        for name in droppable {
            if self.width() <= width {
                break;
            }
            if let Some(at) = self.header.iter().position(|column| column == name) {
                self.header.remove(at);
                for row in &mut self.rows {
                    row.remove(at);
                }
                dropped += 1;
            }
        }
        let mut text = self.lines();
        if dropped > 0 {
            let columns = if dropped == 1 { "column" } else { "columns" };
            text.push_str(&format!(
                "(wider terminal or --wide: {dropped} more {columns})\n"
            ));
        }
        text
    }

    /// `name: value` lines, one blank line between items, for screen readers.
    pub(crate) fn plain(&self) -> String {
        let items: Vec<String> = self.rows.iter().map(|row| self.plain_item(row)).collect();
        items.join("\n")
    }

    fn plain_item(&self, row: &[String]) -> String {
        let cells = self.header.iter().zip(row);
        cells
            .filter(|(_, cell)| *cell != "-")
            .map(|(name, cell)| format!("{}: {cell}\n", name.to_ascii_lowercase()))
            .collect()
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.header.iter().map(|name| name.len()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        widths
    }

    fn width(&self) -> usize {
        let widths = self.widths();
        widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1)
    }

    fn lines(&self) -> String {
        let widths = self.widths();
        let header: Vec<String> = self.header.iter().map(|name| (*name).to_owned()).collect();
        std::iter::once(&header)
            .chain(&self.rows)
            .map(|row| line(row, &widths))
            .collect()
    }
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let cells: Vec<String> = cells
        .iter()
        .zip(widths)
        .map(|(cell, width)| format!("{cell:<width$}"))
        .collect();
    format!("{}\n", cells.join(GAP).trim_end())
}

const GAP: &str = "  ";

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["NAME", "RTT", "RX"]);
        table.row(vec![
            "laptop".to_owned(),
            "0.4 ms".to_owned(),
            "1.2 GB".to_owned(),
        ]);
        table.row(vec!["old-pi".to_owned(), "-".to_owned(), "-".to_owned()]);
        table
    }

    #[test]
    fn columns_align_and_lines_end_without_blanks() {
        assert_eq!(
            table().render(usize::MAX, &[]),
            "NAME    RTT     RX\nlaptop  0.4 ms  1.2 GB\nold-pi  -       -\n"
        );
    }

    #[test]
    fn a_narrow_terminal_drops_columns_in_order_and_says_so() {
        assert_eq!(
            table().render(16, &["RX", "RTT"]),
            "NAME    RTT\nlaptop  0.4 ms\nold-pi  -\n(wider terminal or --wide: 1 more column)\n"
        );
    }

    #[test]
    fn cells_are_never_shortened_however_narrow_it_is() {
        assert!(table().render(1, &["RX", "RTT"]).contains("laptop\n"));
    }

    #[test]
    fn plain_is_one_line_a_value_without_what_is_not_known() {
        assert_eq!(
            table().plain(),
            "name: laptop\nrtt: 0.4 ms\nrx: 1.2 GB\n\nname: old-pi\n"
        );
    }
}
