//! `meshnode man`: the manual pages, made of the same words as `--help`.

use std::fs;
use std::path::{Path, PathBuf};

use clap_mangen::Man;

use crate::failure::{Exit, Failure};
use crate::output;

/// Print a manual page
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  meshnode man invite | man -l -
  meshnode man --out /usr/local/share/man/man1")]
pub(crate) struct Args {
    /// The page of a verb; that of meshnode when not given
    #[arg(value_name = "VERB", conflicts_with = "out")]
    verb: Option<String>,
    /// Write all pages into a directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Prints or writes pages.
pub(crate) fn run(args: &Args) -> Result<Exit, Failure> {
    if let Some(dir) = &args.out {
        return write_all(dir);
    }
    let page = match &args.verb {
        None => page(super::command())?,
        Some(verb) => match verb_command(verb) {
            Some(command) => page(command)?,
            None => {
                let text = format!("meshnode has no verb {}", output::clean(verb));
                return Err(Failure::usage(text).hint("meshnode --help lists them"));
            }
        },
    };
    output::data(&page)?;
    Ok(Exit::Done)
}

fn verb_command(verb: &str) -> Option<clap::Command> {
    let mut whole = super::command();
    whole.build();
    whole.find_subcommand(verb).cloned()
}

fn page(command: clap::Command) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let made = Man::new(command).render(&mut bytes);
    made.map_err(|error| Failure::world("cannot make the page", &error))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn write_all(dir: &Path) -> Result<Exit, Failure> {
    let failed = |cause: &dyn std::fmt::Display| {
        Failure::world(&format!("cannot write to {}", dir.display()), cause)
    };
    fs::create_dir_all(dir).map_err(|e| failed(&e))?;
    let verbs: Vec<String> = super::command()
        .get_subcommands()
        .map(|verb| verb.get_name().to_owned())
        .collect();
    fs::write(dir.join("meshnode.1"), page(super::command())?).map_err(|e| failed(&e))?;
    for command in verbs.iter().filter_map(|verb| verb_command(verb)) {
        let path = dir.join(format!("meshnode-{}.1", command.get_name()));
        fs::write(path, page(command)?).map_err(|e| failed(&e))?;
    }
    Ok(Exit::Done)
}
