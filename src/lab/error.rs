//! Why the laboratory cannot be built, in sentences for people.

use std::io;

use nix::errno::Errno;

/// Why the laboratory cannot be built or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system forbids namespaces to this user.
    #[error("this system does not let ordinary users make network namespaces")]
    Forbidden {
        /// The command line as it was typed, for `sudo`.
        typed: String,
        /// The command that lifts the setting which forbids it, when it was found.
        cure: Option<&'static str>,
    },
    /// Root without the right to make namespaces: a container.
    #[error(
        "this root may not make network namespaces: it lives in a container without that right"
    )]
    Container,
    /// There is no `/dev/net/tun`.
    #[error("/dev/net/tun is missing")]
    TunMissing,
    /// `/dev/net/tun` is there but does not open.
    #[error("/dev/net/tun cannot be opened: {0}")]
    TunClosed(#[source] io::Error),
    /// The kernel has no nf_tables, or not the parts that a NAT needs.
    #[error("this kernel has no nf_tables with NAT ({0})")]
    NatMissing(Errno),
    /// The kernel refuses for want of a right.
    #[error("not permitted to {0}")]
    Denied(String),
    /// Something else failed.
    #[error("Failed to {act}: {source}")]
    System {
        /// What was tried: verb and object.
        act: String,
        /// What the system said.
        source: io::Error,
    },
    /// A netlink request failed for another reason than an error number.
    #[error("Failed to {act}: {text}")]
    Netlink {
        /// What was tried: verb and object.
        act: String,
        /// What the library said.
        text: String,
    },
    /// An address in a plan is none.
    #[error("'{0}' is no address here; an interface wants one like 192.168.1.1/24")]
    Address(String),
    /// A plan for a router lacks a side.
    #[error("the router {0} needs both a wan and a lan")]
    HalfRouter(String),
    /// The thread that keeps a namespace has ended.
    #[error("the namespace of {0} is gone")]
    Gone(String),
    /// A program ran longer than it was given.
    #[error("{program} did not end within {seconds} s")]
    Late {
        /// The command line.
        program: String,
        /// The time it had.
        seconds: u64,
    },
}

impl Error {
    /// What to type or do about it; at most two lines.
    #[must_use]
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::Forbidden { typed, cure } => {
                let mut hints = vec![format!("sudo {typed}")];
                hints.extend(cure.map(|cure| format!("or: {cure}")));
                hints
            }
            Self::Container => vec![
                "start the container with --privileged, or with --cap-add SYS_ADMIN --cap-add NET_ADMIN \
                 --device /dev/net/tun"
                    .to_owned(),
            ],
            Self::TunMissing => vec![
                "sudo modprobe tun".to_owned(),
                "in a container: start it with --device /dev/net/tun".to_owned(),
            ],
            Self::TunClosed(_) => vec!["sudo chmod 0666 /dev/net/tun".to_owned()],
            Self::NatMissing(_) => vec!["sudo modprobe -a nft_chain_nat nft_masq nft_ct".to_owned()],
            Self::Denied(_)
            | Self::System { .. }
            | Self::Netlink { .. }
            | Self::Address(_)
            | Self::HalfRouter(_)
            | Self::Gone(_)
            | Self::Late { .. } => Vec::new(),
        }
    }

    /// An error number, with what was tried.
    pub(crate) fn errno(act: impl Into<String>, errno: Errno) -> Self {
        Self::system(act, errno.into())
    }

    /// An error of the system, with what was tried.
    pub(crate) fn system(act: impl Into<String>, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::PermissionDenied {
            return Self::Denied(act.into());
        }
        Self::System {
            act: act.into(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forbidden_namespace_names_sudo_and_the_setting() {
        let error = Error::Forbidden {
            typed: "meshnode demo".to_owned(),
            cure: Some("sudo sysctl -w kernel.unprivileged_userns_clone=1"),
        };
        assert_eq!(
            error.hints(),
            [
                "sudo meshnode demo",
                "or: sudo sysctl -w kernel.unprivileged_userns_clone=1"
            ]
        );
    }

    #[test]
    fn a_refusal_is_told_apart_from_a_failure() {
        assert!(matches!(
            Error::errno("make a bridge", Errno::EPERM),
            Error::Denied(_)
        ));
        assert!(matches!(
            Error::errno("make a bridge", Errno::ENOSPC),
            Error::System { .. }
        ));
    }
}
