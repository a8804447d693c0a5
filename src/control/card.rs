//! The card of a node as the daemon tells it.

use meshnode_protocol::body::Level;
use meshnode_protocol::id::{NodeId, OpId};
use meshnode_protocol::io;
use meshnode_protocol::name::NodeName;
use meshnode_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Keys of a node, and who let it in. Everything else about it is in the status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CardReport {
    /// The node.
    pub(crate) id: NodeId,
    /// Its transport key, in hexadecimal digits.
    pub(crate) transport_key: Option<String>,
    /// Its tunnel key as a WireGuard key, in Base64: what `wg show` would print.
    pub(crate) wireguard_key: Option<String>,
    /// By whose word it is in.
    pub(crate) let_in: LetInReport,
}

/// A device that signed something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WhoReport {
    /// Its id.
    pub(crate) id: NodeId,
    /// Its name, while it is in.
    pub(crate) name: Option<NodeName>,
}

/// By whose word a node is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum LetInReport {
    /// By nobody's: it founded the network.
    Founder {
        /// When it says that was.
        said: Timestamp,
    },
    /// By an invite.
    Invite {
        /// Which.
        invite: OpId,
        /// Who made it; `None`: the root keys.
        issuer: Option<WhoReport>,
        /// For how many machines.
        uses: Option<u16>,
        /// To whom it was shown.
        witness: WhoReport,
        /// Who confirmed it; `None`: nobody yet.
        settled_by: Option<AdminReport>,
        /// When that was said.
        said: Timestamp,
    },
    /// By an admin, without an invite.
    Grant {
        /// Who; `None`: the root keys.
        by: Option<AdminReport>,
        /// When that was said.
        said: Timestamp,
    },
}

/// An admin, and who made it one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AdminReport {
    /// The admin.
    pub(crate) who: WhoReport,
    /// Its level when it signed.
    pub(crate) level: u8,
    /// Who made it an admin; `None`: it founded the network, or the root keys did.
    pub(crate) by: Option<WhoReport>,
    /// Whether it founded the network.
    pub(crate) founder: bool,
}

impl CardReport {
    /// The report of a card.
    pub(crate) fn of(card: io::Card) -> Self {
        let said_of = |who: Option<io::Who>| who.map(who_report);
        Self {
            id: card.member.id,
            transport_key: card.transport.map(|key| key.to_string()),
            wireguard_key: card.tunnel.map(|key| base64(key.wireguard().as_bytes())),
            let_in: match card.let_in {
                io::LetIn::Founder { said } => LetInReport::Founder { said },
                io::LetIn::Invite {
                    invite,
                    issuer,
                    uses,
                    witness,
                    settled_by,
                    said,
                } => LetInReport::Invite {
                    invite,
                    issuer: said_of(issuer),
                    uses,
                    witness: who_report(witness),
                    settled_by: settled_by.map(admin_report),
                    said,
                },
                io::LetIn::Grant { by, said } => LetInReport::Grant {
                    by: by.map(admin_report),
                    said,
                },
            },
        }
    }
}

fn who_report(who: io::Who) -> WhoReport {
    WhoReport {
        id: who.id,
        name: who.name,
    }
}

fn admin_report(admin: io::MadeAdmin) -> AdminReport {
    let Level(level) = admin.level;
    AdminReport {
        who: who_report(admin.who),
        level,
        by: admin.by.map(who_report),
        founder: admin.founder,
    }
}

/// Base64 with padding (RFC 4648 §4), as WireGuard's tools print keys.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let padded = [0, 1, 2].map(|at| three.get(at).copied().unwrap_or(0));
        let word = u32::from_be_bytes([0, padded[0], padded[1], padded[2]]);
        for digit in 0..4 {
            let index = (word >> (18 - 6 * digit)) & 63;
            let shown = digit <= three.len();
            text.push(if shown {
                char::from(DIGITS[index as usize])
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn keys_are_printed_as_other_tools_print_them() {
        // RFC 4648 §10.
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xff; 32]).len(), 44);
    }
}
