//! A network in one file: genesis, ops, admits and records as one node has them (`docs/protocol.md` §9.2).
//!
//! One stored set has one file. No secret is in it. [`Export`] cuts bytes into items and believes none of them;
//! [`Export::verify`] believes only what holds from the genesis on, and names the first item that does not.

mod verify;

use crate::authority::AuthorityError;
use crate::id::{Digest, NodeId};
use crate::identity::hash_as;
use crate::ledger::Ledger;
use crate::limits::{
    ADMIT_BYTES_MAX, EXPORT_BYTES_MAX, OP_POLICY_BASE_BYTES_MAX, RECORD_BYTES_MAX,
};
use crate::record::{Record, RecordError};

pub use self::verify::Verified;

const MAGIC: &[u8; 8] = b"mesh-set";
const VERSION: u16 = 1;
const CONTEXT: &str = "meshnode export 1";
/// Magic, version, three counts.
const HEAD_BYTES: usize = 8 + 2 + 3 * 4;
const HASH_BYTES: usize = 32;

/// Which of the three lists of a file an item is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plane {
    /// The ops, in op order.
    Op,
    /// The admits, by id.
    Admit,
    /// The records, by device, kind and sub.
    Record,
}

impl std::fmt::Display for Plane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Op => "op",
            Self::Admit => "admit",
            Self::Record => "record",
        })
    }
}

/// What is wrong with one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// An op or an admit that no node stores.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A record that no node stores.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// An op before one of its parents.
    #[error("a parent of it does not stand before it")]
    ParentMissing,
    /// The same again, or something that a node drops for another item of the file.
    #[error("it has no place beside the other items")]
    Superfluous,
    /// Not where the one order has it.
    #[error("it is not in its place")]
    Misplaced,
    /// A record of a device that nothing in the file names.
    #[error("nothing in the file names its device")]
    Stranger(NodeId),
}

/// Why bytes are no export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// It does not begin as one.
    #[error("it is no export of a network")]
    Magic,
    /// Made by another version.
    #[error("it is an export of version {0}, and this program reads version 1")]
    Version(u16),
    /// Longer than any export.
    #[error("it has {0} bytes, and an export has at most {EXPORT_BYTES_MAX}")]
    TooLong(usize),
    /// The lengths inside do not add up.
    #[error("it is cut off, or something stands behind its end")]
    Length,
    /// The hash at the end is not that of what stands before.
    #[error("the hash at its end does not fit: it was changed or damaged")]
    Hash,
    /// An item that does not hold.
    #[error("{plane} {number} is bad: {fault}")]
    Item {
        /// In which list.
        plane: Plane,
        /// Its place there, from 1.
        number: usize,
        /// What is wrong.
        fault: Fault,
    },
}

/// A file that is cut into its items. Nothing in it is proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export<'a> {
    /// The ops as bytes.
    pub ops: Vec<&'a [u8]>,
    /// The admits as bytes.
    pub admits: Vec<&'a [u8]>,
    /// The records as bytes.
    pub records: Vec<&'a [u8]>,
    whole: bool,
}

impl<'a> Export<'a> {
    /// Cuts a file into its items.
    ///
    /// # Errors
    /// When it is none, of another version, too long, or its lengths do not add up.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ExportError> {
        if !bytes.starts_with(MAGIC) {
            return Err(ExportError::Magic);
        }
        if bytes.len() > EXPORT_BYTES_MAX {
            return Err(ExportError::TooLong(bytes.len()));
        }
        let mut cutter = Cutter(&bytes[MAGIC.len()..]);
        let version = u16::from_le_bytes(cutter.array()?);
        if version != VERSION {
            return Err(ExportError::Version(version));
        }
        let counts = [cutter.number()?, cutter.number()?, cutter.number()?];
        let [ops, admits, records] = counts;
        let ops = cutter.items(ops, OP_POLICY_BASE_BYTES_MAX)?;
        let admits = cutter.items(admits, ADMIT_BYTES_MAX)?;
        let records = cutter.items(records, RECORD_BYTES_MAX)?;
        let hash = Digest::new(cutter.array()?);
        if !cutter.0.is_empty() {
            return Err(ExportError::Length);
        }
        Ok(Self {
            ops,
            admits,
            records,
            whole: hash == hash_as(CONTEXT, &bytes[..bytes.len() - HASH_BYTES]),
        })
    }

    /// Whether the hash at the end fits: the file is as it was written, by whomever.
    ///
    /// # Errors
    /// When it does not.
    pub const fn check_hash(&self) -> Result<(), ExportError> {
        if self.whole {
            Ok(())
        } else {
            Err(ExportError::Hash)
        }
    }

    /// How many items it has.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.ops.len() + self.admits.len() + self.records.len()
    }

    /// Whether it has no item at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The file of a stored set.
#[must_use]
pub fn write(ledger: &Ledger) -> Vec<u8> {
    let authority = &ledger.authority;
    let ops: Vec<&[u8]> = authority.ops().map(|op| &**op.bytes()).collect();
    let admits: Vec<&[u8]> = authority.admits().map(|admit| admit.bytes()).collect();
    let records: Vec<&[u8]> = ledger.records.iter().map(Record::bytes).collect();
    assemble(&ops, &admits, &records)
}

/// The file of these items in this order, whatever they are.
#[must_use]
pub fn assemble(ops: &[&[u8]], admits: &[&[u8]], records: &[&[u8]]) -> Vec<u8> {
    let lists = [ops, admits, records];
    let items = lists.iter().flat_map(|list| list.iter());
    let room: usize = items.map(|item| item.len() + 4).sum();
    let mut bytes = Vec::with_capacity(HEAD_BYTES + room + HASH_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    for list in lists {
        bytes.extend_from_slice(&(list.len() as u32).to_le_bytes());
    }
    for item in lists.into_iter().flatten() {
        bytes.extend_from_slice(&(item.len() as u32).to_le_bytes());
        bytes.extend_from_slice(item);
    }
    let hash = hash_as(CONTEXT, &bytes);
    bytes.extend_from_slice(hash.as_bytes());
    bytes
}

/// What is left of the bytes.
struct Cutter<'a>(&'a [u8]);

impl<'a> Cutter<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], ExportError> {
        let (front, rest) = self.0.split_first_chunk().ok_or(ExportError::Length)?;
        self.0 = rest;
        Ok(*front)
    }

    fn number(&mut self) -> Result<usize, ExportError> {
        let number = u32::from_le_bytes(self.array()?);
        usize::try_from(number).map_err(|_| ExportError::Length)
    }

    fn items(&mut self, count: usize, bytes_max: usize) -> Result<Vec<&'a [u8]>, ExportError> {
        let mut items = Vec::new();
        for _ in 0..count {
            let len = self.number()?;
            if len == 0 || len > bytes_max {
                return Err(ExportError::Length);
            }
            let (item, rest) = self.0.split_at_checked(len).ok_or(ExportError::Length)?;
            self.0 = rest;
            items.push(item);
        }
        Ok(items)
    }
}
