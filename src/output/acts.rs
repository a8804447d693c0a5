//! The screens of acts: `init`, `invite`, `join`. They are talk; the code line alone is data.

use meshnode_protocol::invite::Hint;
use meshnode_protocol::name::{NetworkName, NodeName};

use super::clean;
use crate::control::{InitRequest, Inited, Invited, Joined, Membership, Progress, RecoveryFacts};
use crate::units;

/// What a screen needs that the daemon does not tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Here {
    /// How to start the network's daemon again, when nothing does it by itself.
    pub(crate) up_command: String,
    /// The person who needs no sudo, if the socket is open to them.
    pub(crate) operator: Option<String>,
}

/// After `init`.
pub(crate) fn inited(made: &Inited, took_ms: u64, here: &Here, in_file: Option<&str>) -> String {
    let this = &made.this;
    let mut text = format!(
        "Network {} is made. This machine is {}, its first node and admin ({}).\n\n{}",
        this.network,
        this.name,
        units::span_ms(took_ms),
        addresses(this, here)
    );
    text.push('\n');
    text.push_str(&match in_file {
        Some(path) => format!(
            "The recovery phrase is in {}. Keep it where no network reaches: it is the way back\n\
             if every admin machine is lost, and whoever reads it owns the network.\n",
            clean(path)
        ),
        None => made
            .phrases
            .iter()
            .map(|words| phrase(words.reveal()))
            .collect(),
    });
    if made.phrases.len() > 1 {
        text.push_str(&format!(
            "\nAny {} of these {} phrases together are the way back: give them to different people.\n",
            made.threshold,
            made.phrases.len()
        ));
    }
    if in_file.is_none() {
        text.push_str(
            "\nNext:  meshnode recovery check   type the phrase back once; then it is forgotten here\n       \
             meshnode invite           let the next machine in\n",
        );
    } else {
        text.push_str("\nNext:  meshnode invite           let the next machine in\n");
    }
    text
}

/// The twelve words, numbered, four a line.
/// What `init` would make.
pub(crate) fn would_init(request: &InitRequest) -> String {
    let name = request.name.as_ref();
    let name = name.map_or("a network", NetworkName::as_str);
    let range = request.ipv4_range.as_deref();
    let range = range.unwrap_or("100.64.0.0/10, or another if that is taken here");
    let (of, threshold) = request.recovery;
    let phrases = match of {
        1 => "one recovery phrase".to_owned(),
        _ => format!("{of} recovery phrases, {threshold} of which must come together"),
    };
    format!(
        "Would make {name}: this machine as {}, its first node and admin; addresses of {range}; \
         {phrases}.\nNothing is made.\n",
        request.node_name
    )
}

fn phrase(words: &str) -> String {
    let words: Vec<&str> = words.split_whitespace().collect();
    let mut text = String::from(
        "Recovery phrase. Write it on paper: it is the way back if every admin machine is lost,\n\
         and whoever reads it owns the network.\n\n",
    );
    for (row, four) in words.chunks(4).enumerate() {
        let cells: Vec<String> = four
            .iter()
            .enumerate()
            .map(|(at, word)| format!("{:>4} {:<9}", row * 4 + at + 1, clean(word)))
            .collect();
        text.push_str(&format!("{}\n", cells.join("").trim_end()));
    }
    text
}

fn addresses(this: &Membership, here: &Here) -> String {
    let mut text = String::new();
    match this.ipv4 {
        Some(ipv4) => text.push_str(&format!(
            "  address    {ipv4}\n             {}\n",
            this.ipv6
        )),
        None => text.push_str(&format!("  address    {}\n", this.ipv6)),
    }
    text.push_str(&format!(
        "  at boot    no: type \"{}\" after a restart\n",
        here.up_command
    ));
    if let Some(operator) = &here.operator {
        text.push_str(&format!(
            "  operator   {}: no sudo from now on\n",
            clean(operator)
        ));
    }
    text
}

/// `recovery`: how the way back stands.
pub(crate) fn recovery(facts: &RecoveryFacts) -> String {
    let need = if facts.of == 1 {
        "One recovery phrase is the way back.".to_owned()
    } else {
        format!(
            "{} of {} recovery phrases are the way back.",
            facts.threshold, facts.of
        )
    };
    let kept = if facts.kept {
        "Nobody typed it back yet: it is still kept on this machine (meshnode recovery check).\n"
    } else {
        "It is not kept on this machine.\n"
    };
    format!("{need}\n{kept}")
}

/// Before the code line: for how many, until when, what to type.
pub(crate) fn invite_head(invited: &Invited, ttl_ms: u64) -> String {
    let machines = match invited.uses {
        1 => "one machine".to_owned(),
        uses => format!("{uses} machines"),
    };
    let until = units::local_time(invited.expires);
    let span = units::span_s(ttl_ms / 1_000);
    let approve = if invited.approve {
        "; an admin approves each"
    } else {
        ""
    };
    let Some(id) = invited.id else {
        return format!("Would sign an invite: {machines}, until {until} ({span}){approve}.\n");
    };
    let id: String = id.to_string().chars().take(4).collect();
    format!(
        "Invite {}: {machines}, until {until} ({span}){approve}.\n\
         On the new machine type \"sudo meshnode join\" and paste:\n\n",
        id.to_uppercase()
    )
}

/// After the code line: where it works, who holds it.
pub(crate) fn invite_tail(invited: &Invited, spelled: bool) -> String {
    let held_elsewhere = invited.heard > 0;
    let mut text = match (&invited.via, invited.hints.first()) {
        (Some(via), Some(hint)) if held_elsewhere && !is_by_relay(hint) => format!(
            "Works from anywhere: {} answers, even while this machine is off.\n",
            clean(via.as_str())
        ),
        (Some(relay), Some(hint)) if is_by_relay(hint) => format!(
            "Works on this LAN; elsewhere by volunteer relay {}.\n",
            clean(relay.as_str())
        ),
        (_, Some(hint)) => format!(
            "Works from anywhere: the code says to ask at {}.\n",
            clean(hint)
        ),
        (_, None) => format!(
            "Works on this LAN only: no node of {} can be reached from outside.\n",
            invited.network
        ),
    };
    if invited.of > 0 {
        let nodes = format!("{} of {} nodes", invited.heard, invited.of);
        text.push_str(&if held_elsewhere {
            format!("Heard by {nodes}: any of them can let the machine in.\n")
        } else {
            format!("Heard by {nodes}: until another hears it, this machine must be on.\n")
        });
    }
    if !spelled {
        text.push_str("By telephone?  meshnode invite --spell\n");
    }
    text
}

fn is_by_relay(hint: &str) -> bool {
    Hint::parse(hint).is_ok_and(|hint| hint.member().is_some())
}

/// A step of a join.
pub(crate) fn progress(step: &Progress, took_ms: u64, network: &str, wish: &NodeName) -> String {
    match step {
        Progress::Found { name, remote, lan } => {
            let who = name
                .as_ref()
                .map_or("a member".to_owned(), |name| clean(name.as_str()));
            let place = if *lan {
                "on this LAN".to_owned()
            } else {
                format!("at {}", clean(remote))
            };
            format!("Found {who} {place} ({}).\n", units::span_ms(took_ms))
        }
        Progress::Waiting { fingerprint } => format!(
            "Waiting for an admin of {network} to approve {wish}. Fingerprint: {}\n",
            clean(fingerprint)
        ),
    }
}

/// After `join`.
pub(crate) fn joined(joined: &Joined, took_ms: u64, here: &Here) -> String {
    let this = &joined.this;
    let took = units::span_ms(took_ms);
    let mut text = format!("Joined {} as {} ({took}).\n", this.network, this.name);
    if let Some(wished) = &joined.wished {
        text.push_str(&format!(
            "The name {wished} was taken: this machine is {}.\n",
            this.name
        ));
    }
    if !joined.settled {
        text.push_str(
            "An admin will confirm this by itself; until then: provisional (works already).\n",
        );
    }
    format!("{text}\n{}", addresses(this, here))
}

/// After `join` where nothing was to do.
pub(crate) fn already(joined: &Joined) -> String {
    let this = &joined.this;
    format!(
        "Already in {} as {}. Nothing to do; the invite was not used.\n",
        this.network, this.name
    )
}

#[cfg(test)]
mod tests;
