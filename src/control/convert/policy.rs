//! The policy, in the words of the control socket and of the core.

use meshnode_protocol::io::{self, Command};
use meshnode_protocol::policy::{self, Difference, Outcome, Question, Sign};

use crate::control::Response;
use crate::control::policy::{
    Blamed, Change, ChangeState, DiffLine, Draft, Explained, FailedTest, Fault, InviteRules,
    PolicyAsk, PolicyChecked, PolicyShown, PolicyState, PolicyTold, RuleLine, Step, Verdict,
};

/// The command for what is asked.
pub(crate) fn command(ask: PolicyAsk) -> Command {
    match ask {
        PolicyAsk::Show { at } => Command::PolicyShow { at },
        PolicyAsk::Check { text } => Command::PolicyCheck { text },
        PolicyAsk::Draft(step) => Command::PolicyDraft(Box::new(steps(step))),
        PolicyAsk::Blame { at } => Command::PolicyBlame { at },
        PolicyAsk::Diff { from, text } => Command::PolicyDiff { from, text },
        PolicyAsk::Explain {
            src,
            dst,
            protocol,
            port,
            at,
        } => {
            let question = Question {
                src,
                dst,
                protocol,
                port,
            };
            Command::PolicyExplain(io::PolicyQuestion { question, at })
        }
        PolicyAsk::Log => Command::PolicyLog,
    }
}

fn steps(step: Step) -> io::PolicyStep {
    match step {
        Step::Rename { node, name } => io::PolicyStep::Rename { node, name },
        Step::Tag {
            node,
            add,
            remove,
            owner,
        } => io::PolicyStep::Tag {
            node,
            add: add.into_iter().collect(),
            remove: remove.into_iter().collect(),
            owner,
        },
    }
}

/// The policy.
pub(super) fn shown(shown: io::PolicyShown) -> Response {
    let conflicts = shown.conflicts.iter();
    told(PolicyTold::Shown(Box::new(PolicyShown {
        exists: shown.exists,
        state: state(shown.state),
        text: shown.text,
        version: shown.version,
        last: shown.last,
        conflicts: conflicts.map(ToString::to_string).collect(),
        orphans: shown.orphans,
        trial_ms: shown.trial_ms,
        in_force: shown.in_force,
    })))
}

/// What is wrong with a text.
pub(super) fn checked(checked: io::PolicyChecked) -> Response {
    told(PolicyTold::Checked(findings(checked)))
}

/// What a text would change.
pub(super) fn diff(diffed: io::PolicyDiffed) -> Response {
    told(PolicyTold::Diff {
        lines: lines(diffed.lines),
        checked: findings(diffed.checked),
    })
}

fn lines(lines: Vec<Difference>) -> Vec<DiffLine> {
    let lines = lines.into_iter().map(|line| DiffLine {
        added: line.sign == Sign::Added,
        section: line.section.to_owned(),
        line: line.line,
        text: line.text,
    });
    lines.collect()
}

/// What is signed together with an invite.
pub(super) fn invited(rules: io::InvitePolicy) -> InviteRules {
    InviteRules {
        tag: rules.tag,
        version: rules.version,
        first: rules.first,
        lines: lines(rules.lines),
    }
}

/// Why a node reaches another, or does not.
pub(super) fn explained(explained: io::PolicyExplained) -> Response {
    told(PolicyTold::Explained(Box::new(Explained {
        verdict: match explained.verdict {
            io::PolicyVerdict::Open => Verdict::Open,
            io::PolicyVerdict::Allowed => Verdict::Allowed,
            io::PolicyVerdict::Denied => Verdict::Denied,
            io::PolicyVerdict::Unknown(id) => Verdict::Unknown(id),
        },
        rule: explained.rule.map(|rule| RuleLine {
            line: rule.line,
            text: rule.text,
            by: rule.by.map(change),
        }),
        note: explained.note.map(str::to_owned),
        state: state(explained.state),
        version: explained.version,
        in_force: explained.in_force,
    })))
}

/// The policy ops that count.
pub(super) fn log(changes: Vec<io::PolicyChange>) -> Response {
    told(PolicyTold::Log(changes.into_iter().map(change).collect()))
}

/// What the policy would be.
pub(super) fn draft(draft: io::PolicyDraft) -> Response {
    told(PolicyTold::Draft(Box::new(Draft {
        text: draft.text,
        last: draft.last,
        exists: draft.exists,
    })))
}

/// Who wrote each line.
pub(super) fn blame(lines: Vec<io::PolicyBlamed>) -> Response {
    let lines = lines.into_iter().map(|line| Blamed {
        line: line.line,
        text: line.text,
        by: line.by.map(change),
    });
    told(PolicyTold::Blame(lines.collect()))
}

const fn told(told: PolicyTold) -> Response {
    Response::Policy(told)
}

fn findings(checked: io::PolicyChecked) -> PolicyChecked {
    let tests = checked.tests.into_iter().map(|test| FailedTest {
        line: test.line,
        src: test.src,
        dst: test.dst,
        node: test.node,
        wants_allow: test.want == Outcome::Allow,
    });
    PolicyChecked {
        faults: checked.faults.into_iter().map(fault).collect(),
        tests: tests.collect(),
        notices: checked.notices.into_iter().map(fault).collect(),
    }
}

/// A fault of a text.
pub(crate) fn fault(fault: policy::Fault) -> Fault {
    Fault {
        line: fault.line,
        column: fault.column,
        text: fault.text,
        hint: fault.hint,
    }
}

const fn state(state: io::PolicyState) -> PolicyState {
    match state {
        io::PolicyState::Open => PolicyState::Open,
        io::PolicyState::InForce => PolicyState::InForce,
        io::PolicyState::Kept => PolicyState::Kept,
        io::PolicyState::Denied => PolicyState::Denied,
    }
}

fn change(change: io::PolicyChange) -> Change {
    Change {
        version: change.version,
        op: change.op,
        base: change.base,
        author: change.author,
        said: change.said,
        heard: change.heard,
        state: match change.state {
            io::PolicyChangeState::InForce => ChangeState::InForce,
            io::PolicyChangeState::Replaced => ChangeState::Replaced,
            io::PolicyChangeState::Orphan => ChangeState::Orphan,
            io::PolicyChangeState::Unread => ChangeState::Unread,
        },
    }
}
