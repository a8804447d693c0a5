//! The pure core of meshnode: it decides, and does no I/O.
//!
//! No clock, socket, file, task or ambient randomness is in here. A [`node::Node`] takes inputs and the moment of
//! each, and gives outputs; the daemon carries them to libp2p, the engine, the store and the terminal, the simulations
//! carry the very same machines through virtual time.
//!
//! From the ground up:
//!
//! - words: [`id`], [`time`], [`name`], [`limits`], [`codec`], [`identity`];
//! - what is signed: [`op`] with its [`body`], [`claim`] (and admit), [`record`];
//! - what counts: [`structure`] admits, [`authority`] stores, [`view`] decides, [`address`] names, [`access`] allows;
//! - codes and seals: [`invite`], [`recovery`], [`seal`], [`locator`], [`epochs`], [`custody`];
//! - between nodes: [`wire`], [`reconcile`], [`ledger`], [`pull`], [`join`], [`link`];
//! - ways: [`probe`], [`path`], [`paths`], [`peering`], [`relay`];
//! - in one file, and told: [`export`], [`history`];
//! - the machine that ties them: [`node`], with its words in [`io`].

pub mod access;
pub mod address;
pub mod authority;
pub mod body;
pub mod claim;
pub mod codec;
pub mod custody;
pub mod epochs;
pub mod export;
pub mod history;
pub mod id;
pub mod identity;
pub mod invite;
pub mod io;
pub mod join;
pub mod ledger;
pub mod limits;
pub mod link;
pub mod locator;
pub mod name;
pub mod node;
pub mod op;
pub mod path;
pub mod paths;
pub mod peering;
pub mod policy;
pub mod probe;
pub mod pull;
pub mod quota;
pub mod reconcile;
pub mod record;
pub mod records;
pub mod recovery;
pub mod relay;
pub mod seal;
mod stretch;
pub mod structure;
pub mod stun;
pub mod time;
pub mod view;
pub mod wire;
