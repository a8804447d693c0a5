//! Warnings of the core in words, each with what mends it.

use meshnode_protocol::io::{Snapshot, Unheard, Warning};
use meshnode_protocol::name::{NetworkName, NodeName};

use crate::control::relays::words;
use crate::control::report::WarningReport;
use crate::units;

/// A warning in words; nothing for those that no verb of this version can mend.
pub(super) fn warn(
    warning: &Warning,
    snapshot: &Snapshot,
    port: Option<u16>,
) -> Option<WarningReport> {
    let network = &snapshot.network_name;
    match warning {
        Warning::NoWayIn => no_way_in(network, port),
        Warning::OneAdmin(name) => one_admin(name, snapshot),
        Warning::RecoveryUnchecked => {
            let text =
                "nobody typed the recovery phrase back yet; it is still kept on this machine";
            let hint = "meshnode recovery check".to_owned();
            report("recovery_unchecked", text.to_owned(), Some(hint), None)
        }
        Warning::ClockSuspect => {
            let text = "this machine's clock is far from the clocks of the other nodes".to_owned();
            let hint = "set the clock: sudo timedatectl set-ntp true".to_owned();
            report("clock_suspect", text, Some(hint), None)
        }
        Warning::Outdated => {
            let version = env!("CARGO_PKG_VERSION");
            let text = format!("{network} has changes that meshnode {version} does not understand");
            let hint = "upgrade meshnode on this machine".to_owned();
            report("version_floor", text, Some(hint), None)
        }
        Warning::Quarantine(name) => quarantine(name),
        Warning::SharedKey(one, other) => shared_key(one, other),
        Warning::Cloned(name) => cloned(name),
        Warning::DiskFailed(cause) => {
            let text = format!("the state directory takes no writes: {cause}");
            report("disk_low", text, Some("make room".to_owned()), None)
        }
        // Said by the state itself.
        Warning::Recovering => None,
        Warning::UnheardRevoke(unheard) => unheard_by(unheard),
        Warning::Expiring { node, days, .. } => {
            let text = format!("the membership of {node} ends within {days} d");
            report("expiring", text, None, Some(node.to_string()))
        }
        Warning::StaleAdmins { days } => {
            let text = format!("no admin was heard of for {days} d");
            report("stale_admins", text, None, None)
        }
        Warning::Flood { node, ops } => flood(node.as_ref(), *ops),
        Warning::PolicyConflict(which) => {
            let text = format!("a line of the policy counts for nothing: {which}");
            let hint = "an admin settles it: meshnode policy edit".to_owned();
            report("policy_conflict", text, Some(hint), None)
        }
        Warning::PolicyUnbuilt { kept } => unbuilt(*kept),
        Warning::RelayLimit {
            node,
            relay,
            reason,
        } => {
            let relay = relay.as_deref().unwrap_or("a relay");
            let why = words(*reason);
            let text = format!("relay {relay} loses packets between this node and {node}: {why}");
            let hint = "another relay would help: meshnode relay add ADDRESS".to_owned();
            report("relay_budget", text, Some(hint), Some(node.to_string()))
        }
        Warning::Stale => {
            let text = "an admin knows of changes that are not here yet".to_owned();
            report("stale_admins", text, None, None)
        }
    }
}

fn no_way_in(network: &NetworkName, port: Option<u16>) -> Option<WarningReport> {
    let text = format!(
        "no node of {network} can be reached from outside; away from home you will not \
         find it"
    );
    let port = port.map_or("its UDP port".to_owned(), |port| {
        format!("UDP and TCP {port}")
    });
    let hint = format!("forward {port} on the router to this machine");
    report("no_way_in", text, Some(hint), None)
}

fn one_admin(name: &NodeName, snapshot: &Snapshot) -> Option<WarningReport> {
    let text = format!("{name} is the only admin; if it is lost, only the recovery phrase helps");
    let other = snapshot.peers.iter().find(|peer| peer.online);
    let other = other.map_or("NODE", |peer| peer.member.name.as_str());
    let hint = format!("meshnode admin add {other}");
    let alone = snapshot.peers.is_empty();
    if alone {
        return None;
    }
    report("one_admin", text, Some(hint), Some(name.to_string()))
}

fn quarantine(name: &NodeName) -> Option<WarningReport> {
    let text = format!("{name} shares its invite with too many machines; it has no traffic");
    let hint = "give the right machine an invite of its own: meshnode invite".to_owned();
    report("quarantine", text, Some(hint), Some(name.to_string()))
}

fn shared_key(one: &NodeName, other: &NodeName) -> Option<WarningReport> {
    let text = format!("{one} and {other} present one key; neither has traffic");
    let hint = "one is a copy: meshnode leave there, then join with an invite of its own";
    report("clone", text, Some(hint.to_owned()), Some(one.to_string()))
}

fn cloned(name: &NodeName) -> Option<WarningReport> {
    let text = format!("two machines answer for {name} in turn: a copy of it runs");
    let hint = "on one of them: sudo meshnode leave, then join with an invite of its own";
    report("clone", text, Some(hint.to_owned()), Some(name.to_string()))
}

fn flood(node: Option<&NodeName>, ops: u32) -> Option<WarningReport> {
    let Some(name) = node else {
        let text = format!("{ops} changes within an hour were signed with the recovery phrase");
        return report("flood", text, None, None);
    };
    let text = format!("{name} signed {ops} changes within an hour: somebody may have its key");
    let hint = format!("if so, on another admin: meshnode revoke {name} --stolen");
    report("flood", text, Some(hint), Some(name.to_string()))
}

fn unheard_by(unheard: &Unheard) -> Option<WarningReport> {
    let names: Vec<_> = unheard.nodes.iter().map(|name| name.as_str()).collect();
    let what = match &unheard.revoked {
        Some(name) => format!("that {name} is revoked"),
        None => "the policy's last change".to_owned(),
    };
    let said = units::local_time(unheard.said);
    let names = names.join(", ");
    let text = format!("{what} (said {said}) is not yet heard by {names}");
    let hint = "they obey before they carry traffic again".to_owned();
    report("unheard_revoke", text, Some(hint), None)
}

fn unbuilt(kept: bool) -> Option<WarningReport> {
    let text = if kept {
        "the policy cannot be built here; the last one that could is enforced"
    } else {
        "the policy cannot be built here; everything is denied"
    };
    let hint = "an admin writes it anew: meshnode policy set FILE".to_owned();
    report("policy_conflict", text.to_owned(), Some(hint), None)
}

fn report(
    code: &str,
    text: String,
    hint: Option<String>,
    subject: Option<String>,
) -> Option<WarningReport> {
    Some(WarningReport {
        code: code.to_owned(),
        text,
        hint,
        subject,
    })
}
