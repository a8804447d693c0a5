//! The libp2p behaviours of a node and their settings: what differs from the defaults, and why.

use std::time::Duration;

use libp2p::identity::{Keypair, PublicKey};
use libp2p::request_response::ProtocolSupport;
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{
    PeerId, StreamProtocol, connection_limits, gossipsub, identify, kad, mdns, relay,
    request_response,
};
use meshnode_protocol::limits::{
    GOSSIP_BYTES_MAX, JOIN_BYTES_MAX, MESSAGE_BYTES_MAX, PUSH_BYTES_MAX,
};
use meshnode_protocol::link::Service;
use meshnode_protocol::seal::SEAL_OVERHEAD_BYTES;

use super::circuits::{self, Circuits};
use super::codec::BytesCodec;
use super::datagrams::Datagrams;
use super::deposits::{DEPOSIT_TIME, Deposits};
use super::gate::Gate;
use super::guard::Guard;
use super::leash::Leash;
use super::pulse::Pulse;
use crate::carrier::Carrier;

type Filter = gossipsub::MaxCountSubscriptionFilter<gossipsub::AllowAllSubscriptionFilter>;
pub(super) type Gossip = gossipsub::Behaviour<gossipsub::IdentityTransform, Filter>;
pub(super) type Asking = request_response::Behaviour<BytesCodec>;

/// Everything that a node speaks. The order matters: `limits` and `guard` refuse a connection before the others, which
/// do not all forget a connection that a later one refuses.
#[derive(NetworkBehaviour)]
pub(super) struct Links {
    limits: connection_limits::Behaviour,
    pub(super) guard: Guard,
    identify: identify::Behaviour,
    mdns: Toggle<mdns::tokio::Behaviour>,
    pub(super) pulse: Pulse,
    pub(super) circuits: Circuits,
    pub(super) relay: Gate<relay::Behaviour>,
    pub(super) datagrams: Gate<Datagrams>,
    pub(super) dht: Leash<kad::Behaviour<Deposits>>,
    pub(super) gossip: Gate<Gossip>,
    pub(super) join: Asking,
    pub(super) hello: Asking,
    pub(super) sync: Asking,
    pub(super) push: Asking,
}

impl Links {
    pub(super) fn new(
        pair: &Keypair,
        client: relay::client::Behaviour,
        carrier: Carrier,
        mdns: bool,
    ) -> anyhow::Result<Self> {
        let own = pair.public().to_peer_id();
        Ok(Self {
            limits: limits(),
            guard: Guard::default(),
            identify: identify(pair.public()),
            mdns: announcer(mdns, own).into(),
            pulse: Pulse::default(),
            circuits: Circuits::new(client),
            relay: Gate::new(circuits::server(own, circuits::MEMBERS_ROOM)),
            datagrams: Gate::new(Datagrams::new(carrier)),
            dht: Leash::new(dht(own)),
            gossip: Gate::new(gossip()?),
            join: asking(Service::Join),
            hello: asking(Service::Hello),
            sync: asking(Service::Sync),
            push: asking(Service::Push),
        })
    }

    /// The behaviour that speaks a service.
    pub(super) const fn service(&mut self, service: Service) -> &mut Asking {
        match service {
            Service::Join => &mut self.join,
            Service::Hello => &mut self.hello,
            Service::Sync => &mut self.sync,
            Service::Push => &mut self.push,
        }
    }
}

fn limits() -> connection_limits::Behaviour {
    connection_limits::Behaviour::new(
        connection_limits::ConnectionLimits::default()
            .with_max_pending_incoming(Some(64))
            .with_max_established_incoming(Some(256))
            // Two directly and two by circuits, as `guard` allows each.
            .with_max_established_per_peer(Some(4)),
    )
}

/// Constant for all networks and versions; addresses are the core's affair, sealed in records.
pub(super) fn identify(key: PublicKey) -> identify::Behaviour {
    identify::Behaviour::new(
        identify::Config::new("/meshnode/1".to_owned(), key)
            .with_agent_version("meshnode".to_owned())
            .with_hide_listen_addrs(true)
            .with_push_listen_addr_updates(false)
            .with_cache_size(0),
    )
}

/// A machine without multicast still has a network: no announcer is no reason to stop.
fn announcer(wanted: bool, own: PeerId) -> Option<mdns::tokio::Behaviour> {
    let config = mdns::Config {
        query_interval: Duration::from_secs(30),
        ..Default::default()
    };
    wanted
        .then(|| mdns::tokio::Behaviour::new(config, own))?
        .inspect_err(|error| tracing::warn!(%error, "Local discovery is off"))
        .ok()
}

/// Everybody may put and get; what is kept, and for how long, is judged before it is stored. Nobody is added to the
/// table by itself: it is told to whoever asks.
fn dht(own: PeerId) -> kad::Behaviour<Deposits> {
    let mut config = kad::Config::new(StreamProtocol::new("/meshnode/kad/1"));
    config
        .set_kbucket_inserts(kad::BucketInserts::Manual)
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_record_ttl(Some(DEPOSIT_TIME))
        .set_max_packet_size(DHT_MESSAGE_BYTES_MAX)
        .set_caching(kad::Caching::Disabled)
        .set_replication_interval(None)
        .set_publication_interval(None)
        .set_provider_publication_interval(None)
        .set_periodic_bootstrap_interval(None)
        .set_query_timeout(Duration::from_secs(20));
    let mut dht = kad::Behaviour::with_config(own, Deposits::default(), config);
    dht.set_mode(Some(kad::Mode::Server));
    dht
}

/// A message carries no author; its id is its hash, so equal messages are one. Nothing is passed on before the core
/// judged it.
fn gossip() -> anyhow::Result<Gossip> {
    let config = gossipsub::ConfigBuilder::default()
        .validation_mode(gossipsub::ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(|message| blake3::hash(&message.data).as_bytes().to_vec().into())
        .max_transmit_size(GOSSIP_BYTES_MAX + GOSSIP_FRAME_BYTES)
        .flood_publish(true)
        .heartbeat_initial_delay(Duration::from_secs(1))
        .connection_handler_queue_len(256)
        .build()?;
    let filter = gossipsub::MaxCountSubscriptionFilter {
        filter: gossipsub::AllowAllSubscriptionFilter {},
        max_subscribed_topics: 8,
        max_subscriptions_per_request: 16,
    };
    Gossip::new_with_subscription_filter(gossipsub::MessageAuthenticity::Anonymous, config, filter)
        .map_err(anyhow::Error::msg)
}

fn asking(service: Service) -> Asking {
    let (question_bytes_max, streams_max) = match service {
        Service::Join => (JOIN_BYTES_MAX, 8),
        // Strangers speak it too, with questions as short as a join's. One each way, and one for a repetition.
        Service::Hello => (JOIN_BYTES_MAX + SEAL_OVERHEAD_BYTES, 3),
        Service::Sync => (MESSAGE_BYTES_MAX, 32),
        // Strangers speak it too; one message is all there is to say.
        Service::Push => (PUSH_BYTES_MAX, 2),
    };
    let codec = BytesCodec {
        question_bytes_max,
        answer_bytes_max: MESSAGE_BYTES_MAX,
    };
    request_response::Behaviour::with_codec(
        codec,
        [(StreamProtocol::new(service.name()), ProtocolSupport::Full)],
        request_response::Config::default()
            .with_request_timeout(Duration::from_secs(10))
            .with_max_concurrent_streams(streams_max),
    )
}

/// What gossipsub puts around a message: topic (64 symbols), lengths and tags.
const GOSSIP_FRAME_BYTES: usize = 256;
/// A value, and twenty DHT nodes with a few addresses each.
const DHT_MESSAGE_BYTES_MAX: usize = 8 * 1024;
