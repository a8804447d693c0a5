//! The tables of people and their rights: who waits, which invites there are, who signs.

use super::table::Table;
use super::{Style, clean, signed, width};
use crate::control::acts::{Admin, InviteReport, InviteState, Waiting};
use crate::units;

/// `pending`.
pub(crate) fn pending(waiting: &[Waiting], style: Style) -> String {
    if waiting.is_empty() {
        return "Nobody waits.\n".to_owned();
    }
    let mut table = Table::new(&["NAME", "FINGERPRINT", "INVITE", "SHOWN AT", "SINCE", "WHY"]);
    for joiner in waiting {
        let witness = joiner.witness.as_ref();
        let why = if joiner.quarantined {
            "too many used the invite"
        } else {
            "waits for approval"
        };
        table.row(vec![
            clean(joiner.name.as_str()),
            clean(&joiner.fingerprint),
            signed::short(&joiner.invite.to_string()),
            witness.map_or("-".to_owned(), |name| clean(name.as_str())),
            units::local_time(joiner.since),
            why.to_owned(),
        ]);
    }
    render(table, style, &["SINCE", "SHOWN AT", "INVITE"])
        + "\nTo let one in:  meshnode approve NAME        To refuse it:  meshnode deny NAME\n"
}

/// `invite list`.
pub(crate) fn invites(invites: &[InviteReport], all: bool, style: Style) -> String {
    let shown = |invite: &&InviteReport| all || invite.state == InviteState::Open;
    let shown: Vec<&InviteReport> = invites.iter().filter(shown).collect();
    if shown.is_empty() {
        let rest = if invites.is_empty() || all {
            ""
        } else {
            " (used, expired and cancelled ones: meshnode invite list --all)"
        };
        return format!("No open invite{rest}.\n");
    }
    let mut table = Table::new(&["ID", "STATE", "USED", "UNTIL", "FOR", "BY"]);
    for invite in shown {
        let wished = invite.name.as_ref();
        table.row(vec![
            signed::short(&invite.id.to_string()),
            state(invite),
            format!("{} of {}", invite.used, invite.uses),
            units::local_time(invite.expires),
            wished.map_or("-".to_owned(), |name| clean(name.as_str())),
            invite
                .issuer
                .as_ref()
                .map_or("-".to_owned(), |name| clean(name.as_str())),
        ]);
    }
    render(table, style, &["BY", "FOR"])
}

fn state(invite: &InviteReport) -> String {
    let word = invite.state.word();
    let used_by = invite.used_by.iter().map(|name| name.as_str());
    match (invite.state, invite.used_by.is_empty(), invite.approve) {
        (InviteState::Used, false, _) => format!("{word} by {}", signed::list(used_by)),
        (InviteState::Open, _, true) => format!("{word}, an admin approves"),
        _ => word.to_owned(),
    }
}

/// `admin list`.
pub(crate) fn admins(admins: &[Admin], style: Style) -> String {
    let mut table = Table::new(&["NAME", "LEVEL", "STATE", "MADE BY", "OWNER", "LAST WORD"]);
    for admin in admins {
        let text = |name: Option<&str>| name.map_or("-".to_owned(), clean);
        table.row(vec![
            clean(admin.name.as_str()),
            admin.level.to_string(),
            if admin.online { "online" } else { "away" }.to_owned(),
            text(admin.by.as_ref().map(|name| name.as_str())),
            text(admin.owner.as_ref().map(|owner| owner.as_str())),
            admin.tip.map_or("-".to_owned(), units::local_time),
        ]);
    }
    render(table, style, &["LAST WORD", "OWNER", "MADE BY"])
}

fn render(table: Table, style: Style, droppable: &[&str]) -> String {
    if style.plain {
        table.plain()
    } else {
        table.render(width(), droppable)
    }
}

#[cfg(test)]
mod tests {
    use meshnode_protocol::id::{NodeId, OpId};
    use meshnode_protocol::identity::Secret;
    use meshnode_protocol::name::NodeName;
    use meshnode_protocol::time::Timestamp;

    use super::*;

    fn plain() -> Style {
        Style {
            plain: true,
            ..Style::default()
        }
    }

    #[test]
    fn who_waits_is_listed_with_a_fingerprint_and_the_way_out() {
        let joiner = Waiting {
            id: NodeId::new(Secret::from_seed(&[1; 32]).public()),
            name: NodeName::parse("laptop").unwrap(),
            fingerprint: "7K2Q-MX4P".to_owned(),
            invite: OpId::ZERO,
            witness: Some(NodeName::parse("nas").unwrap()),
            since: Timestamp::from_ms(0),
            quarantined: true,
        };
        let text = pending(&[joiner], plain());
        for part in [
            "name: laptop",
            "7K2Q-MX4P",
            "shown at: nas",
            "too many used",
            "approve",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(pending(&[], plain()), "Nobody waits.\n");
    }

    #[test]
    fn only_open_invites_are_listed_unless_all_are_asked_for() {
        let used = InviteReport {
            id: OpId::ZERO,
            state: InviteState::Used,
            uses: 1,
            used_by: vec![NodeName::parse("tablet").unwrap()],
            used: 1,
            expires: Timestamp::from_ms(0),
            issuer: None,
            name: None,
            tags: Vec::new(),
            approve: false,
        };
        let list = [used];
        assert!(invites(&list, false, plain()).contains("invite list --all"));
        assert!(invites(&list, true, plain()).contains("used by tablet"));
    }
}
