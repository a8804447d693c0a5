//! `meshnode init`: a new network on this machine.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use meshnode_protocol::limits::ROOT_KEYS_MAX;
use meshnode_protocol::name::{NetworkName, NodeName};

use super::launch;
use super::session::{Session, unexpected};
use crate::clock::Clock;
use crate::config::place::Place;
use crate::config::state_dir;
use crate::control::{InitRequest, Inited, Request, Response, SecretText};
use crate::failure::{Exit, Failure};
use crate::output::{self, acts, json};

mod heritage;

/// Make a network; this machine is its first node and admin
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sudo meshnode init --name homelab
  sudo meshnode init --name homelab --node-name nas --recovery-file /root/homelab.phrase
  sudo meshnode init --from old.mesh            after a leaked phrase: new keys, the old rules
  sudo meshnode init -n work --name acme        a second network on this machine")]
pub(crate) struct Args {
    /// Name of the network; the host name with -net when not given
    #[arg(long, value_name = "NAME", value_parser = NetworkName::parse)]
    name: Option<NetworkName>,
    /// Name of this node; the host name when not given
    #[arg(long, value_name = "NAME", env = "MESHNODE_NAME", hide_env = true)]
    #[arg(value_parser = NodeName::parse)]
    node_name: Option<NodeName>,
    /// IPv4 addresses of the network; 100.64.0.0/10 unless that is taken here
    #[arg(long, value_name = "CIDR", value_parser = parse_range)]
    ipv4_range: Option<String>,
    /// Write the recovery phrase into a new file instead of the screen
    #[arg(long, value_name = "PATH")]
    recovery_file: Option<PathBuf>,
    /// Several phrases, K of which must come together, like 2-of-3
    #[arg(long, value_name = "K-of-N", default_value = "1-of-1", value_parser = parse_recovery)]
    recovery: (u8, u8),
    /// Take the policy and the names of this export of an old network; all keys are new
    #[arg(long, value_name = "FILE")]
    from: Option<String>,
    /// Make nothing, say what would be made
    #[arg(long)]
    dry_run: bool,
}

/// Makes the network.
pub(crate) fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    let clock = Clock::new();
    let started_ms = clock.now().uptime_ms();
    let place = session.new_place()?;
    let host = host_name();
    let old = args.from.as_deref().map(heritage::open).transpose()?;
    let name = args
        .name
        .or_else(|| old.as_ref().map(|old| old.network.clone()));
    let range = old.as_ref().map(|old| old.ipv4_range);
    let range = range.map(|range| format!("{}/{}", range.base, range.prefix));
    let request = InitRequest {
        name: Some(name.unwrap_or_else(|| network_name(&host))),
        node_name: args
            .node_name
            .unwrap_or_else(|| NodeName::from_text(&host, "node")),
        ipv4_range: args.ipv4_range.or(range),
        recovery: args.recovery,
        keep_phrases: args.recovery_file.is_none(),
    };
    if args.dry_run {
        return dry_run(&request, &place, session);
    }
    let request = Request::Init(request);
    let file = args
        .recovery_file
        .as_deref()
        .map(PhraseFile::create)
        .transpose()?;
    let made = match ask(&place, session, &request) {
        Ok(made) => made,
        Err(failure) => {
            if let Some(file) = file {
                file.remove();
            }
            return Err(failure);
        }
    };
    let took_ms = clock.now().uptime_ms().saturating_sub(started_ms);
    let in_file = file.map(|file| file.fill(&made)).transpose()?;
    if session.style.json {
        output::data(&json::inited(&made, in_file.is_some()))?;
    }
    let here = session.here(&place);
    let screen = acts::inited(&made, took_ms, &here, in_file.as_deref());
    if session.style.quiet && !session.style.json && in_file.is_none() {
        // The phrase is never asked for twice: quiet or not, it is shown.
        output::say(&screen);
    }
    output::talk(session.style, &screen);
    if let Some(old) = &old {
        heritage::settle(old, &place, session)?;
    }
    Ok(Exit::Done)
}

/// What would be made, without a daemon and without a trace.
fn dry_run(request: &InitRequest, place: &Place, session: &Session) -> Result<Exit, Failure> {
    if state_dir::holds_network(&place.state_dir) {
        let text = format!(
            "this machine is already in a network ({})",
            place.local_name
        );
        return Err(Failure::new(Exit::Refused, "other_network", text)
            .hint("for another network: meshnode init -n NAME"));
    }
    if session.style.json {
        output::data(&json::would_init(request))?;
    }
    output::talk(session.style, &acts::would_init(request));
    Ok(Exit::Done)
}

fn ask(place: &Place, session: &Session, request: &Request) -> Result<Box<Inited>, Failure> {
    let launched = launch::ensure(place, session)?;
    match session.client(place).and_then(|client| client.ask(request)) {
        Ok(Response::Inited(made)) => Ok(made),
        Ok(_) => Err(unexpected()),
        Err(failure) => {
            launch::undo(launched, place);
            Err(failure)
        }
    }
}

/// The file for the phrase: made before the network is, so that a full disk or a wrong path costs nothing.
#[derive(Debug)]
struct PhraseFile {
    path: PathBuf,
    file: File,
}

impl PhraseFile {
    fn create(path: &Path) -> Result<Self, Failure> {
        let mut open = OpenOptions::new();
        let file = open.write(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(|error| {
            Failure::world(&format!("cannot make {}", path.display()), &error)
                .hint("name a file that does not exist: nothing is overwritten")
        })?;
        let path = path.to_owned();
        Ok(Self { path, file })
    }

    /// Writes the phrase; a phrase that cannot be written is shown after all, since nothing else holds it.
    fn fill(mut self, made: &Inited) -> Result<String, Failure> {
        let phrases: Vec<&str> = made.phrases.iter().map(SecretText::reveal).collect();
        let phrase = phrases.join("\n");
        let written = writeln!(self.file, "{phrase}").and_then(|()| self.file.sync_all());
        let shown = self.path.display().to_string();
        written.map(|()| shown.clone()).map_err(|error| {
            output::say(&format!("The recovery phrase: {phrase}\n"));
            Failure::world(
                &format!("the network is made, but {shown} cannot be written"),
                &error,
            )
        })
    }

    fn remove(self) {
        // It is empty; what stays behind when this fails is an empty file.
        let _ = fs::remove_file(self.path);
    }
}

/// This machine's name without its domain.
pub(crate) fn host_name() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    let name = name.to_string_lossy();
    name.split('.').next().unwrap_or_default().to_owned()
}

fn network_name(host: &str) -> NetworkName {
    let front: String = NodeName::from_text(host, "home")
        .as_str()
        .chars()
        .take(28)
        .collect();
    NetworkName::from_text(&format!("{front}-net"), "home-net")
}

/// `K-of-N`, as (N, K).
fn parse_recovery(text: &str) -> Result<(u8, u8), String> {
    let parsed = text.split_once("-of-");
    let parsed = parsed.and_then(|(k, n)| Some((n.parse().ok()?, k.parse().ok()?)));
    match parsed {
        Some((n, k)) if k >= 1 && k <= n && usize::from(n) <= ROOT_KEYS_MAX => Ok((n, k)),
        Some(_) | None => Err(format!(
            "{} is not like 2-of-3, with at most {ROOT_KEYS_MAX}",
            text.escape_default()
        )),
    }
}

fn parse_range(text: &str) -> Result<String, String> {
    let wrong = || {
        format!(
            "{} is no IPv4 range like 10.77.0.0/16",
            text.escape_default()
        )
    };
    let (base, prefix) = text.split_once('/').ok_or_else(wrong)?;
    let base: std::net::Ipv4Addr = base.parse().map_err(|_| wrong())?;
    let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
    match meshnode_protocol::body::Ipv4Range::new(base, prefix) {
        Ok(range) => Ok(format!("{}/{}", range.base, range.prefix)),
        Err(_) => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_makes_a_network_name_that_fits() {
        assert_eq!(network_name("Alice's PC").as_str(), "alices-pc-net");
        let long = network_name(&"x".repeat(60));
        assert!(long.as_str().ends_with("-net") && long.as_str().len() <= 32);
    }

    #[test]
    fn a_phrase_file_is_private_and_never_overwrites() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("phrase");
        let file = PhraseFile::create(&path).unwrap();
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&path).unwrap());
        assert_eq!(mode & 0o777, 0o600);
        assert!(PhraseFile::create(&path).is_err());
        file.remove();
        assert!(!path.exists());
    }

    #[test]
    fn a_range_is_checked_before_anything_is_started() {
        assert_eq!(parse_range("10.77.0.0/16").as_deref(), Ok("10.77.0.0/16"));
        for text in ["10.77.0.0", "10.77.0.0/40", "x/8", "10.77.0.1/16"] {
            assert!(parse_range(text).is_err(), "{text}");
        }
    }
}
