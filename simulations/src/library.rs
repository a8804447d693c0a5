//! What all machines of a world have in common, once: records that one of them has checked, and the bytes that many
//! disks hold.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use meshnode_protocol::id::Digest;
use meshnode_protocol::identity::hash;
use meshnode_protocol::record::Record;
use meshnode_protocol::records::Shelf;

/// Records that some machine has checked. A thousand machines hear the same three thousand records: each is checked
/// by the first that hears it, and all hold the one copy.
#[derive(Debug, Default)]
pub(crate) struct Library(Mutex<BTreeMap<Digest, Record>>);

impl Shelf for Library {
    fn take(&self, bytes: &[u8]) -> Option<Record> {
        let records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        records.get(&hash(bytes)).cloned()
    }

    fn put(&self, record: &Record) {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        records.insert(hash(record.bytes()), record.clone());
    }
}

/// Bytes that stand on many disks.
#[derive(Debug, Default)]
pub(crate) struct Pages(BTreeMap<Digest, Arc<[u8]>>);

impl Pages {
    /// The one copy of these bytes.
    pub(crate) fn shared(&mut self, bytes: &[u8]) -> Arc<[u8]> {
        let page = self.0.entry(hash(bytes));
        page.or_insert_with(|| bytes.into()).clone()
    }
}
