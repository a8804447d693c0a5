//! `meshnode relay add`, `remove`, `list`: the relays of a network.

use std::net::SocketAddr;

use meshnode_protocol::invite::Host;
use meshnode_protocol::name::NodeName;

use super::test::{self, RelayAddress};
use crate::cli::session::{Session, unexpected};
use crate::config::place::Place;
use crate::control::relays::RelayAsk;
use crate::control::{Request, Response};
use crate::failure::{Exit, Failure};
use crate::output::{self, relay};

#[derive(Debug, clap::Args)]
pub(crate) struct AddArgs {
    /// As a relay prints it: KEY@HOST:PORT
    #[arg(value_name = "ADDRESS", value_parser = test::parse)]
    address: RelayAddress,
    /// What to call it here; the begin of its host name when not given
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    name: Option<NodeName>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RemoveArgs {
    /// As relay list shows it
    #[arg(value_name = "NAME", value_parser = parse_name)]
    name: NodeName,
}

/// Looks whether the relay answers with the key of its address, then names it to the network.
pub(crate) fn add(args: AddArgs, session: &Session) -> Result<Exit, Failure> {
    let place = session.place()?;
    let found = test::find(&args.address)?;
    let key = found.seen.key;
    let host = match args.address.place().host() {
        Host::Name(name) => name.split('.').next().unwrap_or_default().to_owned(),
        Host::V4(_) | Host::V6(_) => String::new(),
    };
    let name = args
        .name
        .map_or_else(|| usual_name(&host, &key.to_string()), Ok)?;
    let addresses: Vec<SocketAddr> = found.addresses.into_iter().take(ADDRESSES_MAX).collect();
    let ask = RelayAsk::Add {
        key,
        name: name.clone(),
        addresses,
    };
    let changed = change(ask, session, &place)?;
    if session.style.json {
        output::data(&relay::changed_json(name.as_str(), changed))?;
    }
    let text = if changed {
        format!("{name} is a relay of this network now.\n")
    } else {
        format!("{name} was a relay of this network already.\n")
    };
    output::talk(session.style, &text);
    Ok(Exit::Done)
}

/// Names a relay no more.
pub(crate) fn remove(args: RemoveArgs, session: &Session) -> Result<Exit, Failure> {
    let place = session.place()?;
    let name = args.name;
    let changed = change(RelayAsk::Remove { name: name.clone() }, session, &place)?;
    if session.style.json {
        output::data(&relay::changed_json(name.as_str(), changed))?;
    }
    let text = if changed {
        format!("{name} is no relay of this network any more.\n")
    } else {
        format!("{name} was no relay of this network.\n")
    };
    output::talk(session.style, &text);
    Ok(Exit::Done)
}

/// Shows the relays of the network.
pub(crate) fn list(session: &Session) -> Result<Exit, Failure> {
    let place = session.place()?;
    let response = session
        .client(&place)?
        .ask(&Request::Relay(RelayAsk::List))?;
    let Response::Relays(relays) = response else {
        return Err(unexpected());
    };
    output::data(&relay::list(&relays, session.style))?;
    Ok(Exit::Done)
}

/// Shows what this node carries for its network. Where it is in none, no relay runs here at all.
pub(crate) fn carried(session: &Session, no_relay: Failure) -> Result<Exit, Failure> {
    let Ok(place) = session.place() else {
        return Err(no_relay);
    };
    let Ok(client) = session.client(&place) else {
        return Err(no_relay);
    };
    let Response::Carried(report) = client.ask(&Request::Carried)? else {
        return Err(unexpected());
    };
    output::data(&relay::carried(report.as_ref(), session.style))?;
    Ok(Exit::Done)
}

fn change(ask: RelayAsk, session: &Session, place: &Place) -> Result<bool, Failure> {
    let response = session.client(place)?.ask(&Request::Relay(ask))?;
    let Response::RelayChanged(changed) = response else {
        return Err(unexpected());
    };
    Ok(changed)
}

/// The begin of the host's name, or of the key where that is no name for a node.
fn usual_name(host: &str, key: &str) -> Result<NodeName, Failure> {
    let by_key = || format!("relay-{}", &key[..KEY_PART]);
    NodeName::parse(host)
        .or_else(|_| NodeName::parse(&by_key()))
        .map_err(|error| Failure::usage(error.to_string()))
}

fn parse_name(text: &str) -> Result<NodeName, String> {
    NodeName::parse(text).map_err(|error| error.to_string())
}

/// Addresses of one relay that a network is told.
const ADDRESSES_MAX: usize = 4;
/// Symbols of a key in a name.
const KEY_PART: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_is_called_by_its_host_or_where_that_is_no_name_by_its_key() {
        let name = |host| usual_name(host, "k7q2m9fdx4").unwrap().to_string();
        assert_eq!(name("oak"), "oak");
        assert_eq!(name("relay"), "relay-k7q2");
        assert_eq!(name(""), "relay-k7q2");
    }
}
