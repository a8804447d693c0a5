//! The command line: verbs and flags, and what each does with the daemon.
//!
//! One verb a file; the doc comment of its arguments is its help. Every verb returns an exit code or a [`Failure`],
//! and only [`run`] turns that into words.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand};

use crate::config::environment;
use crate::config::place::Wish;
use crate::failure::{Exit, Failure};
use crate::output::{self, ColourWhen, Style};

use self::session::Session;

mod act;
mod admin;
mod block;
mod code_error;
mod completions;
mod daemon;
mod demo;
mod down;
mod export;
mod import;
mod init;
mod interrupt;
mod invite;
mod ip;
mod join;
mod launch;
mod leave;
mod log;
mod man;
mod netcheck;
mod network;
mod node;
mod pending;
mod phrase;
mod ping;
mod policy;
mod recovery;
mod relay;
mod rename;
mod revoke;
mod rotate;
mod session;
mod set;
mod status;
mod up;
mod usage;
mod verify;
mod wait;
mod whois;

#[derive(Debug, Parser)]
#[command(
    name = "meshnode",
    version,
    about = "A private network between your own machines, without a server in the middle",
    override_help = usage::HELP,
    disable_help_subcommand = true,
    disable_help_flag = true,
    max_term_width = 100,
)]
pub(crate) struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Everywhere")]
struct Globals {
    /// Which network of this machine: local name, name, or begin of its id
    #[arg(
        short = 'n',
        long,
        global = true,
        value_name = "NAME",
        env = "MESHNODE_NETWORK"
    )]
    #[arg(hide_env = true)]
    network: Option<String>,
    /// Use exactly this state directory
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "MESHNODE_STATE_DIR",
        hide_env = true
    )]
    state_dir: Option<PathBuf>,
    /// Use exactly this control socket
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "MESHNODE_SOCKET",
        hide_env = true
    )]
    socket: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long, global = true)]
    json: bool,
    /// Print plain lines: no table, QR code or redraw
    #[arg(long, global = true)]
    plain: bool,
    /// Colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: ColourWhen,
    /// Print data and errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Print reasons, too; twice: the daemon's log lines
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Explain a verb
    #[arg(short, long, global = true, action = clap::ArgAction::HelpShort)]
    help: Option<bool>,
    /// Answer every question with yes
    #[arg(long, global = true)]
    yes: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Init(init::Args),
    Invite(invite::Args),
    Join(join::Args),
    #[command(visible_alias = "peers")]
    Status(status::Args),
    Ping(ping::Args),
    Netcheck(netcheck::Args),
    Up(up::Args),
    Down(down::Args),
    #[command(visible_alias = "whoami")]
    Whois(whois::Args),
    Ip(ip::Args),
    Wait(wait::Args),
    Block(block::Args),
    Unblock(block::Args),
    Set(set::SetArgs),
    Get(set::GetArgs),
    Unset(set::UnsetArgs),
    #[command(visible_alias = "net")]
    Network(network::Args),
    Leave(leave::Args),
    #[command(visible_alias = "history")]
    Log(log::Args),
    Verify(verify::Args),
    Export(export::Args),
    Import(import::Args),
    Pending(pending::PendingArgs),
    Approve(pending::ApproveArgs),
    Deny(pending::DenyArgs),
    Revoke(revoke::Args),
    Rename(rename::RenameArgs),
    Tag(rename::TagArgs),
    Admin(admin::Args),
    #[command(visible_alias = "acl")]
    Policy(policy::Args),
    Recovery(recovery::Args),
    Rotate(rotate::Args),
    Relay(relay::Args),
    Daemon(daemon::Args),
    Demo(demo::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// Runs the command line with these arguments, the program's own name first; gives the exit code.
pub(crate) fn run(args: Vec<OsString>) -> u8 {
    let words: Vec<String> = args
        .iter()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let mut style = Style {
        json: words.iter().any(|word| word == "--json"),
        ..Style::default()
    };
    let ended = match Cli::try_parse_from(&args) {
        Ok(cli) => {
            style = cli.globals.style();
            warn_unknown(style);
            dispatch(cli)
        }
        Err(error) => usage::answer(&error, &words),
    };
    match ended {
        Ok(exit) => exit.code(),
        Err(failure) => {
            output::failure(style, &failure);
            failure.exit.code()
        }
    }
}

/// The whole command line as clap knows it.
pub(crate) fn command() -> clap::Command {
    Cli::command()
}

fn dispatch(cli: Cli) -> Result<Exit, Failure> {
    let session = Session::new(cli.globals);
    match cli.verb {
        None => status::front_page(&session),
        Some(Verb::Init(args)) => init::run(args, &session),
        Some(Verb::Invite(args)) => invite::run(args, &session),
        Some(Verb::Join(args)) => join::run(args, &session),
        Some(Verb::Status(args)) => status::run(&args, &session),
        Some(Verb::Ping(args)) => ping::run(&args, &session),
        Some(Verb::Up(args)) => up::run(&args, &session),
        Some(Verb::Down(args)) => down::run(&args, &session),
        Some(Verb::Netcheck(args)) => netcheck::run(&args, &session),
        Some(Verb::Whois(args)) => whois::run(&args, &session),
        Some(Verb::Ip(args)) => ip::run(&args, &session),
        Some(Verb::Wait(args)) => wait::run(&args, &session),
        Some(Verb::Block(args)) => block::run(&args, true, &session),
        Some(Verb::Unblock(args)) => block::run(&args, false, &session),
        Some(Verb::Set(args)) => set::run_set(&args, &session),
        Some(Verb::Get(args)) => set::run_get(&args, &session),
        Some(Verb::Unset(args)) => set::run_unset(&args, &session),
        Some(Verb::Network(args)) => network::run(&args, &session),
        Some(Verb::Leave(args)) => leave::run(&args, &session),
        Some(Verb::Log(args)) => log::run(&args, &session),
        Some(Verb::Verify(args)) => verify::run(&args, &session),
        Some(Verb::Export(args)) => export::run(&args, &session),
        Some(Verb::Import(args)) => import::run(&args, &session),
        Some(Verb::Pending(_)) => pending::list(&session),
        Some(Verb::Approve(args)) => pending::approve(args, &session),
        Some(Verb::Deny(args)) => pending::deny(args, &session),
        Some(Verb::Revoke(args)) => revoke::run(args, &session),
        Some(Verb::Rename(args)) => rename::rename(args, &session),
        Some(Verb::Tag(args)) => rename::tag(args, &session),
        Some(Verb::Admin(args)) => admin::run(args, &session),
        Some(Verb::Policy(args)) => policy::run(args, &session),
        Some(Verb::Recovery(args)) => recovery::run(args, &session),
        Some(Verb::Rotate(args)) => rotate::run(args, &session),
        Some(Verb::Relay(args)) => relay::run(args, &session),
        Some(Verb::Daemon(args)) => daemon::run(args, &session),
        Some(Verb::Demo(args)) => demo::run(&args),
        Some(Verb::Completions(args)) => completions::run(&args),
        Some(Verb::Man(args)) => man::run(&args),
    }
}

impl Globals {
    fn style(&self) -> Style {
        let asked = environment::text("MESHNODE_PLAIN").is_some_and(|text| text != "0");
        let dumb = environment::text("TERM").is_some_and(|term| term == "dumb");
        Style {
            json: self.json,
            plain: self.plain || asked || dumb,
            quiet: self.quiet,
            reasons: self.verbose > 0,
            colour: self.color.decide(self.json),
        }
    }

    fn wish(&self) -> Wish {
        Wish {
            network: self.network.clone(),
            state_dir: self.state_dir.clone(),
            socket: self.socket.clone(),
        }
    }
}

fn warn_unknown(style: Style) {
    for name in environment::unknown() {
        let name = output::clean(&name);
        output::talk(
            style,
            &format!("warning: {name} means nothing to meshnode\n"),
        );
    }
}
