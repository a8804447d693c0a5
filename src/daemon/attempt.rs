//! An `init` or a `join` that does not come to its end: what goes with it, and what stays for the next one.

use std::fmt;

use meshnode_protocol::custody::Custody;
use meshnode_protocol::invite::InviteCode;
use meshnode_protocol::io::Write;
use tokio::task::block_in_place;
use zeroize::Zeroizing;

use super::Daemon;
use crate::control::Response;
use crate::failure::{Exit, Failure};
use crate::store::{SledStore, Store, StoreError};

impl Daemon {
    /// Stops the machine; what the disk refused of its attempt is forgotten.
    pub(super) async fn give_up_attempt(&mut self) {
        if let Some(machine) = self.machine.take() {
            machine.stop().await;
        }
        if !self.disk_failed {
            return;
        }
        match block_in_place(|| forget(&mut self.store)) {
            Ok(()) => self.disk_failed = false,
            Err(error) => tracing::error!(%error, "an attempt's files could not be removed"),
        }
    }

    /// Another code takes the place of a join that runs, or that failed unseen. Who followed it is told.
    pub(super) async fn supersede_join(&mut self) {
        self.give_up_attempt().await;
        self.waiting.retain(|_, waiting| {
            if waiting.joins {
                let text = "another join took the place of this one";
                let failure = Failure::new(Exit::Refused, "superseded", text);
                let _gone = waiting.call.send(Response::Failed(failure));
            }
            !waiting.joins
        });
    }
}

/// Tells codes apart without keeping them: a hash of the symbols, however they were typed and whatever their hints.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct CodeMark(blake3::Hash);

impl CodeMark {
    pub(super) fn of(code: &InviteCode) -> Self {
        let symbols = Zeroizing::new(code.secret().code());
        Self(blake3::hash(symbols.as_bytes()))
    }
}

impl fmt::Debug for CodeMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CodeMark(..)")
    }
}

/// Erases an attempt, also what waits in memory for the disk. The keys of a join that are on the disk stay: if the
/// attempt got through at a member, the invite is spent on them.
fn forget(store: &mut SledStore) -> Result<(), StoreError> {
    let keys = store.load().ok().and_then(|stored| stored.secrets);
    let unfinished = |bytes: &[u8]| Custody::parse(bytes).is_ok_and(|custody| !custody.joined);
    store.erase()?;
    match keys.filter(|bytes| unfinished(bytes)) {
        Some(keys) => store.write(&[Write::Secrets(keys)], true),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use meshnode_protocol::id::OpId;
    use meshnode_protocol::identity::{Keys, Secret};

    use super::*;
    use crate::store::Opened;

    fn custody(joined: bool) -> Custody {
        let [device, transport, tunnel] = [7, 8, 9].map(|seed| Secret::from_seed(&[seed; 32]));
        let mut custody = Custody::new(&Keys {
            device,
            transport,
            tunnel,
        });
        custody.joined = joined;
        custody
    }

    fn waiting_op() -> Write {
        Write::Op(OpId::new([1; 32]), vec![1; 100])
    }

    #[test]
    fn what_waited_for_the_disk_does_not_come_back_after_a_failed_init() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = SledStore::open(dir.path()).unwrap();
        store
            .write(&[Write::Secrets(custody(true).to_bytes())], true)
            .unwrap();
        store.write(&[waiting_op()], false).unwrap();
        forget(&mut store).unwrap();
        store.write(&[], true).unwrap();
        drop(store);
        let (mut store, opened) = SledStore::open(dir.path()).unwrap();
        assert_eq!(opened, Opened::Fresh);
        assert!(store.load().unwrap().ops.is_empty());
    }

    #[test]
    fn the_keys_of_a_failed_join_stay_for_its_repetition_and_nothing_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = SledStore::open(dir.path()).unwrap();
        let keys = custody(false).to_bytes();
        store.write(&[Write::Secrets(keys.clone())], true).unwrap();
        store.write(&[waiting_op()], false).unwrap();
        forget(&mut store).unwrap();
        drop(store);
        let (mut store, _) = SledStore::open(dir.path()).unwrap();
        let stored = store.load().unwrap();
        assert_eq!(stored.secrets, Some(keys));
        assert!(stored.ops.is_empty());
    }

    #[test]
    fn a_code_is_the_same_however_it_is_typed_and_another_is_not() {
        let mark = |text: &str| CodeMark::of(&InviteCode::parse(text).unwrap());
        let code = mark("20010-81G81-860W4-0JWVG");
        assert_eq!(code, mark("2oolo81g81860w40jwvg@192.0.2.1:9"));
        assert_ne!(code, mark("20000-00000-00000-01ZT6"));
        assert_eq!(format!("{code:?}"), "CodeMark(..)");
    }
}
