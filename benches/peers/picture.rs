//! The ratios as bars: longer is better, the base is one.

use std::fmt::Write as _;

use super::product::Product;
use super::table::Table;

const LEFT: f64 = 190.0;
const BAR: f64 = 14.0;
const UNIT: f64 = 130.0;
/// Beyond this a bar would tell nothing but that it is long.
const LONGEST: f64 = 5.0;
const COLOURS: [&str; 8] = [
    "#4c78a8", "#e45756", "#72b7b2", "#f58518", "#54a24b", "#b279a2", "#9d755d", "#bab0ac",
];

/// An SVG with a group of bars for each figure. Of what is better when it is less, the bar is the inverse.
pub(crate) fn draw(table: &Table, base: Product) -> String {
    let products: Vec<_> = table.products().into_iter().collect();
    let figures: Vec<_> = table.figures().into_iter().collect();
    let group = BAR * products.len() as f64 + 12.0;
    let height = 30.0 + group * figures.len() as f64;
    let width = LEFT + UNIT * LONGEST + 60.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"4\" y=\"16\">times better than {base}</text>\n"
    );
    for (row, what) in figures.iter().enumerate() {
        let top = 26.0 + group * row as f64;
        let _ = writeln!(
            svg,
            "<text x=\"4\" y=\"{:.0}\">{}</text>",
            top + BAR,
            what.name()
        );
        for (at, product) in products.iter().enumerate() {
            let Some(ratio) = table.ratio(*product, *what, base) else {
                continue;
            };
            let times = if what.is_rate() { ratio } else { 1.0 / ratio };
            let y = top + BAR * at as f64;
            let colour = COLOURS[at % COLOURS.len()];
            let length = UNIT * times.min(LONGEST);
            let _ = writeln!(
                svg,
                "<rect x=\"{LEFT}\" y=\"{y:.0}\" width=\"{length:.1}\" height=\"{:.0}\" fill=\"{colour}\"/>\
                 <text x=\"{:.1}\" y=\"{:.0}\">{product} {times:.2}</text>",
                BAR - 2.0,
                LEFT + length + 4.0,
                y + BAR - 4.0,
            );
        }
    }
    let one = LEFT + UNIT;
    let _ = write!(
        svg,
        "<line x1=\"{one}\" y1=\"22\" x2=\"{one}\" y2=\"{height}\" stroke=\"black\" stroke-dasharray=\"3\"/>\n</svg>\n"
    );
    svg
}
