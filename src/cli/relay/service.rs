//! `meshnode relay service`: the relay as a unit of systemd.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use nix::unistd::Uid;

use crate::failure::{Exit, Failure};
use crate::output::{self, Style};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    act: Act,
}

#[derive(Clone, Copy, Debug, clap::Subcommand)]
enum Act {
    /// Start the relay now, and at every start
    Install,
    /// Stop it and remove the unit; key and settings stay
    Uninstall,
}

/// Installs or removes the unit.
pub(crate) fn run(args: &Args, style: Style) -> Result<Exit, Failure> {
    if !Uid::effective().is_root() {
        return Err(Failure::new(
            Exit::Denied,
            "rights",
            "a service needs administrator rights",
        )
        .hint("type it again with sudo in front"));
    }
    if !Path::new("/run/systemd/system").is_dir() {
        let text = "systemd does not run on this machine";
        return Err(Failure::new(Exit::Refused, "no_systemd", text).hint("meshnode relay run"));
    }
    match args.act {
        Act::Install => install(style),
        Act::Uninstall => uninstall(style),
    }
}

fn install(style: Style) -> Result<Exit, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::world("cannot find this program", &error))?;
    let unit = unit(&program.to_string_lossy())?;
    fs::write(UNIT, unit)
        .map_err(|error| Failure::world(&format!("cannot write {UNIT}"), &error))?;
    systemctl(&["daemon-reload"])?;
    systemctl(&["enable", "--now", NAME])?;
    output::talk(
        style,
        &format!(
            "The relay runs, also after a restart ({UNIT}).\nHow it does:  sudo meshnode relay status\n"
        ),
    );
    Ok(Exit::Done)
}

fn uninstall(style: Style) -> Result<Exit, Failure> {
    if !Path::new(UNIT).exists() {
        output::talk(style, "The relay is no service of this machine.\n");
        return Ok(Exit::Done);
    }
    systemctl(&["disable", "--now", NAME])?;
    match fs::remove_file(UNIT) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(Failure::world(&format!("cannot remove {UNIT}"), &error));
        }
        Ok(()) | Err(_) => {}
    }
    systemctl(&["daemon-reload"])?;
    output::talk(
        style,
        "The relay is stopped and starts no more; its key and settings stay.\n",
    );
    Ok(Exit::Done)
}

fn systemctl(words: &[&str]) -> Result<(), Failure> {
    let failed = |cause: &dyn std::fmt::Display| {
        Failure::world(&format!("systemctl {} failed", words.join(" ")), cause)
    };
    let ended = Command::new("systemctl").args(words).output();
    let ended = ended.map_err(|error| failed(&error))?;
    if ended.status.success() {
        return Ok(());
    }
    Err(failed(&output::clean(&String::from_utf8_lossy(
        &ended.stderr,
    ))))
}

/// The unit's text: a user of its own, one directory, and no right but that to a low port.
///
/// # Errors
/// When the program lies where a unit cannot name it.
fn unit(program: &str) -> Result<String, Failure> {
    let is_plain = |symbol: char| symbol.is_ascii_alphanumeric() || "/._-+".contains(symbol);
    if !program.starts_with('/') || !program.chars().all(is_plain) {
        let text = format!("a service cannot name {}", output::clean(program));
        return Err(Failure::new(Exit::Refused, "program_path", text)
            .hint("put the program into /usr/local/bin"));
    }
    Ok(format!(
        "[Unit]
Description=meshnode relay: carries sealed packets for others
Wants=network-online.target
After=network-online.target

[Service]
ExecStart={program} relay run --state-dir /var/lib/meshnode-relay
Restart=always
RestartSec=2
DynamicUser=yes
StateDirectory=meshnode-relay
StateDirectoryMode=0700
UMask=0077
AmbientCapabilities=CAP_NET_BIND_SERVICE
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
ProtectProc=invisible
PrivateTmp=yes
PrivateDevices=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_NETLINK AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
LimitNOFILE=65536
MemoryMax=1G
TasksMax=64

[Install]
WantedBy=multi-user.target
"
    ))
}

const NAME: &str = "meshnode-relay.service";
const UNIT: &str = "/etc/systemd/system/meshnode-relay.service";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_names_the_program_and_leaves_no_right_but_the_low_port() {
        let unit = unit("/usr/local/bin/meshnode").unwrap();
        assert!(unit.contains("\nExecStart=/usr/local/bin/meshnode relay run --state-dir "));
        assert!(unit.contains("\nCapabilityBoundingSet=CAP_NET_BIND_SERVICE\n"));
        for line in unit.lines().filter(|line| !line.is_empty()) {
            assert!(line.starts_with('[') || line.contains('='), "{line}");
        }
    }

    #[test]
    fn a_path_that_a_unit_would_read_otherwise_is_refused() {
        for program in [
            "meshnode",
            "/tmp/a b/meshnode",
            "/tmp/%h/meshnode",
            "/a\n/meshnode",
        ] {
            assert!(unit(program).is_err(), "{program}");
        }
    }
}
