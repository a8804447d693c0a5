//! `init --from`: the policy and the names of an old network, out of an export.

use meshnode_protocol::export::Export;
use meshnode_protocol::node::{Former, Heritage, heritage};

use crate::cli::session::Session;
use crate::cli::verify::{bad, read};
use crate::config::place::Place;
use crate::control::acts::{Act, ActRequest};
use crate::control::policy::PolicyTold;
use crate::control::{Request, Response};
use crate::failure::{Exit, Failure};
use crate::output::{self, policy};

/// What the file has to give, once all of it is proven.
pub(super) fn open(file: &str) -> Result<Heritage, Failure> {
    let bytes = read(file)?;
    let export = Export::parse(&bytes).map_err(|error| bad(file, &error))?;
    let verified = export.verify(|_| ()).map_err(|error| bad(file, &error))?;
    Ok(heritage(&verified))
}

/// Gives the new network the old policy, and says what is left to do.
pub(super) fn settle(old: &Heritage, place: &Place, session: &Session) -> Result<(), Failure> {
    let mut said = String::new();
    if let Some(text) = &old.policy {
        set(text, place, session)?;
        said.push_str(&format!("\nThe policy of {} holds here.\n", old.network));
    }
    if !old.left_out.is_empty() {
        said.push_str("Left out, or less than it was, for it names nodes or addresses:\n");
        for line in &old.left_out {
            said.push_str(&format!("  {}\n", output::clean_text(line)));
        }
    }
    if !old.nodes.is_empty() {
        said.push_str("\nWhat lets each machine in under its name:\n");
        for node in &old.nodes {
            said.push_str(&format!("  {}\n", invite(node)));
        }
    }
    output::talk(session.style, &said);
    Ok(())
}

fn set(text: &str, place: &Place, session: &Session) -> Result<(), Failure> {
    let act = Act::PolicySet {
        text: text.to_owned(),
        expect: None,
    };
    let request = Request::Act(Box::new(ActRequest {
        act,
        dry_run: false,
        wait_ms: 0,
    }));
    let response = session.client(place)?.ask(&request)?;
    if let Response::Policy(PolicyTold::Checked(checked)) = &response {
        let text = format!(
            "the network is made, but the old policy does not hold here: {}",
            policy::first(checked)
        );
        return Err(Failure::new(Exit::Refused, "policy_faulty", text)
            .hint("meshnode policy edit writes another"));
    }
    Ok(())
}

fn invite(node: &Former) -> String {
    let mut line = format!("meshnode invite --name {}", node.name);
    if let Some(owner) = &node.owner {
        line.push_str(&format!(" --owner {}", output::clean(owner.as_str())));
    }
    for tag in &node.tags {
        line.push_str(&format!(" --tag {tag}"));
    }
    line
}
