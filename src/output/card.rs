//! The card of a node: who it is, by which keys, and by whose word it is in.

use meshnode_protocol::time::Timestamp;

use super::status::{self, path_text, role};
use super::{Style, clean};
use crate::control::CardReport;
use crate::control::card::{AdminReport, LetInReport, WhoReport};
use crate::control::report::{MemberReport, PeerReport, StandingReport};
use crate::units;

/// The screen. Without a peer it is this node's own.
pub(crate) fn screen(
    member: &MemberReport,
    peer: Option<&PeerReport>,
    card: &CardReport,
    style: Style,
) -> String {
    let addresses = match member.ipv4 {
        Some(ipv4) => format!("{ipv4}, {}", member.ipv6),
        None => member.ipv6.to_string(),
    };
    let mut rows = vec![("address", addresses), ("id", member.id.to_string())];
    let keys = [
        ("transport key", card.transport_key.clone()),
        ("wireguard key", card.wireguard_key.clone()),
    ];
    rows.extend(
        keys.into_iter()
            .filter_map(|(name, key)| Some((name, key?))),
    );
    rows.extend(let_in(&card.let_in));
    let head = head(member, peer);
    if style.plain {
        let lines = rows
            .iter()
            .map(|(name, text)| format!("{}: {text}\n", name.trim()));
        return format!("name: {head}\n{}", lines.collect::<String>());
    }
    let lines = rows
        .iter()
        .map(|(name, text)| format!("{name:<13}  {text}\n"));
    format!("{head}\n{}", lines.collect::<String>())
}

/// `carol-laptop  member, owner carol, tag:dev, online (direct, 9 ms)`.
fn head(member: &MemberReport, peer: Option<&PeerReport>) -> String {
    let mut facts = vec![role(member).to_owned()];
    facts.extend(
        member
            .owner
            .iter()
            .map(|owner| format!("owner {}", clean(owner.as_str()))),
    );
    facts.extend(
        member
            .tags
            .iter()
            .map(|tag| format!("tag:{}", clean(tag.as_str()))),
    );
    facts.extend(standing(member.standing).map(str::to_owned));
    facts.push(match peer {
        None => "this machine".to_owned(),
        Some(peer) => way(peer),
    });
    format!("{}  {}", clean(member.name.as_str()), facts.join(", "))
}

fn way(peer: &PeerReport) -> String {
    let state = status::state(peer);
    match (&peer.path, peer.rtt_us) {
        (Some(path), Some(rtt_us)) if peer.online && !peer.blocked => {
            format!("{state} ({}, {})", path_text(path), units::rtt(rtt_us))
        }
        _ => match peer.last_seen_s {
            Some(seconds) if !peer.online => {
                format!("{state} (last seen {} ago)", units::span_s(seconds))
            }
            _ => state.to_owned(),
        },
    }
}

const fn standing(standing: StandingReport) -> Option<&'static str> {
    match standing {
        StandingReport::Settled => None,
        StandingReport::Provisional => Some("provisional"),
        StandingReport::Pending => Some("waits for approval"),
        StandingReport::Quarantined => Some("quarantined"),
    }
}

fn let_in(let_in: &LetInReport) -> Vec<(&'static str, String)> {
    match let_in {
        LetInReport::Founder { said } => vec![
            ("let in by", "nobody: it founded the network".to_owned()),
            ("  when", when(*said)),
        ],
        LetInReport::Invite {
            invite,
            issuer,
            uses,
            witness,
            settled_by,
            said,
        } => {
            let id: String = invite.to_string().chars().take(4).collect();
            let issuer = issuer.as_ref().map_or("the root keys".to_owned(), who);
            let machines = match uses {
                Some(1) => ", for one machine".to_owned(),
                Some(uses) => format!(", for {uses} machines"),
                None => String::new(),
            };
            let by = format!("invite {} of {issuer}{machines}", id.to_uppercase());
            let at_once = settled_by
                .as_ref()
                .is_some_and(|admin| admin.who.id == witness.id);
            let shown = if at_once {
                who(witness)
            } else {
                format!("{}, which let it in provisionally", who(witness))
            };
            let confirmed = match settled_by {
                Some(settled) => format!("by {}", admin(settled)),
                None => "not yet: an admin does it by itself".to_owned(),
            };
            vec![
                ("let in by", by),
                ("  shown at", shown),
                ("  confirmed", confirmed),
                ("  when", when(*said)),
            ]
        }
        LetInReport::Grant { by, said } => {
            let by = by.as_ref().map_or("the root keys".to_owned(), admin);
            vec![
                ("let in by", format!("{by}, without an invite")),
                ("  when", when(*said)),
            ]
        }
    }
}

fn who(who: &WhoReport) -> String {
    match &who.name {
        Some(name) => clean(name.as_str()),
        None => format!("{}, which is out", who.id.short()),
    }
}

/// `bob-laptop (admin, level 2; made admin by alice-laptop)`.
fn admin(admin: &AdminReport) -> String {
    let made = match (&admin.by, admin.founder) {
        (_, true) => "the founder".to_owned(),
        (Some(by), false) => format!("made admin by {}", who(by)),
        (None, false) => "made admin by the root keys".to_owned(),
    };
    format!("{} (admin, level {}; {made})", who(&admin.who), admin.level)
}

fn when(said: Timestamp) -> String {
    format!("said {}", units::local_time(said))
}

#[cfg(test)]
mod tests {
    use meshnode_protocol::id::OpId;

    use super::*;
    use crate::output::status::tests::{healthy, member};

    fn report(member: &MemberReport) -> WhoReport {
        WhoReport {
            id: member.id,
            name: Some(member.name.clone()),
        }
    }

    fn card() -> (MemberReport, PeerReport, CardReport) {
        let healthy = healthy();
        let (laptop, cabin) = (healthy.peers[0].clone(), member("cabin", "100.83.0.9", 255));
        let nas = healthy.this.unwrap();
        let let_in = LetInReport::Invite {
            invite: OpId::new([7; 32]),
            issuer: Some(report(&nas)),
            uses: Some(1),
            witness: report(&cabin),
            settled_by: Some(AdminReport {
                who: report(&nas),
                level: 1,
                by: None,
                founder: true,
            }),
            said: Timestamp::from_ms(1_763_740_800_000),
        };
        let card = CardReport {
            id: laptop.member.id,
            transport_key: Some("abcd".to_owned()),
            wireguard_key: None,
            let_in,
        };
        (laptop.member.clone(), laptop, card)
    }

    #[test]
    fn a_card_says_by_which_invite_witness_and_admin() {
        let (member, peer, card) = card();
        let text = screen(&member, Some(&peer), &card, Style::default());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "laptop  member, online (direct, LAN 192.168.1.20:41641, 0.4 ms)"
        );
        assert!(lines[1].starts_with("address        100.90.17.33, fd7c:"));
        assert!(text.contains(" of nas, for one machine\n"), "{text}");
        assert!(
            text.contains("  shown at     cabin, which let it in provisionally\n"),
            "{text}"
        );
        assert!(
            text.contains("  confirmed    by nas (admin, level 1; the founder)\n"),
            "{text}"
        );
        assert!(!text.contains("wireguard"), "what is not known is left out");
    }

    #[test]
    fn a_plain_card_has_a_name_and_a_value_a_line() {
        let (member, _, card) = card();
        let style = Style {
            plain: true,
            ..Style::default()
        };
        let text = screen(&member, None, &card, style);
        assert!(
            text.starts_with("name: laptop  member, this machine\n"),
            "{text}"
        );
        assert!(text.contains("\nshown at: cabin"), "{text}");
    }
}
