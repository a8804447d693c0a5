//! Medians and ratios.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::measure::What;
use super::product::Product;

/// All figures of all rounds.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<(u32, Product, What, f64)>,
}

impl Table {
    pub(crate) fn add(&mut self, round: u32, product: Product, what: What, value: f64) {
        self.rows.push((round, product, what, value));
    }

    pub(crate) fn products(&self) -> BTreeSet<Product> {
        self.rows.iter().map(|(_, product, ..)| *product).collect()
    }

    pub(crate) fn figures(&self) -> BTreeSet<What> {
        self.rows.iter().map(|(_, _, what, _)| *what).collect()
    }

    pub(crate) fn median(&self, product: Product, what: What) -> Option<f64> {
        let rows = self.rows.iter();
        let rows = rows.filter(|(_, p, w, _)| (*p, *w) == (product, what));
        let mut values: Vec<f64> = rows.map(|(.., value)| *value).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        match values.len() {
            0 => None,
            odd if odd % 2 == 1 => Some(values[middle]),
            _ => Some(f64::midpoint(values[middle - 1], values[middle])),
        }
    }

    /// The median over the base's median.
    pub(crate) fn ratio(&self, product: Product, what: What, base: Product) -> Option<f64> {
        let (ours, theirs) = (self.median(product, what)?, self.median(base, what)?);
        (theirs > 0.0).then_some(ours / theirs)
    }

    /// Two tables in Markdown.
    pub(crate) fn text(&self, base: Product) -> String {
        let mut text = String::from("\nMedians\n\n");
        self.grid(&mut text, |product, what| self.median(product, what));
        let _ = write!(
            text,
            "\nRatio to {base} (rates: more is better; ms, s/GB and kB: less is)\n\n"
        );
        self.grid(&mut text, |product, what| self.ratio(product, what, base));
        text
    }

    fn grid(&self, text: &mut String, value: impl Fn(Product, What) -> Option<f64>) {
        let products: BTreeMap<Product, String> = self
            .products()
            .into_iter()
            .map(|product| (product, product.to_string()))
            .collect();
        let names: Vec<&str> = products.values().map(String::as_str).collect();
        let _ = writeln!(text, "| | {} |", names.join(" | "));
        let _ = writeln!(text, "| --- |{}", " --- |".repeat(names.len()));
        for what in self.figures() {
            let cells = products.keys().map(|product| match value(*product, what) {
                Some(value) if value >= 100.0 => format!("{value:.0}"),
                Some(value) if value >= 10.0 => format!("{value:.1}"),
                Some(value) => format!("{value:.2}"),
                None => "-".to_owned(),
            });
            let cells: Vec<_> = cells.collect();
            let _ = writeln!(text, "| {} | {} |", what.name(), cells.join(" | "));
        }
    }

    /// Every single figure.
    pub(crate) fn tsv(&self) -> String {
        let rows = self.rows.iter();
        let lines = rows.map(|(round, product, what, value)| {
            format!("{round}\t{product}\t{}\t{value}\n", what.name())
        });
        lines.collect()
    }
}
