//! How calls by TCP get out of this site, and how that is told.

use std::collections::BTreeMap;
use std::path::Path;

use meshnode_protocol::id::TransportKey;
use meshnode_protocol::time::Moment;

use super::machine::Machine;
use crate::config::environment;
use crate::config::settings::{PROXY_ENVIRONMENT, PROXY_OFF, Settings};
use crate::control::netcheck::{ProxyReport, ProxyState, RoadReport};
use crate::control::report::{StatusReport, Tier};
use crate::failure::{Exit, Failure};
use crate::swarm::{Certificate, Proxy, Road, Travelled, Trouble};

/// The certificate of the state directory. One that cannot be read is no reason to stop: nobody trusts it anyway.
///
/// # Errors
/// When the system gives no randomness.
pub(super) fn certificate(dir: &Path) -> Result<Certificate, Failure> {
    let kept = Certificate::of(dir).inspect_err(|error| {
        let error = format!("{error:#}");
        tracing::warn!(error, "a certificate for TLS is made for now");
    });
    kept.or_else(|_| Certificate::passing())
        .map_err(|error| Failure::new(Exit::Refused, "certificate", format!("{error:#}")))
}

/// The proxy in force.
pub(super) fn proxy(settings: &Settings) -> Option<Proxy> {
    let said = settings.proxy();
    let parsed = match said.as_str() {
        PROXY_OFF => return None,
        PROXY_ENVIRONMENT => {
            let (proxy, but) = environment::proxy()?;
            Proxy::parse(&proxy, &but)
        }
        place => Proxy::parse(place, &environment::no_proxy()),
    };
    parsed
        .inspect_err(|error| tracing::warn!(error, "the proxy is not used"))
        .ok()
}

/// What came of the proxy.
pub(super) fn proxy_report(proxy: &Proxy, travelled: &Travelled) -> ProxyReport {
    let state = match travelled.proxy {
        None => ProxyState::Unasked,
        Some(Ok(())) => ProxyState::Leads,
        Some(Err(Trouble::Silent)) => ProxyState::Silent,
        Some(Err(Trouble::Credentials)) => ProxyState::Credentials,
        Some(Err(Trouble::Refused(status))) => ProxyState::Refuses(status),
        Some(Err(Trouble::NoProxy)) => ProxyState::NoProxy,
    };
    ProxyReport {
        place: proxy.place(),
        state,
    }
}

/// Says by which roads the paths over links go.
pub(super) fn tell(report: &mut StatusReport, machine: &Machine, now: Moment) {
    let peers = machine.travelled().peers;
    let around = machine.node.surroundings(now);
    let relays = around.map(|around| around.relays).unwrap_or_default();
    let relays = relays.into_iter().map(|relay| (relay.name, relay.key));
    let by_name: BTreeMap<_, _> = relays.collect();
    let members = peers
        .keys()
        .filter_map(|key| Some((machine.node.member_of(key)?, *key)));
    let by_node: BTreeMap<_, _> = members.collect();
    for peer in &mut report.peers {
        let Some(path) = peer.path.as_mut().filter(|path| path.tier == Tier::Circuit) else {
            continue;
        };
        let key = match &path.via {
            Some(relay) => by_name.get(relay),
            None => by_node.get(&peer.member.id),
        };
        path.road = key.and_then(|key| road(&peers, key));
    }
}

/// How a peer is called.
pub(super) fn road(peers: &BTreeMap<TransportKey, Road>, key: &TransportKey) -> Option<RoadReport> {
    peers.get(key).map(|road| match road {
        Road::Tcp => RoadReport::Tcp,
        Road::Tls => RoadReport::Tls,
        Road::Proxy => RoadReport::Proxy,
    })
}
