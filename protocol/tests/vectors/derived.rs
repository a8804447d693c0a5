//! What is derived and never read: ids, tags, digests, addresses.

use argon2::{Algorithm, Argon2, Params, Version};
use meshnode_protocol::address::ipv6;
use meshnode_protocol::epochs::Epochs;
use meshnode_protocol::identity::Secret;
use meshnode_protocol::invite::{InviteCode, InviteSecret, locator};
use meshnode_protocol::join::fingerprint;
use meshnode_protocol::ledger::{Change, Ledger};
use meshnode_protocol::recovery::RecoveryPhrase;
use meshnode_protocol::seal::{Purpose, Sealer, gossip_topic};
use meshnode_protocol::view::View;
use meshnode_protocol::wire::Items;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};

use crate::Vector;
use crate::cast::{NETWORK, channel, epoch, founder, invite_keys, joiner, time};
use crate::messages::the_proof;
use crate::{ops, records};

const CODE: &str = "20010-81G81-860W4-0JWVG";
const PHRASE: &str = "abandon amount liar amount expire adjust cage candy arch gather drum buyer";

/// Set roots and view digest of a ledger with an op, an admit's invite and a record.
fn ledger() -> Vec<Vector> {
    let (genesis, realm) = NETWORK.clone();
    let mut ledger = Ledger::new(genesis, realm);
    let mut epochs = Epochs::default();
    epochs.insert(0, epoch());
    let items = Items {
        ops: vec![
            ops::grant().bytes().to_vec(),
            ops::invite().bytes().to_vec(),
        ],
        admits: vec![ops::admit().bytes().to_vec()],
        records: vec![Sealer::new(&epoch(), Purpose::Record).seal(records::node().bytes())],
    };
    let change: Change = ledger.insert(&items, &epochs);
    assert_eq!((change.refused, change.held), (0, false));
    let roots = ledger.summary().roots;
    let view = View::compute(&ledger.authority, &ledger.records.left(), time(100));
    vec![
        Vector::derived("root-ops", roots[0].as_bytes()),
        Vector::derived("root-admits", roots[1].as_bytes()),
        Vector::derived("root-records", roots[2].as_bytes()),
        Vector::derived("view-digest", view.digest().as_bytes()),
    ]
}

/// All of this room.
pub(crate) fn all() -> Vec<Vector> {
    let genesis = NETWORK.1.genesis;
    let code = InviteCode::parse(CODE).unwrap().secret().stretch();
    let root = RecoveryPhrase::parse(PHRASE).unwrap().root_key();
    let device = joiner().node();
    let mut all = vec![
        Vector::derived("network-id", genesis.network().as_bytes()),
        Vector::derived("code-key", code.public().as_bytes()),
        Vector::derived("code-rendezvous", code.rendezvous),
        Vector::derived("code-psk", code.psk),
        Vector::derived("phrase-root-key", root.public().as_bytes()),
        Vector::derived("locator", locator(&invite_keys().rendezvous)),
        Vector::derived("channel-hash", channel().as_bytes()),
        Vector::derived("transcript-hash", the_proof().1.as_bytes()),
        Vector::derived("fingerprint", fingerprint(&device)),
        Vector::derived("epoch-commitment", epoch().commitment().as_bytes()),
        Vector::derived("gossip-topic", gossip_topic(&epoch())),
        Vector::derived("ipv6", ipv6(&genesis, &founder().node()).octets()),
    ];
    all.extend(ledger());
    all
}

/// From the document alone (§2.3, §6.1): another library call, the same keys.
#[test]
fn invite_kdf_vector() {
    let mut random = ChaCha20Rng::from_seed([5; 32]);
    let keys = InviteSecret::generate(&mut random.clone()).stretch();
    let mut secret = [0; 10];
    random.fill_bytes(&mut secret);
    let cost = Params::new(19 * 1024, 2, 1, Some(32)).unwrap();
    let mut stretched = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, cost)
        .hash_password_into(&secret, b"meshnode invite v1", &mut stretched)
        .unwrap();
    let derived = |context| blake3::derive_key(context, &stretched);
    assert_eq!(keys.psk, derived("meshnode invite psk 1"));
    assert_eq!(keys.rendezvous, derived("meshnode invite rendezvous 1"));
    let key = Secret::from_seed(&derived("meshnode invite key 1"));
    assert_eq!(keys.key.public(), key.public());
}
