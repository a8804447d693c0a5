//! This program beside other tunnels: the same two machines, the same measures, in turns.
//!
//! `cargo bench --bench peers` measures every product that is on PATH, three rounds, and prints the medians and their
//! ratios to the base (`wireguard-go` if it is there). Nothing leaves the laboratory's own network namespaces. On a
//! machine that does other work the figures mean little; the table says how busy it was.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench ends at the first thing that is not as told, and its table is for a person"
)]

#[path = "peers/measure.rs"]
mod measure;
#[path = "peers/pair.rs"]
mod pair;
#[path = "peers/picture.rs"]
mod picture;
#[path = "peers/product.rs"]
mod product;
#[path = "peers/table.rs"]
mod table;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use meshnode::lab::{Entry, World};

use self::measure::{Measure, Sample};
use self::pair::{Offloads, Pair};
use self::product::Product;
use self::table::Table;

const HELP: &str = "\
Measures this program beside other tunnels, in two namespaces of one machine.

Usage: cargo bench --bench peers -- [options] [PRODUCT..]

Products: bare meshnode wireguard-go boringtun-cli gotatun nebula easytier-core tincd
          (default: all whose programs are on PATH; bare is the cable without a tunnel)

  --rounds N       rounds, each product once in each (3)
  --seconds N      length of one TCP measure (5)
  --measures LIST  of tcp1,tcp1r,tcp4,small,flows,udp,ping,load (all)
  --offloads on|off  whether the cable takes packets that are cut later, as a network card would (on)
  --base PRODUCT   what ratios are of (wireguard-go, else the first)
  --svg FILE       draw the ratios
  --tsv FILE       every single figure: round, product, measure, value
";

/// What the person asked for.
struct Wish {
    rounds: u32,
    seconds: u32,
    measures: Vec<Measure>,
    offloads: Offloads,
    base: Option<Product>,
    products: Vec<Product>,
    svg: Option<PathBuf>,
    tsv: Option<PathBuf>,
}

fn main() -> ExitCode {
    let wish = match Wish::parse(std::env::args().skip(1)) {
        Ok(Some(wish)) => wish,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(reason) => {
            println!("error: {reason}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match World::enter() {
        Ok(Entry::Inside(world)) => run(&world, &wish),
        Ok(Entry::Over(code)) => ExitCode::from(code),
        Err(error) => {
            println!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Wish {
    /// Reads the words; `None` when help is wanted.
    fn parse(words: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut wish = Self {
            rounds: 3,
            seconds: 5,
            measures: Measure::ALL.to_vec(),
            offloads: Offloads::On,
            base: None,
            products: Vec::new(),
            svg: None,
            tsv: None,
        };
        // Cargo says this to every bench.
        let mut words = words.filter(|word| word != "--bench");
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--help" | "-h" => return Ok(None),
                "--rounds" => wish.rounds = number(&value()?)?,
                "--seconds" => wish.seconds = number(&value()?)?,
                "--measures" => {
                    let names = value()?;
                    let named = names.split(',').map(Measure::parse);
                    wish.measures = named.collect::<Result<_, _>>()?;
                }
                "--offloads" => wish.offloads = Offloads::parse(&value()?)?,
                "--base" => wish.base = Some(Product::parse(&value()?)?),
                "--svg" => wish.svg = Some(value()?.into()),
                "--tsv" => wish.tsv = Some(value()?.into()),
                product => wish.products.push(Product::parse(product)?),
            }
        }
        if wish.products.is_empty() {
            let there = Product::ALL.into_iter().filter(Product::is_there);
            wish.products = there.collect();
        }
        let missing = wish.products.iter().find(|product| !product.is_there());
        match missing {
            Some(product) => Err(format!("{product} is not on PATH")),
            None => Ok(Some(wish)),
        }
    }
}

fn number(word: &str) -> Result<u32, String> {
    let number = word.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("{word} is no number above 0"))
}

fn run(world: &World, wish: &Wish) -> ExitCode {
    let mut table = Table::default();
    for round in 1..=wish.rounds {
        for product in &wish.products {
            println!("round {round} of {}: {product}", wish.rounds);
            let pair = Pair::new(world, wish.offloads);
            let running = match product.start(&pair) {
                Ok(running) => running,
                Err(reason) => {
                    println!("  it does not start: {reason}");
                    continue;
                }
            };
            for measure in &wish.measures {
                let samples = measure.take(&pair, &running, wish.seconds);
                for Sample { what, value } in samples {
                    println!("  {:<22} {value:>12.3}", what.name());
                    table.add(round, *product, what, value);
                }
            }
        }
    }
    let first = wish.products.first().copied();
    let known = |product: &Product| wish.products.contains(product);
    let base = wish.base.or(Some(Product::WireguardGo)).filter(known);
    let Some(base) = base.or(first) else {
        return ExitCode::FAILURE;
    };
    print!("{}", table.text(base));
    if let Some(file) = &wish.tsv {
        fs::write(file, table.tsv()).unwrap();
    }
    if let Some(file) = &wish.svg {
        fs::write(file, picture::draw(&table, base)).unwrap();
    }
    ExitCode::SUCCESS
}
