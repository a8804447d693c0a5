//! The matrix: every pair of NATs, and every other place or change that two nodes have to live with, measured with real
//! daemons against what is wanted.
//!
//! `cargo matrix` runs the cells whose names contain the words that are typed, `--all` runs all. In each, two members
//! that know each other by a public third one begin without a session; it is measured when the first probe is answered,
//! when packets travel directly, and which path they have at the end.

mod changes;
mod loads;
mod outcome;
mod packets;
mod places;
mod scene;
mod target;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use meshnode::lab::{Lab, Stopwatch, World};
use serde_json::{Value, json};

use self::outcome::{Outcome, Verdict, percentile};
use self::target::{Means, Target};
use crate::internet::plan::Nat;
use crate::node::measured;
use crate::{lab, say};

/// As first argument: run the matrix instead of the stories.
pub(crate) const WORD: &str = "--matrix";

type Tell = Box<dyn Fn(&World, &Target) -> Outcome + Send + Sync>;

/// One topology, what is wanted of it, and how it is measured.
struct Cell {
    name: String,
    target: Target,
    tell: Tell,
    company: Company,
}

/// How a cell gets on with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Company {
    /// It mostly waits, so it begins before all others.
    First,
    Any,
    /// It needs the whole machine.
    Alone,
}

impl Cell {
    fn new(
        name: &str,
        target: Target,
        tell: impl Fn(&Lab, &Target) -> Outcome + Send + Sync + 'static,
    ) -> Self {
        Self::in_world(name, target, move |world, target| tell(&lab(world), target))
    }

    /// One that needs several laboratories.
    fn in_world(
        name: &str,
        target: Target,
        tell: impl Fn(&World, &Target) -> Outcome + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.to_owned(),
            target,
            tell: Box::new(tell),
            company: Company::Any,
        }
    }

    fn with(mut self, company: Company) -> Self {
        self.company = company;
        self
    }

    fn run(&self, world: &World) -> Outcome {
        let told = catch_unwind(AssertUnwindSafe(|| (self.tell)(world, &self.target)));
        told.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Outcome::broken(text.unwrap_or("a panic without words"))
        })
    }
}

fn cells() -> Vec<Cell> {
    let mut cells: Vec<Cell> = target::pairs()
        .map(|(one, other)| places::pair(one, other))
        .collect();
    cells.extend(places::cells());
    cells.extend(changes::cells());
    cells.extend(loads::cells());
    cells.sort_by_key(|cell| cell.company);
    cells
}

/// Pairs that run with every test: one for each way in which a plain pair can be filtered and mapped.
const SHORT: [(Nat, Nat); 8] = [
    (Nat::Public, Nat::Sym),
    (Nat::PubFw, Nat::FullCone),
    (Nat::Addr, Nat::Port),
    (Nat::Port, Nat::Port),
    // By foretold ports, by chance, and by a relay alone.
    (Nat::PortRand, Nat::SymSeq),
    (Nat::SymSeq, Nat::SymSeq),
    (Nat::Port, Nat::Sym),
    (Nat::Sym, Nat::Sym),
];

/// What is left to chance fails one time in fifty.
const TRIES: usize = 3;

pub(crate) fn every_kind_of_pair_meets_as_it_can(world: &World) {
    for (one, other) in SHORT {
        let cell = places::pair(one, other);
        let tries = match target::means(one, other) {
            Means::Birthday => TRIES,
            Means::Plain | Means::Foreseen | Means::None => 1,
        };
        let mut tries = (0..tries).map(|_| {
            let outcome = (cell.tell)(world, &cell.target);
            measured(&cell.name, line(&outcome));
            outcome.verdict(&cell.target)
        });
        // How soon depends on what else the machine does; the matrix judges that.
        let met = tries.any(|verdict| verdict <= Verdict::Late);
        assert!(met, "{}", cell.name);
    }
}

pub(crate) fn forty_of_forty_five_pairs_can_be_direct(_: &World) {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (one, other) in target::pairs() {
        assert_eq!(target::means(one, other), target::means(other, one));
        *counts
            .entry(format!("{:?}", target::means(one, other)))
            .or_default() += 1;
    }
    assert_eq!(counts.values().sum::<usize>(), 45);
    assert_eq!(counts[&format!("{:?}", Means::None)], 5, "{counts:?}");
    assert_eq!(counts[&format!("{:?}", Means::Birthday)], 6, "{counts:?}");
    assert_eq!(counts[&format!("{:?}", Means::Foreseen)], 4, "{counts:?}");
}

/// What was typed after the word.
struct Wish {
    names: Vec<String>,
    all: bool,
    list: bool,
    runs: usize,
    jobs: usize,
    json: Option<String>,
    logs: Option<String>,
}

const USAGE: &str = "\
usage: cargo matrix [--all] [-j N] [--runs N] [--json FILE] [--logs DIR] [--list] [NAME..]

Runs the cells whose names contain one of the NAMEs, or all. --logs keeps what the daemons of each run said.
";

impl Wish {
    fn from_arguments(mut words: impl Iterator<Item = String>) -> Option<Self> {
        let jobs = thread::available_parallelism().map_or(1, usize::from);
        let mut wish = Self {
            names: Vec::new(),
            all: false,
            list: false,
            runs: 1,
            jobs,
            json: None,
            logs: None,
        };
        while let Some(word) = words.next() {
            match word.as_str() {
                "--all" => wish.all = true,
                "--list" => wish.list = true,
                "--runs" => wish.runs = words.next()?.parse().ok()?,
                "-j" => wish.jobs = words.next()?.parse().ok()?,
                "--json" => wish.json = Some(words.next()?),
                "--logs" => wish.logs = Some(words.next()?),
                flag if flag.starts_with("-j") => wish.jobs = flag[2..].parse().ok()?,
                flag if flag.starts_with('-') => return None,
                _ => wish.names.push(word),
            }
        }
        let chosen = wish.all || wish.list || !wish.names.is_empty();
        (chosen && wish.runs > 0 && wish.jobs > 0).then_some(wish)
    }

    fn takes(&self, cell: &Cell) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| cell.name.contains(name))
    }
}

/// Runs what was asked for, after the word itself.
pub(crate) fn main(world: &World) -> ExitCode {
    let words = std::env::args().skip(1).filter(|word| word != WORD);
    let Some(wish) = Wish::from_arguments(words) else {
        say(USAGE);
        return ExitCode::from(2);
    };
    let cells: Vec<Cell> = cells()
        .into_iter()
        .filter(|cell| wish.takes(cell))
        .collect();
    if wish.list {
        cells
            .iter()
            .for_each(|cell| say(&format!("{}\n", cell.name)));
        return ExitCode::SUCCESS;
    }
    let watch = Stopwatch::start();
    let outcomes = run_all(world, &cells, &wish);
    let mut verdicts: BTreeMap<&str, usize> = BTreeMap::new();
    say("\n");
    for (cell, outcomes) in cells.iter().zip(&outcomes) {
        say(&format!("{}\n", row(cell, outcomes)));
        *verdicts.entry(verdict(cell, outcomes).word()).or_default() += 1;
    }
    let counts: Vec<String> = verdicts
        .iter()
        .map(|(word, count)| format!("{count} {word}"))
        .collect();
    let seconds = watch.elapsed().as_secs();
    say(&format!(
        "\n{} cells, {} runs each: {} ({seconds} s)\n",
        cells.len(),
        wish.runs,
        counts.join(", ")
    ));
    if let Some(file) = &wish.json {
        let rows = cells
            .iter()
            .zip(&outcomes)
            .map(|(cell, outcomes)| object(cell, outcomes));
        let report =
            json!({"cells": rows.collect::<Vec<_>>(), "runs": wish.runs, "jobs": wish.jobs});
        if let Err(error) = std::fs::write(file, format!("{report:#}\n")) {
            say(&format!("error: {file}: {error}\n"));
            return ExitCode::FAILURE;
        }
    }
    let ok = verdicts.keys().all(|word| *word == Verdict::Ok.word());
    if ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// All runs of all cells; those that need the machine alone after the others.
fn run_all(world: &World, cells: &[Cell], wish: &Wish) -> Vec<Vec<Outcome>> {
    let outcomes: Vec<Mutex<Vec<Outcome>>> = cells.iter().map(|_| Mutex::default()).collect();
    let (mut crowd, mut alone) = (Vec::new(), Vec::new());
    for (at, cell) in cells.iter().enumerate() {
        let queue = if cell.company == Company::Alone {
            &mut alone
        } else {
            &mut crowd
        };
        queue.extend((0..wish.runs).map(|_| at));
    }
    let total = crowd.len() + alone.len();
    let (begun, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    for (queue, jobs) in [(crowd, wish.jobs), (alone, 1)] {
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some(&at) = queue.get(next.fetch_add(1, Ordering::Relaxed)) {
                let (cell, watch) = (&cells[at], Stopwatch::start());
                let started = begun.fetch_add(1, Ordering::Relaxed) + 1;
                let file = wish.logs.as_ref().map(|directory| {
                    let name = cell.name.replace([' ', ',', '%'], "-");
                    format!("{directory}/{name}.{started}")
                });
                scene::LOGS.set(file);
                let outcome = cell.run(world);
                let number = done.fetch_add(1, Ordering::Relaxed) + 1;
                let verdict = outcome.verdict(&cell.target).word();
                let (name, seconds) = (&cell.name, watch.elapsed().as_secs());
                say(&format!(
                    "[{number}/{total}] {name}: {verdict}; {} ({seconds} s)\n",
                    line(&outcome)
                ));
                outcomes[at].lock().unwrap().push(outcome);
            }
        };
        thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(work);
            }
        });
    }
    outcomes
        .into_iter()
        .map(|runs| runs.into_inner().unwrap())
        .collect()
}

/// One run in a line.
fn line(outcome: &Outcome) -> String {
    let figures = outcome.figures.iter().map(|figure| {
        let value = figure
            .value
            .map_or_else(|| "never".to_owned(), |value| number(value, figure.unit));
        format!("{} {value}", figure.name)
    });
    let end = outcome.end.iter().map(|end| format!("by {end}"));
    let note = Some(&outcome.note).filter(|note| !note.is_empty()).cloned();
    figures
        .chain(end)
        .chain(note)
        .collect::<Vec<_>>()
        .join(", ")
}

/// One cell in a line of the table: of each figure median and 95th percentile, and how often it was there.
fn row(cell: &Cell, outcomes: &[Outcome]) -> String {
    let mut text = format!("{:34}{:13}", cell.name, verdict(cell, outcomes).word());
    for (name, unit, wanted, values) in figures(outcomes) {
        let spread = match (percentile(&values, 50), percentile(&values, 95)) {
            (Some(median), _) if outcomes.len() == 1 => number(median, unit),
            (Some(median), Some(high)) => {
                format!("p50 {} p95 {}", number(median, unit), number(high, unit))
            }
            (None, _) | (_, None) => "never".to_owned(),
        };
        let wanted = if wanted.is_empty() {
            String::new()
        } else {
            format!(" ({wanted})")
        };
        let there = if values.len() == outcomes.len() || values.is_empty() {
            String::new()
        } else {
            format!(" in {} of {}", values.len(), outcomes.len())
        };
        text += &format!("{:34}", format!("{name} {spread}{wanted}{there}"));
    }
    let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
    for end in outcomes.iter().filter_map(|outcome| outcome.end.as_deref()) {
        *ends.entry(end).or_default() += 1;
    }
    let ends: Vec<String> = ends
        .iter()
        .map(|(end, count)| {
            if outcomes.len() == 1 {
                (*end).to_owned()
            } else {
                format!("{end} {count}x")
            }
        })
        .collect();
    text += &ends.join(", ");
    let notes: Vec<&str> = outcomes
        .iter()
        .map(|outcome| outcome.note.as_str())
        .collect();
    match notes.iter().find(|note| !note.is_empty()) {
        Some(note) => format!("{text}  {note}"),
        None => text,
    }
}

/// Each figure of the cell: name, unit, what is wanted, and the values of the runs in which it came.
fn figures(outcomes: &[Outcome]) -> Vec<(&'static str, &'static str, String, Vec<f64>)> {
    let mut figures: Vec<(&str, &str, String, Vec<f64>)> = Vec::new();
    for figure in outcomes.iter().flat_map(|outcome| &outcome.figures) {
        match figures.iter_mut().find(|(name, ..)| *name == figure.name) {
            Some((.., values)) => values.extend(figure.value),
            None => figures.push((
                figure.name,
                figure.unit,
                figure.wanted(),
                Vec::from_iter(figure.value),
            )),
        }
    }
    figures
}

/// What holds for 95 of 100 runs.
fn verdict(cell: &Cell, outcomes: &[Outcome]) -> Verdict {
    let mut verdicts: Vec<Verdict> = outcomes
        .iter()
        .map(|outcome| outcome.verdict(&cell.target))
        .collect();
    verdicts.sort();
    let rank = (verdicts.len() * 95).div_ceil(100);
    verdicts
        .get(rank.max(1) - 1)
        .copied()
        .unwrap_or(Verdict::Broken)
}

fn object(cell: &Cell, outcomes: &[Outcome]) -> Value {
    let figures = figures(outcomes)
        .into_iter()
        .map(|(name, unit, wanted, values)| {
            json!({
                "name": name,
                "unit": unit,
                "wanted": wanted,
                "p50": percentile(&values, 50),
                "p95": percentile(&values, 95),
                "there": values.len(),
            })
        });
    json!({
        "cell": cell.name,
        "wanted_path": format!("{:?}", cell.target.path).to_lowercase(),
        "verdict": verdict(cell, outcomes).word(),
        "figures": figures.collect::<Vec<_>>(),
        "runs": outcomes.iter().map(|outcome| outcome.json(&cell.target)).collect::<Vec<_>>(),
    })
}

fn number(value: f64, unit: &str) -> String {
    if value < 10.0 && value.fract() != 0.0 {
        format!("{value:.2} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}
