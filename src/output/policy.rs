//! The screens of the policy: what is wrong with a text, what changes, who reaches whom.

use std::time::Duration;

use meshnode_protocol::name::NodeName;

use super::table::Table;
use super::{Style, clean, signed};
use crate::control::Invited;
use crate::control::acts::Acted;
use crate::control::policy::{
    Blamed, Change, ChangeState, DiffLine, Explained, Fault, PolicyChecked, PolicyShown,
    PolicyState, RuleLine, Verdict,
};
use crate::control::report::MemberReport;
use crate::units;

/// What was asked: who, whom, what.
#[derive(Clone, Debug)]
pub(crate) struct Asked<'a> {
    /// From where.
    pub(crate) src: &'a MemberReport,
    /// To where.
    pub(crate) dst: &'a MemberReport,
    /// The protocol.
    pub(crate) proto: String,
    /// The port, if the protocol has one.
    pub(crate) port: Option<u16>,
}

/// Behind the text of the policy: which version it is, and where it is in force.
pub(crate) fn standing(shown: &PolicyShown) -> String {
    let mut text = match shown.state {
        PolicyState::Open => "There is no policy: all members reach each other.\n".to_owned(),
        PolicyState::InForce => {
            let (nodes, of) = shown.in_force;
            format!(
                "Policy v{}, in force on {nodes} of {of} nodes.\n",
                shown.version
            )
        }
        PolicyState::Kept => format!(
            "warning: policy v{} cannot be built here; the last one that could is in force.\n",
            shown.version
        ),
        PolicyState::Denied => format!(
            "warning: policy v{} cannot be built here: everything is denied.\n",
            shown.version
        ),
    };
    if let Some(left_ms) = shown.trial_ms {
        let left = units::span_s(left_ms.div_ceil(1_000));
        text.push_str(&format!(
            "On trial: it is undone in {left}, unless you type: meshnode policy keep\n"
        ));
    }
    for conflict in &shown.conflicts {
        let conflict = clean(conflict);
        text.push_str(&format!(
            "warning: counts for nothing until it is settled: {conflict}\n"
        ));
    }
    for orphan in &shown.orphans {
        let orphan = signed::short(&orphan.to_string());
        text.push_str(&format!("warning: change {orphan} has no effect\n"));
    }
    text
}

/// What is wrong with a text, one finding a line, as editors read them.
pub(crate) fn findings(checked: &PolicyChecked, file: &str) -> String {
    let file = clean(file);
    let place = |fault: &Fault| format!("{file}:{}:{}", fault.line, fault.column);
    let mut text = String::new();
    for fault in &checked.faults {
        text.push_str(&format!("{}: {}\n", place(fault), said(fault)));
    }
    for test in &checked.tests {
        text.push_str(&format!("{file}:{}: {}\n", test.line, failed(test)));
    }
    for notice in &checked.notices {
        text.push_str(&format!("{}: note: {}\n", place(notice), said(notice)));
    }
    text
}

/// The first thing that is wrong, and how many more there are.
pub(crate) fn first(checked: &PolicyChecked) -> String {
    let fault = checked.faults.first().map(|fault| {
        let Fault { line, column, .. } = fault;
        format!("line {line}, column {column}: {}", said(fault))
    });
    let test = checked.tests.first();
    let test = test.map(|test| format!("line {}: {}", test.line, failed(test)));
    let first = fault.or(test).unwrap_or_default();
    match (checked.faults.len() + checked.tests.len()).saturating_sub(1) {
        0 => first,
        more => format!("{first}, and {more} more"),
    }
}

fn said(fault: &Fault) -> String {
    let text = clean(&fault.text);
    match &fault.hint {
        Some(hint) => format!("{text} ({})", clean(hint)),
        None => text,
    }
}

fn failed(test: &crate::control::policy::FailedTest) -> String {
    let (want, got) = wants(test.wants_allow);
    let node = match &test.node {
        Some(node) => format!(" ({})", clean(node.as_str())),
        None => String::new(),
    };
    let (src, dst) = (clean(&test.src), clean(&test.dst));
    format!("test: {src} to {dst}{node} is to be {want}, and the rules {got} it")
}

const fn wants(allow: bool) -> (&'static str, &'static str) {
    if allow {
        ("allowed", "deny")
    } else {
        ("denied", "allow")
    }
}

/// Lines that go and lines that come.
pub(crate) fn diff(lines: &[DiffLine]) -> String {
    let mut text = String::new();
    let mut section = "";
    for line in lines {
        if section != line.section {
            section = &line.section;
            text.push_str(&format!("{}:\n", clean(section)));
        }
        let sign = if line.added { '+' } else { '-' };
        text.push_str(&format!("  {sign} {}\n", super::clean_text(&line.text)));
    }
    text
}

/// After a change of the policy.
pub(crate) fn set(acted: &Acted, lines: &[DiffLine], first: bool) -> String {
    if acted.ops.is_empty() {
        return "The policy says so already; nothing is signed.\n".to_owned();
    }
    let mut text = diff(lines);
    text.push_str(if acted.dry_run {
        "The policy would change. Nothing is signed.\n"
    } else {
        "The policy is changed; flows that it still allows go on.\n"
    });
    if first {
        text.push_str("It is the first one: what no rule allows is denied from now on.\n");
    }
    text
}

/// That a change does not last by itself.
pub(crate) fn on_trial(acted: &Acted, span: Option<Duration>) -> String {
    let Some(span) = span.filter(|_| !acted.ops.is_empty()) else {
        return String::new();
    };
    let span = units::span_s(span.as_secs());
    if acted.dry_run {
        return format!("It would be undone after {span}, unless meshnode policy keep follows.\n");
    }
    format!("On trial: it is undone after {span}, unless you type: meshnode policy keep\n")
}

/// That a node is called otherwise.
pub(crate) fn renamed(old: &NodeName, new: &NodeName, dry: bool) -> String {
    let (old, new) = (clean(old.as_str()), clean(new.as_str()));
    if dry {
        return format!("{old} would be {new}.\n");
    }
    format!("{old} is {new} from now on.\n")
}

/// The tags and the owner of a node, a line each.
pub(crate) fn tags(member: &MemberReport) -> String {
    let mut text = String::new();
    for tag in &member.tags {
        text.push_str(&format!("tag:{tag}\n"));
    }
    if let Some(owner) = &member.owner {
        text.push_str(&format!("owner:{}\n", clean(owner.as_str())));
    }
    text
}

/// What an invite says of its newcomer's reach; nothing for one that may reach what the policy says anyway.
pub(crate) fn invited(invited: &Invited, reached: &[String]) -> String {
    let Some(rules) = &invited.policy else {
        return String::new();
    };
    let reached = signed::list(reached.iter().map(String::as_str));
    let (tag, version) = (&rules.tag, rules.version);
    if invited.id.is_none() {
        let lines = diff(&rules.lines);
        return format!(
            "tag:{tag} could reach {reached} and nothing else (policy v{version}).\n{lines}"
        );
    }
    format!(
        "tag:{tag} may reach {reached} and nothing else (policy v{version}: everybody else as before).\n\
         It will see the names and addresses of all {} nodes.\n",
        invited.of + 1
    )
}

/// Who wrote each line.
pub(crate) fn blame(lines: &[Blamed], style: Style) -> String {
    if lines.is_empty() {
        return "There is no policy: all members reach each other.\n".to_owned();
    }
    let mut table = Table::new(&["LINE", "VERSION", "WHO", "SAID", "OP", "TEXT"]);
    for line in lines {
        let by = line.by.as_ref();
        let author = by.and_then(|by| by.author.as_ref());
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        table.row(vec![
            line.line.to_string(),
            or_none(by.map(|by| format!("v{}", by.version))),
            or_none(author.map(|name| clean(name.as_str()))),
            or_none(by.map(|by| units::local_time(by.said))),
            or_none(by.map(|by| signed::short(&by.op.to_string()))),
            super::clean_text(&line.text),
        ]);
    }
    if style.plain {
        table.plain()
    } else {
        table.render(super::width(), &["OP", "SAID"])
    }
}

/// The changes of the policy.
pub(crate) fn log(changes: &[Change], style: Style) -> String {
    if changes.is_empty() {
        return "There is no policy: all members reach each other.\n".to_owned();
    }
    let mut table = Table::new(&["VERSION", "SAID", "HEARD", "WHO", "OP", "STATE"]);
    for change in changes {
        let author = change.author.as_ref();
        table.row(vec![
            format!("v{}", change.version),
            units::local_time(change.said),
            change.heard.map_or("-".to_owned(), units::local_time),
            author.map_or("-".to_owned(), |name| clean(name.as_str())),
            signed::short(&change.op.to_string()),
            state(change).to_owned(),
        ]);
    }
    if style.plain {
        table.plain()
    } else {
        table.render(super::width(), &["HEARD", "OP"])
    }
}

const fn state(change: &Change) -> &'static str {
    match (change.state, change.base) {
        (ChangeState::InForce, true) => "in force, a whole policy",
        (ChangeState::InForce, false) => "in force",
        (ChangeState::Replaced, _) => "replaced by a later whole policy",
        (ChangeState::Orphan, _) => "without effect: it builds on what does not count",
        (ChangeState::Unread, _) => "cannot be read here",
    }
}

/// Whether a node reaches another, and by which rule.
pub(crate) fn explained(asked: &Asked<'_>, told: &Explained) -> String {
    let service = match asked.port {
        Some(port) => format!("{}/{port}", asked.proto),
        None => asked.proto.clone(),
    };
    let way = format!(
        "{} to {}, {service}",
        source(asked.src),
        clean(asked.dst.name.as_str())
    );
    let mut text = match told.verdict {
        Verdict::Open => {
            format!("ALLOWED  {way}\n\nThere is no policy: all members reach each other.\n")
        }
        Verdict::Allowed => {
            let rule = told.rule.as_ref().map(|rule| line("Rule:", rule));
            let (nodes, of) = told.in_force;
            format!(
                "ALLOWED  {way}\n\n{}{:<11}on {nodes} of {of} nodes (v{})\n",
                rule.unwrap_or_default(),
                "In force:",
                told.version
            )
        }
        Verdict::Denied => format!("DENIED  {way}\n\n{}", denied(told, &service)),
        Verdict::Unknown(id) => {
            let known = [asked.src, asked.dst]
                .into_iter()
                .find(|node| node.id == id);
            let name = known.map_or_else(|| id.short(), |node| clean(node.name.as_str()));
            format!("DENIED  {way}\n\n{name} has no traffic yet: an admin has to let it in.\n")
        }
    };
    if let Some(note) = &told.note {
        text.push_str(&format!("{:<11}{}\n", "Note:", clean(note)));
    }
    text
}

fn source(node: &MemberReport) -> String {
    let name = clean(node.name.as_str());
    let tags: Vec<String> = node.tags.iter().map(|tag| format!("tag:{tag}")).collect();
    match (tags.is_empty(), &node.owner) {
        (false, _) => format!("{name} ({})", tags.join(", ")),
        (true, Some(owner)) => format!("{name} ({})", clean(owner.as_str())),
        (true, None) => name,
    }
}

fn denied(told: &Explained, service: &str) -> String {
    let version = told.version;
    let service = service.replacen('/', ":", 1);
    match (told.state, &told.rule) {
        (PolicyState::Denied, _) => {
            format!("The policy cannot be built here, so everything is denied (v{version}).\n")
        }
        (PolicyState::Open | PolicyState::InForce | PolicyState::Kept, None) => format!(
            "No rule allows it, and with a policy everything else is denied (v{version}).\n\
             To allow:  meshnode policy edit, add a rule for \"{service}\"\n"
        ),
        (PolicyState::Open | PolicyState::InForce | PolicyState::Kept, Some(rule)) => format!(
            "No rule allows it, and with a policy everything else is denied (v{version}).\n{}\
             To allow:  meshnode policy edit, add a rule for \"{service}\", or widen line {}\n",
            line("Nearest:", rule),
            rule.line
        ),
    }
}

/// A rule with its line, and who wrote it.
fn line(heading: &str, rule: &RuleLine) -> String {
    let text = super::clean_text(&rule.text);
    let mut said = format!("{heading:<11}line {}  {text}\n", rule.line);
    if let Some(by) = &rule.by {
        let author = by.author.as_ref();
        let author = author.map_or("somebody".to_owned(), |name| clean(name.as_str()));
        let when = units::local_time(by.said);
        said.push_str(&format!(
            "{:<11}signed by {author}, v{}, said {when}\n",
            "", by.version
        ));
    }
    said
}

#[cfg(test)]
mod tests;
