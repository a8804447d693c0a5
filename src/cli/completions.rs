//! `meshnode completions`: what a shell needs to complete verbs and flags.

use clap_complete::Shell;

use crate::failure::{Exit, Failure};
use crate::output;

/// Print the completions for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  meshnode completions bash > /etc/bash_completion.d/meshnode
  meshnode completions fish > ~/.config/fish/completions/meshnode.fish")]
pub(crate) struct Args {
    /// Which shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Prints them.
pub(crate) fn run(args: &Args) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "meshnode", &mut script);
    output::data(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
