//! Runs stories of whole networks in virtual time.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use simulations::report::Report;
use simulations::scenarios::{self, Camera, Scenario};
use simulations::trace::Trace;
use simulations::{growth, picture};

/// Run the core of meshnode on many machines, in virtual time, from one seed
///
/// Everything that happens by chance follows from the seed: the same seed gives the same run, and the trace hash at
/// the end shows it. All the while, and once more at the end, invariants are checked: no engine has a peer that its
/// view does not admit, no two members share a name or an address, all that hear each other agree in time, and rest
/// is cheap. A broken one ends the story with exit code 1 and the command that replays it.
#[derive(Debug, Parser)]
#[command(name = "simulations", bin_name = "cargo sim --", version, after_help = AFTER)]
struct Args {
    /// Which story; all of them, one after another, when left out
    #[arg(long, value_name = "NAME", value_parser = parse_scenario)]
    scenario: Option<&'static Scenario>,

    /// How many machines; of bootstrap, members, of which twelve run
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u16).range(4..=20_000))]
    nodes: u16,

    /// From which everything follows; a fresh one is chosen and printed when left out
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Run one story at several sizes and print by which power of the size each figure grows
    #[arg(long, value_name = "N,N,..", value_delimiter = ',', requires = "scenario", conflicts_with_all = ["nodes", "svg", "json"], value_parser = clap::value_parser!(u16).range(4..=20_000))]
    growth: Vec<u16>,

    /// List the stories and stop
    #[arg(long)]
    list: bool,

    /// Draw who agrees and what is sent, over virtual time; with several stories FILE.svg becomes FILE-NAME.svg
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,

    /// Write one line an event: virtual microseconds, machine, what
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,

    /// One JSON object a story instead of tables
    #[arg(long)]
    json: bool,
}

const AFTER: &str = "\
Examples:
  cargo sim                                                  every story, small, from a fresh seed
  cargo sim --scenario partition --nodes 100 --seed 1        one story, as its figures are quoted
  cargo sim --scenario loss --svg loss.svg                   one story and a picture of it
  cargo sim --scenario bootstrap --growth 100,1000,10000     how its figures grow with the network

Exit codes: 0 all invariants held, 1 one broke, 2 a file could not be written or the command line is wrong";

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
    if let (Some(scenario), false) = (args.scenario, args.growth.is_empty()) {
        return grow(&mut out, scenario, seed, &args.growth);
    }
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
        let camera = if args.svg.is_some() {
            Camera::On
        } else {
            Camera::Off
        };
        let report = scenarios::run(scenario, seed, usize::from(args.nodes), trace, camera);
        if let Some(path) = &args.svg {
            let path = match args.scenario {
                Some(_) => path.clone(),
                None => beside(path, scenario.name),
            };
            std::fs::write(path, picture::svg(&report))?;
        }
        all_held &= report.broken.is_none();
        tell(&mut out, &report, args.json)?;
    }
    Ok(all_held)
}

/// Runs one story at several sizes.
fn grow(out: &mut impl Write, scenario: &Scenario, seed: u64, sizes: &[u16]) -> io::Result<bool> {
    let mut reports = Vec::new();
    for size in sizes {
        writeln!(
            io::stderr(),
            "{} of {size} from seed {seed} ...",
            scenario.name
        )?;
        let nodes = usize::from(*size);
        let report = scenarios::run(scenario, seed, nodes, Trace::default(), Camera::Off);
        if report.broken.is_some() {
            tell(out, &report, false)?;
            return Ok(false);
        }
        reports.push(report);
    }
    writeln!(out, "{} from seed {seed}, times in ms\n", scenario.name)?;
    write!(out, "{}", growth::table(&reports))?;
    Ok(true)
}

/// The file of one of several stories.
fn beside(path: &Path, story: &str) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{stem}-{story}.svg"))
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
