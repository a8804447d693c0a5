//! What other policy languages of this shape have and this one has not: refused by name, never ignored.

use super::fault::{Complaint, shown};

/// Sections and fields: where (empty: at the top), name, what to do instead.
const FIELDS: [(&str, &str, &str); 26] = [
    (
        "",
        "ssh",
        "meshnode has no login of its own; a rule with tcp:22 says who reaches sshd",
    ),
    ("", "sshTests", "there is no ssh section to test"),
    (
        "",
        "nodeAttrs",
        "attributes of nodes are not known here; remove the section",
    ),
    (
        "",
        "autoApprovers",
        "nothing is approved by itself; remove the section",
    ),
    (
        "",
        "postures",
        "the state of a machine is not judged; remove the section",
    ),
    (
        "",
        "defaultSrcPosture",
        "the state of a machine is not judged; remove the field",
    ),
    ("", "ipsets", "name addresses in hosts instead"),
    (
        "",
        "derpMap",
        "relays do not belong to the policy; remove the section",
    ),
    (
        "",
        "disableIPv4",
        "every node has IPv4 and IPv6; remove the field",
    ),
    (
        "",
        "OneCGNATRoute",
        "routes of a machine do not belong to the policy; remove the field",
    ),
    (
        "",
        "oneCGNATRoute",
        "routes of a machine do not belong to the policy; remove the field",
    ),
    (
        "",
        "randomizeClientPort",
        "ports are set on each machine; remove the field",
    ),
    (
        "",
        "extraDNSRecords",
        "DNS does not belong to the policy; remove the section",
    ),
    (
        "",
        "dns",
        "DNS does not belong to the policy; remove the section",
    ),
    (
        "",
        "routes",
        "subnet routes are not built yet; remove the section",
    ),
    (
        "",
        "appConnectors",
        "app connectors are not known here; remove the section",
    ),
    ("acls", "users", "write src"),
    ("acls", "ports", "write dst"),
    (
        "acls",
        "srcPosture",
        "the state of a machine is not judged; remove the field",
    ),
    ("acls", "ip", "a rule with ip belongs to grants"),
    (
        "grants",
        "app",
        "capabilities of applications are not known here; only ip counts",
    ),
    (
        "grants",
        "via",
        "a grant cannot choose a route; remove the field",
    ),
    (
        "grants",
        "srcPosture",
        "the state of a machine is not judged; remove the field",
    ),
    (
        "grants",
        "action",
        "a grant always allows; remove the field",
    ),
    ("grants", "proto", "write the protocol in ip, as in tcp:443"),
    (
        "tests",
        "srcPostureAttrs",
        "the state of a machine is not judged; remove the field",
    ),
];

/// Kinds of selector.
const SELECTORS: [(&str, &str); 6] = [
    ("ipset", "name addresses in hosts instead"),
    ("svc", "name the node or the tag that offers the service"),
    ("posture", "the state of a machine is not judged"),
    ("user", "write the owner alone, as in alice@example.com"),
    ("passkey", "write the owner alone, as in alice@example.com"),
    ("via", "a rule cannot choose a route"),
];

/// Automatic groups.
const AUTOGROUPS: [(&str, &str); 10] = [
    ("internet", "exit nodes are not part of the policy"),
    ("shared", "nothing is shared between networks"),
    ("nonroot", "meshnode has no login of its own"),
    ("owner", "write autogroup:admin, or the owner's name"),
    (
        "it-admin",
        "admins are all of one kind: write autogroup:admin",
    ),
    (
        "network-admin",
        "admins are all of one kind: write autogroup:admin",
    ),
    ("billing-admin", "nothing here is paid for"),
    ("auditor", "every member sees the whole history"),
    ("members", "write autogroup:member"),
    ("admins", "write autogroup:admin"),
];

/// The complaint about a field that is not known in a section (empty: at the top).
pub(super) fn field(section: &str, name: &str, known: &[&str]) -> Complaint {
    let place = if section.is_empty() {
        String::new()
    } else {
        format!(" in {section}")
    };
    let complaint = Complaint::new(format!("{} is not supported{place}", shown(name)));
    let mut listed = FIELDS.iter();
    if let Some((_, _, hint)) = listed.find(|(at, field, _)| (*at, *field) == (section, name)) {
        return complaint.hint(*hint);
    }
    match known.iter().find(|known| known.eq_ignore_ascii_case(name)) {
        Some(known) => complaint.hint(format!("it is spelt {known}")),
        None => complaint.hint(format!("known here: {}", known.join(", "))),
    }
}

/// The complaint about an automatic group.
pub(super) fn autogroup(name: &str) -> Complaint {
    let complaint = Complaint::new(format!("autogroup:{} is not supported", shown(name)));
    match AUTOGROUPS.iter().find(|(group, _)| *group == name) {
        Some((_, hint)) => complaint.hint(*hint),
        None => complaint.hint("known: autogroup:member, :admin, :self, :tagged, :danger-all"),
    }
}

/// The complaint about a selector with a kind of its own, if that kind is known from elsewhere.
pub(super) fn selector(text: &str) -> Option<Complaint> {
    let (kind, _) = text.split_once(':')?;
    let (_, hint) = SELECTORS.iter().find(|(known, _)| *known == kind)?;
    Some(Complaint::new(format!("{} is not supported", shown(text))).hint(*hint))
}
