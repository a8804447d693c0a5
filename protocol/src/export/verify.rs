//! Believes of an export what holds from the genesis on: every byte, signature and rule, and the one order.

use super::{Export, ExportError, Fault, Plane};
use crate::authority::{AdmitInserted, Authority, AuthorityError, Inserted};
use crate::claim::Admit;
use crate::codec::CodecError;
use crate::id::AdmitId;
use crate::op::{Op, OpError};
use crate::record::{Record, Slot};
use crate::records::{RecordInserted, Records};

/// What an export holds, once everything in it was proven.
#[derive(Debug)]
pub struct Verified {
    /// The ops and admits.
    pub authority: Authority,
    /// The records.
    pub records: Records,
}

impl Export<'_> {
    /// Checks everything: bytes, signatures, structure, order, and the hash last, so that what was changed is named.
    /// `progress` hears how many items are through.
    ///
    /// # Errors
    /// With the first item that is bad.
    pub fn verify(&self, mut progress: impl FnMut(usize)) -> Result<Verified, ExportError> {
        let mut authority = self.verify_ops(&mut progress)?;
        self.verify_admits(&mut authority, &mut progress)?;
        let records = self.verify_records(&authority, &mut progress)?;
        self.check_hash()?;
        Ok(Verified { authority, records })
    }

    fn verify_ops(&self, progress: &mut impl FnMut(usize)) -> Result<Authority, ExportError> {
        let none = Fault::from(AuthorityError::Op(OpError::Codec(CodecError::Malformed)));
        let first = self.ops.first().ok_or_else(|| bad(Plane::Op, 0, none))?;
        let (genesis, realm) = Op::parse_genesis(first)
            .map_err(|error| bad(Plane::Op, 0, AuthorityError::Op(error)))?;
        let mut ids = vec![genesis.id()];
        let mut authority = Authority::found(genesis, realm);
        for (at, bytes) in self.ops.iter().enumerate().skip(1) {
            let inserted = authority
                .insert_op(bytes)
                .map_err(|error| bad(Plane::Op, at, error))?;
            match inserted {
                // Nothing is ever held here, so an op brings only itself. One that fills its stub came before.
                Inserted::Added(added) => match added.as_slice() {
                    [id] if authority.op_count() == ids.len() + 1 => ids.push(*id),
                    _ => return Err(bad(Plane::Op, at, Fault::Superfluous)),
                },
                Inserted::Known => return Err(bad(Plane::Op, at, Fault::Superfluous)),
                Inserted::Held => return Err(bad(Plane::Op, at, Fault::ParentMissing)),
            }
            progress(at + 1);
        }
        let misplaced = {
            let mut due = authority.ops().map(Op::id);
            ids.iter().position(|id| due.next() != Some(*id))
        };
        match misplaced {
            Some(at) => Err(bad(Plane::Op, at, Fault::Misplaced)),
            None => Ok(authority),
        }
    }

    fn verify_admits(
        &self,
        authority: &mut Authority,
        progress: &mut impl FnMut(usize),
    ) -> Result<(), ExportError> {
        let mut last: Option<AdmitId> = None;
        for (at, bytes) in self.admits.iter().enumerate() {
            let inserted = authority
                .insert_admit(bytes)
                .map_err(|error| bad(Plane::Admit, at, error))?;
            let id = Admit::id_of(bytes);
            match inserted {
                AdmitInserted::Added { dropped: None } => {}
                AdmitInserted::Added { dropped: Some(_) }
                | AdmitInserted::Known
                | AdmitInserted::NotKept => {
                    return Err(bad(Plane::Admit, at, Fault::Superfluous));
                }
            }
            if last.is_some_and(|last| last >= id) {
                return Err(bad(Plane::Admit, at, Fault::Misplaced));
            }
            last = Some(id);
            progress(self.ops.len() + at + 1);
        }
        Ok(())
    }

    fn verify_records(
        &self,
        authority: &Authority,
        progress: &mut impl FnMut(usize),
    ) -> Result<Records, ExportError> {
        let network = authority.network();
        let mut records = Records::default();
        let mut last: Option<Slot> = None;
        for (at, bytes) in self.records.iter().enumerate() {
            let record = Record::parse(bytes, &network)
                .map_err(|error| bad(Plane::Record, at, Fault::Record(error)))?;
            let slot = record.slot();
            if !authority.names(&slot.device) {
                return Err(bad(Plane::Record, at, Fault::Stranger(slot.device)));
            }
            if last.is_some_and(|last| last >= slot) {
                return Err(bad(Plane::Record, at, Fault::Misplaced));
            }
            match records.put(record) {
                RecordInserted::Newest { evicted: None, .. } => {}
                RecordInserted::Newest { .. } | RecordInserted::Stale => {
                    return Err(bad(Plane::Record, at, Fault::Superfluous));
                }
            }
            last = Some(slot);
            progress(self.ops.len() + self.admits.len() + at + 1);
        }
        Ok(records)
    }
}

fn bad(plane: Plane, at: usize, fault: impl Into<Fault>) -> ExportError {
    ExportError::Item {
        plane,
        number: at + 1,
        fault: fault.into(),
    }
}
