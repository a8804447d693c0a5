//! What a cell showed, measured against what was wanted.

use serde_json::{Value, json};

use super::target::Target;

/// What a figure must be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
    /// Told, not judged.
    Any,
}

/// One measured thing; no value: it never came.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) value: Option<f64>,
    pub(crate) bound: Bound,
}

/// A figure.
pub(crate) const fn of(
    name: &'static str,
    unit: &'static str,
    value: Option<f64>,
    bound: Bound,
) -> Figure {
    Figure {
        name,
        unit,
        value,
        bound,
    }
}

impl Figure {
    pub(crate) fn is_within(&self) -> bool {
        match (self.bound, self.value) {
            (Bound::Any, _) => true,
            (_, None) => false,
            (Bound::AtMost(bound), Some(value)) => value <= bound,
            (Bound::AtLeast(bound), Some(value)) => value >= bound,
        }
    }

    /// The bound as a person writes it.
    pub(crate) fn wanted(&self) -> String {
        match self.bound {
            Bound::AtMost(bound) => format!("<= {bound}"),
            Bound::AtLeast(bound) => format!(">= {bound}"),
            Bound::Any => String::new(),
        }
    }
}

/// How a run went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// All within the targets, by the path that was wanted.
    Ok,
    /// All there, and something later, slower or more than wanted.
    Late,
    /// Something never came, or another path than wanted.
    Missed,
    /// The run itself failed.
    Broken,
}

impl Verdict {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Late => "late",
            Self::Missed => "not reached",
            Self::Broken => "broken",
        }
    }
}

/// One run of one cell.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) figures: Vec<Figure>,
    /// The tier at the end, where it was looked at.
    pub(crate) end: Option<String>,
    pub(crate) note: String,
    missed: bool,
    broken: bool,
}

impl Outcome {
    pub(crate) const fn new(figures: Vec<Figure>) -> Self {
        Self {
            figures,
            end: None,
            note: String::new(),
            missed: false,
            broken: false,
        }
    }

    /// A run that did not come to measuring, because the product could not go so far.
    pub(crate) fn missed(why: &str) -> Self {
        Self {
            note: why.to_owned(),
            missed: true,
            ..Self::new(Vec::new())
        }
    }

    /// A run that ended in a panic.
    pub(crate) fn broken(why: &str) -> Self {
        let mut outcome = Self::new(Vec::new());
        outcome.note = why.lines().next().unwrap_or_default().to_owned();
        outcome.broken = true;
        outcome
    }

    pub(crate) fn add(
        &mut self,
        name: &'static str,
        unit: &'static str,
        value: Option<f64>,
        bound: Bound,
    ) {
        self.figures.push(of(name, unit, value, bound));
    }

    pub(crate) fn verdict(&self, target: &Target) -> Verdict {
        if self.broken {
            return Verdict::Broken;
        }
        let judged = self
            .figures
            .iter()
            .filter(|figure| figure.bound != Bound::Any);
        let missing = self.missed || judged.clone().any(|figure| figure.value.is_none());
        let ends_well = self.end.as_deref().is_none_or(|end| target.path.takes(end));
        if missing || !ends_well {
            Verdict::Missed
        } else if self.figures.iter().all(Figure::is_within) {
            Verdict::Ok
        } else {
            Verdict::Late
        }
    }

    pub(crate) fn json(&self, target: &Target) -> Value {
        let figure = |figure: &Figure| {
            json!({
                "name": figure.name,
                "unit": figure.unit,
                "value": figure.value,
                "wanted": figure.wanted(),
                "within": figure.is_within(),
            })
        };
        json!({
            "verdict": self.verdict(target).word(),
            "end": self.end,
            "figures": self.figures.iter().map(figure).collect::<Vec<_>>(),
            "note": self.note,
        })
    }
}

/// The value below which so many percent of these lie, by the nearest rank.
pub(crate) fn percentile(values: &[f64], percent: usize) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.max(1) - 1).copied()
}
