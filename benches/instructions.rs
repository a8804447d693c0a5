//! How many instructions each part of a packet's way takes, counted by valgrind's callgrind: the same number on a busy
//! machine as on a quiet one.
//!
//! The bench runs itself below callgrind. A call of `getppid`, which nothing else here makes, stands before and behind
//! the steps that count: there callgrind writes down what it counted since the last one. What comes before
//! is not in it.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "its table is for a person"
)]

#[path = "instructions/counts.rs"]
mod counts;

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail, ensure};
use meshnode::tunnel::measured::{Work, works};

use self::counts::Counts;

const HELP: &str = "\
Counts the instructions per packet of each part of a packet's way; needs valgrind.

Usage: cargo bench --bench instructions -- [options]

  --check      compare with benches/instructions.txt; exit code 1 when something takes 10 % more than it says
  --bless      write benches/instructions.txt
  --json FILE  write the counts there too
";

/// The word by which the bench calls itself.
const INSIDE: &str = "--inside";

/// Packets that are counted together, at least.
const PACKETS: u32 = 4000;

/// What the person asked for.
#[derive(Default)]
struct Wish {
    check: bool,
    bless: bool,
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == INSIDE) {
        take();
        return ExitCode::SUCCESS;
    }
    if words.iter().any(|word| word == "--help" || word == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let done = Wish::parse(words).and_then(|wish| run(&wish));
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}

impl Wish {
    fn parse(words: Vec<String>) -> anyhow::Result<Self> {
        let mut wish = Self::default();
        // Cargo says this to every bench.
        let mut words = words.into_iter().filter(|word| word != "--bench");
        while let Some(word) = words.next() {
            match word.as_str() {
                "--check" => wish.check = true,
                "--bless" => wish.bless = true,
                "--json" => wish.json = Some(words.next().context("--json needs a file")?.into()),
                _ => bail!("{word} is unknown; --help tells what there is"),
            }
        }
        Ok(wish)
    }
}

/// How many steps of a work are counted.
fn steps(work: &Work) -> u32 {
    work.steps_max.unwrap_or(PACKETS.div_ceil(work.packets))
}

/// Below callgrind: all works, each between two marks.
fn take() {
    for work in works() {
        let mut step = work.prepare();
        mark();
        for _ in 0..steps(&work) {
            step();
        }
        mark();
    }
}

fn mark() {
    let _asked_for_its_sake = parent_id();
}

fn run(wish: &Wish) -> anyhow::Result<ExitCode> {
    let works = works();
    let counts = Counts(count(&works)?);
    print!("{}", counts.table(&works));
    if let Some(file) = &wish.json {
        let named: BTreeMap<_, _> = counts.0.iter().cloned().collect();
        let json = serde_json::to_string_pretty(&named)?;
        std::fs::write(file, json + "\n").with_context(|| file.display().to_string())?;
    }
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.txt");
    if wish.bless {
        let text = counts.text();
        std::fs::write(&recorded, text).with_context(|| recorded.display().to_string())?;
    }
    if !wish.check {
        return Ok(ExitCode::SUCCESS);
    }
    let text = std::fs::read_to_string(&recorded);
    let text = text.with_context(|| recorded.display().to_string())?;
    let faults = counts.compare(&Counts::parse(&text)?);
    for fault in &faults {
        println!("{fault}");
    }
    if faults.is_empty() {
        println!("nothing takes more than benches/instructions.txt says");
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}

/// Instructions per packet of each work.
fn count(works: &[Work]) -> anyhow::Result<Vec<(String, f64)>> {
    let scratch = tempfile::tempdir()?;
    let out = scratch.path().join("out");
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--dump-before=getppid", "--quiet"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe()?)
        .arg(INSIDE)
        .output();
    let run = match run {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("valgrind is not on PATH, and it does the counting: install the package valgrind")
        }
        run => run?,
    };
    let said = String::from_utf8_lossy(&run.stderr);
    ensure!(run.status.success(), "valgrind: {}\n{said}", run.status);
    let more = out.with_extension((2 * works.len() + 1).to_string());
    ensure!(!more.exists(), "more marks than two for each work");
    let each = works.iter().enumerate().map(|(number, work)| {
        // The first mark ends what comes before.
        let dump = out.with_extension((2 * number + 2).to_string());
        let text = std::fs::read_to_string(&dump);
        let text = text.with_context(|| dump.display().to_string())?;
        let total = text.lines().find_map(|line| line.strip_prefix("totals:"));
        let total = total.context("callgrind writes no totals")?.trim();
        let total: u32 = total.parse().with_context(|| total.to_owned())?;
        let packets = steps(work) * work.packets;
        Ok((work.name.to_owned(), f64::from(total) / f64::from(packets)))
    });
    each.collect()
}
