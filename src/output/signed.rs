//! The screens of acts that sign: what happened, what falls, who heard it.

use super::clean;
use crate::control::acts::{Acted, Fallen, HeardBy, HeardDone, Plan};
use crate::units;

/// After a revocation.
pub(crate) fn revoked(acted: &Acted) -> String {
    let plan = &acted.plan;
    let names = list(plan.out.iter().map(|name| name.as_str()));
    let (one, many) = (plan.out.len() == 1, plan.out.len() > 1);
    let mut text = if acted.dry_run {
        format!("Would put out {names}. Nothing is signed.\n")
    } else if one {
        format!(
            "{names} is out. What it signs from now on counts for nothing, whatever date it \
             claims.\n"
        )
    } else {
        format!(
            "{names} are out. What they sign from now on counts for nothing, whatever date it \
             claims.\n"
        )
    };
    let kept = if many {
        "Their names and addresses stay reserved."
    } else {
        "Its name and address stay reserved."
    };
    match plan.epoch {
        Some((before, after)) if acted.dry_run => text.push_str(&format!(
            "The network key would change (epoch {before} to {after}).\n"
        )),
        Some((before, after)) => text.push_str(&format!(
            "Network key changed (epoch {before} to {after}). {kept}\n"
        )),
        None => text.push_str(&format!("{kept}\n")),
    }
    text.push_str(&consequences(plan));
    text
}

/// What falls and what stays with an act.
pub(crate) fn consequences(plan: &Plan) -> String {
    let mut text = String::new();
    for fallen in &plan.falls {
        text.push_str(&match fallen {
            Fallen::Member(name) => {
                format!(
                    "  falls   {}: what let it in counts no more\n",
                    clean(name.as_str())
                )
            }
            Fallen::Admin(name) => {
                format!("  falls   {}: no admin any more\n", clean(name.as_str()))
            }
            Fallen::Invite(id) => format!("  falls   invite {}\n", short(&id.to_string())),
            Fallen::Revocation(name) => {
                format!(
                    "  falls   the revocation of {}: it is in again\n",
                    clean(name.as_str())
                )
            }
            Fallen::Policy(id) => format!("  falls   policy change {}\n", short(&id.to_string())),
        });
    }
    if !plan.granted_again.is_empty() {
        let names = list(plan.granted_again.iter().map(|name| name.as_str()));
        text.push_str(&format!("  stays   {names}: granted again\n"));
    }
    if !plan.spared.is_empty() {
        let names = list(plan.spared.iter().map(|name| name.as_str()));
        text.push_str(&format!("  stays   the revocation of {names}\n"));
    }
    if let Some((name, level)) = &plan.admin {
        text.push_str(&format!(
            "  admin   {} (level {level})\n",
            clean(name.as_str())
        ));
    }
    text
}

/// A node that heard, while it is watched.
pub(crate) fn heard_line(node: &HeardBy) -> String {
    format!(
        "  {}  {}\n",
        clean(node.name.as_str()),
        units::span_ms(node.ms)
    )
}

/// Who heard, and who did not.
pub(crate) fn heard(heard: &[HeardBy], done: &HeardDone) -> String {
    if done.of == 0 {
        return "There is no other node to hear it.\n".to_owned();
    }
    let names = heard.iter().map(|node| node.name.as_str());
    let names = names.chain(done.unreached.iter().map(|node| node.name.as_str()));
    let width = names.map(|name| name.chars().count()).max().unwrap_or(0);
    let colon = if heard.is_empty() && done.unreached.is_empty() {
        "."
    } else {
        ":"
    };
    let mut text = format!("\nHeard by {} of {}{colon}\n", done.heard, done.of);
    for node in heard {
        let name = clean(node.name.as_str());
        text.push_str(&format!("  {name:<width$}  {}\n", units::span_ms(node.ms)));
    }
    for node in &done.unreached {
        let name = clean(node.name.as_str());
        let seen = match node.last_seen_s {
            Some(seconds) => format!("last seen {} ago", units::span_s(seconds)),
            None => "not seen since this daemon's start".to_owned(),
        };
        text.push_str(&format!(
            "  {name:<width$}  not yet, {seen}; it obeys before it carries traffic again\n"
        ));
    }
    text
}

/// `a`, `a and b`, `a, b and c`, cleaned.
pub(crate) fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<String> = names.map(clean).collect();
    let Some(last) = names.pop() else {
        return "nobody".to_owned();
    };
    if names.is_empty() {
        return last;
    }
    format!("{} and {last}", names.join(", "))
}

/// The begin of an id that people see, as `invite` prints it.
pub(crate) fn short(id: &str) -> String {
    id.chars().take(4).collect::<String>().to_uppercase()
}

#[cfg(test)]
mod tests {
    use meshnode_protocol::id::NodeId;
    use meshnode_protocol::identity::Secret;
    use meshnode_protocol::name::NodeName;

    use super::*;
    use crate::control::acts::Unreached;

    fn name(text: &str) -> NodeName {
        NodeName::parse(text).unwrap()
    }

    fn id() -> NodeId {
        NodeId::new(Secret::from_seed(&[1; 32]).public())
    }

    #[test]
    fn a_revocation_tells_who_heard_it_and_who_did_not() {
        let acted = Acted {
            ops: Vec::new(),
            plan: Plan {
                out: vec![name("old-pi")],
                epoch: Some((7, 8)),
                ..Plan::default()
            },
            dry_run: false,
            of: 2,
        };
        let heard_by = [HeardBy {
            id: id(),
            name: name("vps"),
            ms: 300,
        }];
        let done = HeardDone {
            heard: 1,
            of: 2,
            unreached: vec![Unreached {
                id: id(),
                name: name("mini"),
                last_seen_s: Some(6 * 24 * 3600),
            }],
        };
        let text = revoked(&acted) + &heard(&heard_by, &done);
        assert_eq!(
            text,
            "old-pi is out. What it signs from now on counts for nothing, whatever date it \
             claims.\n\
             Network key changed (epoch 7 to 8). Its name and address stay reserved.\n\
             \n\
             Heard by 1 of 2:\n  \
             vps   0.3 s\n  \
             mini  not yet, last seen 6 d ago; it obeys before it carries traffic again\n"
        );
    }

    #[test]
    fn what_falls_is_told_one_a_line() {
        let plan = Plan {
            falls: vec![Fallen::Member(name("x")), Fallen::Revocation(name("y"))],
            granted_again: vec![name("a"), name("b")],
            spared: vec![name("m")],
            ..Plan::default()
        };
        assert_eq!(
            consequences(&plan),
            "  falls   x: what let it in counts no more\n  \
             falls   the revocation of y: it is in again\n  \
             stays   a and b: granted again\n  \
             stays   the revocation of m\n"
        );
    }
}
