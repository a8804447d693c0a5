//! Who is meant: an immutable snapshot of all peers, looked up by address, receiver index and key.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use meshnode_protocol::id::WireGuardKey;

use super::peer::Peer;

/// The tag on a peer's probes.
pub(crate) type ProbeTag = [u8; 8];

/// All peers at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Router {
    by_key: BTreeMap<WireGuardKey, Entry>,
    by_index: BTreeMap<u32, Arc<Peer>>,
    by_address: BTreeMap<IpAddr, Arc<Peer>>,
    probe_tags: BTreeSet<ProbeTag>,
    own: Option<Vec<IpAddr>>,
}

#[derive(Clone, Debug)]
struct Entry {
    peer: Arc<Peer>,
    allowed: Vec<IpAddr>,
    probe_tag: Option<ProbeTag>,
}

impl Router {
    /// The peer that has this address.
    pub(crate) fn by_address(&self, address: IpAddr) -> Option<&Arc<Peer>> {
        self.by_address.get(&address)
    }

    /// The peer whose sessions have this receiver index.
    pub(crate) fn by_receiver(&self, receiver: u32) -> Option<&Arc<Peer>> {
        self.by_index.get(&(receiver >> 8))
    }

    /// The peer of a key.
    pub(crate) fn by_key(&self, key: WireGuardKey) -> Option<&Arc<Peer>> {
        self.by_key.get(&key).map(|entry| &entry.peer)
    }

    /// All peers, by key.
    pub(crate) fn peers(&self) -> impl Iterator<Item = &Arc<Peer>> {
        self.by_key.values().map(|entry| &entry.peer)
    }

    /// Whether no peer has this index, so that a new one may.
    pub(crate) fn index_is_free(&self, index: u32) -> bool {
        !self.by_index.contains_key(&index)
    }

    /// Whether an inner packet from `peer` may say that it comes from `source`: hosts are the most specific routes, so
    /// the address must be the peer's own and nobody else's.
    pub(crate) fn owns(&self, peer: &Arc<Peer>, source: IpAddr) -> bool {
        self.by_address(source)
            .is_some_and(|owner| Arc::ptr_eq(owner, peer))
    }

    /// Whether a peer's probes have this tag.
    pub(crate) fn knows_probe(&self, tag: &ProbeTag) -> bool {
        self.probe_tags.contains(tag)
    }

    /// Whether packets to this address may come in.
    pub(crate) fn is_ours(&self, destination: IpAddr) -> bool {
        self.own
            .as_ref()
            .is_none_or(|own| own.contains(&destination))
    }

    /// This router with a peer added or changed.
    pub(crate) fn with(
        &self,
        peer: Arc<Peer>,
        allowed: Vec<IpAddr>,
        probe_tag: Option<ProbeTag>,
    ) -> Self {
        let mut router = self.clone();
        router.by_index.insert(peer.index(), Arc::clone(&peer));
        let entry = Entry {
            peer: Arc::clone(&peer),
            allowed,
            probe_tag,
        };
        router.by_key.insert(peer.key(), entry);
        router.pin();
        router
    }

    /// This router without a peer.
    pub(crate) fn without(&self, key: WireGuardKey) -> Self {
        let mut router = self.clone();
        if let Some(entry) = router.by_key.remove(&key) {
            router.by_index.remove(&entry.peer.index());
            router.pin();
        }
        router
    }

    /// This router without any peer.
    pub(crate) fn bare(&self) -> Self {
        Self {
            own: self.own.clone(),
            ..Self::default()
        }
    }

    /// This router with these addresses as the node's own.
    pub(crate) fn with_own(&self, own: Vec<IpAddr>) -> Self {
        Self {
            own: Some(own),
            ..self.clone()
        }
    }

    /// An address that two peers claim is the one's with the smaller key, in whatever order they came.
    fn pin(&mut self) {
        self.by_address.clear();
        self.probe_tags.clear();
        for entry in self.by_key.values() {
            self.probe_tags.extend(entry.probe_tag);
            for address in &entry.allowed {
                self.by_address
                    .entry(*address)
                    .or_insert_with(|| Arc::clone(&entry.peer));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::filter::tests::{device, open};
    use super::super::peer::Identity;
    use super::*;
    use meshnode_protocol::peering::{PeerConfig, Roaming};

    fn peer(key: u8, index: u32) -> Arc<Peer> {
        let config = PeerConfig {
            key: WireGuardKey::new([key; 32]),
            device: device(key),
            allowed_ips: vec![],
            roaming: Roaming::Told,
            keepalive_s: 0,
            probe_tag: None,
        };
        Arc::new(Peer::new(
            &Identity::new([9; 32]),
            index,
            &config,
            open(key),
        ))
    }

    fn host(last: u8) -> IpAddr {
        IpAddr::from([100, 64, 0, last])
    }

    #[test]
    fn a_packet_must_come_from_an_address_of_its_own_peer() {
        let (first, second) = (peer(1, 1), peer(2, 2));
        let router = Router::default()
            .with(Arc::clone(&first), vec![host(1)], None)
            .with(Arc::clone(&second), vec![host(2)], None);
        assert!(router.owns(&first, host(1)));
        assert!(!router.owns(&first, host(2)));
        assert!(!router.owns(&first, host(3)));
    }

    #[test]
    fn a_contested_address_has_one_owner_whatever_the_order() {
        let (first, second) = (peer(1, 1), peer(2, 2));
        let one = Router::default()
            .with(Arc::clone(&first), vec![host(1)], None)
            .with(Arc::clone(&second), vec![host(1)], None);
        let other = Router::default()
            .with(Arc::clone(&second), vec![host(1)], None)
            .with(Arc::clone(&first), vec![host(1)], None);
        assert!(one.owns(&first, host(1)) && other.owns(&first, host(1)));
        assert!(one.without(first.key()).owns(&second, host(1)));
    }

    #[test]
    fn a_removed_peer_is_found_by_nothing() {
        let gone = peer(1, 7);
        let router = Router::default()
            .with(Arc::clone(&gone), vec![host(1)], None)
            .without(gone.key());
        assert!(router.by_address(host(1)).is_none());
        assert!(router.by_receiver(7 << 8).is_none());
        assert!(router.by_key(gone.key()).is_none());
        assert!(router.index_is_free(7));
    }

    #[test]
    fn changed_addresses_replace_the_old_ones() {
        let peer = peer(1, 1);
        let router = Router::default()
            .with(Arc::clone(&peer), vec![host(1)], None)
            .with(Arc::clone(&peer), vec![host(2)], None);
        assert!(router.by_address(host(1)).is_none());
        assert!(router.owns(&peer, host(2)));
    }

    #[test]
    fn a_probe_is_known_by_its_peers_newest_tag_until_the_peer_goes() {
        let peer = peer(1, 1);
        let first = Router::default().with(Arc::clone(&peer), vec![host(1)], Some([1; 8]));
        assert!(first.knows_probe(&[1; 8]) && !first.knows_probe(&[2; 8]));
        let second = first.with(Arc::clone(&peer), vec![host(1)], Some([2; 8]));
        assert!(second.knows_probe(&[2; 8]) && !second.knows_probe(&[1; 8]));
        assert!(!second.without(peer.key()).knows_probe(&[2; 8]));
    }
}
