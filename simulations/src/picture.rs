//! A run as a picture: who agrees and what is sent, over virtual time. SVG, readable as text.

use std::fmt::Write;

use crate::film::Moment;
use crate::report::Report;

const WIDTH: f64 = 900.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 20.0;
/// Top and height of the two panels.
const AGREEMENT: Panel = Panel {
    top: 76.0,
    height: 220.0,
};
const TRAFFIC: Panel = Panel {
    top: 356.0,
    height: 180.0,
};
const HEIGHT: f64 = 596.0;
/// Lines of a grid, so many in each direction.
const GRID: u32 = 4;

#[derive(Clone, Copy)]
struct Panel {
    top: f64,
    height: f64,
}

/// One line of a panel.
struct Curve {
    name: &'static str,
    colour: &'static str,
    of: fn(&Moment) -> f64,
}

const SHARES: [Curve; 2] = [
    Curve {
        name: "heads as at the end",
        colour: "#0b6e4f",
        of: |moment| moment.heads,
    },
    Curve {
        name: "records as most have",
        colour: "#c8553d",
        of: |moment| moment.records,
    },
];
const RATES: [Curve; 2] = [
    Curve {
        name: "control plane",
        colour: "#0b6e4f",
        of: |moment| moment.control_bytes,
    },
    Curve {
        name: "probes",
        colour: "#7a7a7a",
        of: |moment| moment.probe_bytes,
    },
];

/// Draws a report that was filmed.
#[must_use]
pub fn svg(report: &Report) -> String {
    let moments = &report.moments;
    let end_ms = moments.last().map_or(1, |moment| moment.at_ms).max(1);
    let rates = moments
        .iter()
        .flat_map(|moment| RATES.iter().map(|curve| (curve.of)(moment)));
    let most = round_up(rates.fold(1.0, f64::max));
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"16\">{}: {} nodes, seed {}</text>\n\
         <text x=\"{LEFT}\" y=\"42\" fill=\"#555\">trace {}, virtual seconds to the right</text>\n",
        report.scenario, report.nodes, report.seed, report.trace
    );
    let mut panel = |panel: Panel, curves: &[Curve], most: f64, unit: &dyn Fn(f64) -> String| {
        grid(&mut out, panel, end_ms, most, unit);
        for (at, curve) in (0..).zip(curves) {
            line(&mut out, panel, curve, moments, (end_ms, most));
            let x = LEFT + 160.0 * f64::from(at);
            let y = panel.top - 6.0;
            put(
                &mut out,
                format_args!(
                    "<text x=\"{x}\" y=\"{y}\" fill=\"{}\">{}</text>",
                    curve.colour, curve.name
                ),
            );
        }
    };
    panel(AGREEMENT, &SHARES, 1.0, &|share| {
        format!("{:.0} %", share * 100.0)
    });
    panel(TRAFFIC, &RATES, most, &|rate| {
        format!("{:.0} kB/min", rate / 1000.0)
    });
    out.push_str("</svg>\n");
    out
}

fn grid(out: &mut String, panel: Panel, end_ms: u64, most: f64, unit: &dyn Fn(f64) -> String) {
    for step in 0..=GRID {
        let part = f64::from(step) / f64::from(GRID);
        let y = panel.top + panel.height * (1.0 - part);
        let x = LEFT + (WIDTH - LEFT - RIGHT) * part;
        let (end, bottom) = (WIDTH - RIGHT, panel.top + panel.height);
        let label = unit(most * part);
        let time = end_ms as f64 / 1000.0 * part;
        put(
            out,
            format_args!(
                "<path d=\"M{LEFT} {y:.1}H{end}M{x:.1} {}V{bottom}\" stroke=\"#ddd\" fill=\"none\"/>\n\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#555\">{label}</text>\n\
                 <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#555\">{time:.0}</text>",
                panel.top,
                LEFT - 6.0,
                y + 4.0,
                bottom + 16.0
            ),
        );
    }
}

fn line(out: &mut String, panel: Panel, curve: &Curve, moments: &[Moment], ends: (u64, f64)) {
    let mut points = String::new();
    for moment in moments {
        let x = LEFT + (WIDTH - LEFT - RIGHT) * moment.at_ms as f64 / ends.0 as f64;
        let y = panel.top + panel.height * (1.0 - (curve.of)(moment) / ends.1);
        // Writing into a string cannot fail.
        let _written = write!(points, "{x:.1},{y:.1} ");
    }
    let points = points.trim_end();
    put(
        out,
        format_args!(
            "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\" points=\"{points}\"/>",
            curve.colour
        ),
    );
}

fn put(out: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing into a string cannot fail.
    let _written = writeln!(out, "{what}");
}

/// The next of 1, 2, 5, 10, 20, 50 ... so that a scale has round numbers.
fn round_up(most: f64) -> f64 {
    let ten = 10f64.powf(most.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * ten);
    steps.into_iter().find(|step| *step >= most).unwrap_or(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_ends_at_a_round_number() {
        let ends = [1.0, 1.5, 3.0, 7_000.0, 86_000.0].map(round_up);
        assert_eq!(ends, [1.0, 2.0, 5.0, 10_000.0, 100_000.0]);
    }
}
