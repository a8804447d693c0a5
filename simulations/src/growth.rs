//! How a story's figures grow with the network: the same story at several sizes, and the power of the size that each
//! figure follows.

use std::fmt::Write;

use crate::report::Report;

/// A figure at each size.
struct Row {
    what: &'static str,
    values: Vec<u64>,
}

/// The figures of one story at several sizes, with the law that each follows: a table for people.
///
/// The law is the slope of the least-squares line through logarithms: `N^1.0` doubles when the network does.
#[must_use]
pub fn table(reports: &[Report]) -> String {
    let sizes: Vec<u64> = reports.iter().map(|report| report.nodes as u64).collect();
    let mut rows: Vec<Row> = Vec::new();
    for (at, report) in reports.iter().enumerate() {
        let milestones = report.milestones.iter();
        for (what, value) in milestones.chain(&report.figures) {
            let known = rows.iter().position(|row| row.what == *what);
            let place = known.unwrap_or_else(|| {
                let values = vec![0; sizes.len()];
                rows.push(Row { what, values });
                rows.len() - 1
            });
            // What a story measures several times counts by its worst.
            let value = (*value).max(rows[place].values[at]);
            rows[place].values[at] = value;
        }
    }
    let width = rows.iter().map(|row| row.what.len()).max().unwrap_or(0);
    let mut out = format!("{:<width$}", "nodes");
    for size in &sizes {
        // Writing into a string cannot fail.
        let _written = write!(out, "  {size:>12}");
    }
    out.push_str("  grows as\n");
    for row in &rows {
        let _written = write!(out, "{:<width$}", row.what);
        for value in &row.values {
            let _written = write!(out, "  {value:>12}");
        }
        let law =
            power(&sizes, &row.values).map_or("-".to_owned(), |power| format!("N^{power:.2}"));
        let _written = writeln!(out, "  {law}");
    }
    out
}

/// The power of the size that values follow; `None` if there are fewer than two sizes or a value is zero.
fn power(sizes: &[u64], values: &[u64]) -> Option<f64> {
    if sizes.len() < 2 || values.contains(&0) {
        return None;
    }
    let logarithms = |of: &[u64]| -> Vec<f64> { of.iter().map(|n| (*n as f64).ln()).collect() };
    let (x, y) = (logarithms(sizes), logarithms(values));
    let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len() as f64;
    let (mean_x, mean_y) = (mean(&x), mean(&y));
    let spread: f64 = x.iter().map(|x| (x - mean_x).powi(2)).sum();
    let common: f64 = x
        .iter()
        .zip(&y)
        .map(|(x, y)| (x - mean_x) * (y - mean_y))
        .sum();
    (spread > 0.0).then(|| common / spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_power_of_a_law_is_found() {
        let sizes = [100, 1000, 10_000];
        let close = |values: [u64; 3], wanted: f64| {
            let found = power(&sizes, &values).unwrap();
            assert!((found - wanted).abs() < 0.01, "{found}");
        };
        close([7, 7, 7], 0.0);
        close([300, 3000, 30_000], 1.0);
        close([10_000, 1_000_000, 100_000_000], 2.0);
        assert_eq!(power(&sizes, &[0, 1, 2]), None);
        assert_eq!(power(&[5, 5], &[1, 2]), None);
    }
}
