//! Which network, which directories, which settings: flags and environment, parsed to types at the door.

use std::path::{Path, PathBuf};

use self::settings::Settings;

pub(crate) mod environment;
pub(crate) mod lock;
pub(crate) mod place;
pub(crate) mod relay;
pub(crate) mod settings;
pub(crate) mod state_dir;

/// Everything that the daemon is told at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DaemonConfig {
    /// Where keys and store are; exists, mode 0700.
    pub(crate) state_dir: PathBuf,
    /// Where to listen for the command line.
    pub(crate) socket: PathBuf,
    /// What this machine calls the network.
    pub(crate) local_name: String,
    /// What a person set for this network on this machine.
    pub(crate) settings: Settings,
    /// How log lines look.
    pub(crate) log_format: LogFormat,
    /// Which log lines are written: a `tracing` filter.
    pub(crate) log_filter: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The default name of a network's device: `mn-LOCALNAME`, at most 15 bytes, longer names shortened with a hash.
pub(crate) fn tun_name(local_name: &str) -> String {
    let plain = format!("mn-{local_name}");
    if plain.len() <= TUN_NAME_BYTES_MAX {
        return plain;
    }
    // FNV-1a: only to tell two long names of one machine apart.
    let hash = local_name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let front: String = local_name.chars().take(7).collect();
    format!("mn-{}-{:04x}", front.trim_end_matches('-'), hash & 0xffff)
}

/// Whether `path` fits into a socket's address.
pub(crate) fn socket_fits(path: &Path) -> bool {
    path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX
}

/// The kernel's `IFNAMSIZ` without its end.
pub(crate) const TUN_NAME_BYTES_MAX: usize = 15;
/// The kernel's `sun_path` without its end.
pub(crate) const SOCKET_PATH_BYTES_MAX: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_fit_the_kernel_and_long_ones_stay_apart() {
        assert_eq!(tun_name("main"), "mn-main");
        assert_eq!(tun_name("twelve-bytes"), "mn-twelve-bytes");
        let (one, other) = (tun_name("thirteen-byte"), tun_name("thirteen-bytes"));
        assert!(one.len() <= TUN_NAME_BYTES_MAX && other.len() <= TUN_NAME_BYTES_MAX);
        assert_ne!(one, other);
    }

    #[test]
    fn a_socket_path_has_at_most_107_bytes() {
        assert!(socket_fits(Path::new(&"x".repeat(107))));
        assert!(!socket_fits(Path::new(&"x".repeat(108))));
    }
}
