//! Runs stories of whole networks in virtual time.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use simulations::report::Report;
use simulations::scenarios::{self, Scenario};
use simulations::trace::Trace;

/// Run the core of meshnode on many machines, in virtual time, from one seed
///
/// Everything that happens by chance follows from the seed: the same seed gives the same run, and the trace hash at
/// the end shows it. Without --scenario all stories run, one after another.
#[derive(Debug, Parser)]
#[command(name = "simulations", version)]
struct Args {
    /// From which everything follows; a fresh one is chosen and printed when left out
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// How many machines
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(4..=5000))]
    nodes: u16,

    /// Which story; see --list
    #[arg(long, value_name = "NAME", value_parser = parse_scenario)]
    scenario: Option<&'static Scenario>,

    /// Tell the stories' names and stop
    #[arg(long)]
    list: bool,

    /// Write one line an event: virtual microseconds, machine, what
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,

    /// One JSON object a story instead of tables
    #[arg(long)]
    json: bool,
}

fn parse_scenario(name: &str) -> Result<&'static Scenario, String> {
    scenarios::find(name).ok_or_else(|| {
        let names: Vec<_> = scenarios::ALL.iter().map(|s| s.name).collect();
        format!("there is no such story; there are {}", names.join(", "))
    })
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let _written = writeln!(io::stderr(), "error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Runs what was asked for; gives whether all invariants held.
fn run(args: &Args) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    if args.list {
        for scenario in &scenarios::ALL {
            writeln!(out, "{:<12} {}", scenario.name, scenario.about)?;
        }
        return Ok(true);
    }
    let seed = args.seed.unwrap_or_else(fresh_seed);
    let chosen: Vec<&Scenario> = match args.scenario {
        Some(scenario) => vec![scenario],
        None => scenarios::ALL.iter().collect(),
    };
    let mut all_held = true;
    for scenario in chosen {
        if !args.json {
            writeln!(io::stderr(), "{} from seed {seed} ...", scenario.name)?;
        }
        let trace = match &args.trace {
            Some(path) => Trace::to_file(File::create(path)?),
            None => Trace::default(),
        };
        let report = scenarios::run(scenario, seed, usize::from(args.nodes), trace);
        all_held &= report.broken.is_none();
        tell(&mut out, &report, args.json)?;
    }
    Ok(all_held)
}

fn tell(out: &mut impl Write, report: &Report, json: bool) -> io::Result<()> {
    if json {
        writeln!(out, "{}", report.json())?;
    } else {
        writeln!(out, "{}", report.table())?;
    }
    if let Some(broken) = &report.broken {
        let mut err = io::stderr();
        writeln!(err, "error: an invariant broke {broken}\n")?;
        writeln!(err, "hint: {}", report.replay())?;
    }
    out.flush()
}

/// A seed that differs from run to run: the standard library's own hash keys are random.
fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish() % 1_000_000
}
