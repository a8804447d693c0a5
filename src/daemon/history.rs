//! What was asked of the stored set: the history, all of it as a file, a file into it.

use meshnode_protocol::wire::Items;

use super::Daemon;
use crate::control::server::Call;
use crate::control::{Blob, ImportRequest, LogLine, RESPONSES_WAITING_MAX, Response, history};
use crate::failure::{Exit, Failure};

/// Parts that one answer is cut into at most: all of them wait for the caller at once.
const PARTS_MAX: usize = RESPONSES_WAITING_MAX / 2;
/// A part of a file is not smaller than this without need.
const PART_BYTES: usize = 64 * 1024;
/// The same for lines of the history.
const PART_LINES: usize = 256;

impl Daemon {
    /// Sends all that is stored.
    pub(super) fn export(&self, call: &Call) {
        let file = self.require_network().and_then(|()| {
            let machine = self.machine.as_ref();
            let file = machine.and_then(|machine| machine.node.export());
            file.ok_or_else(Failure::no_network)
        });
        let file = match file {
            Ok(file) => file,
            Err(failure) => {
                let _gone = call.send(Response::Failed(failure));
                return;
            }
        };
        let part = PART_BYTES.max(file.len().div_ceil(PARTS_MAX));
        let parts = file.chunks(part);
        let last = parts.len().saturating_sub(1);
        for (at, bytes) in parts.enumerate() {
            let (bytes, last) = (Blob(bytes.to_vec()), at == last);
            if call.send(Response::Exported { bytes, last }).is_err() {
                return;
            }
        }
    }

    /// Sends what happened, but the first ops that were stored here.
    pub(super) fn log(&self, call: &Call, skip: usize) {
        let told = self.require_network().and_then(|()| {
            let machine = self.machine.as_ref();
            let history = machine.and_then(|machine| machine.node.history(skip));
            history.ok_or_else(Failure::no_network)
        });
        let told = match told {
            Ok(told) => told,
            Err(failure) => {
                let _gone = call.send(Response::Failed(failure));
                return;
            }
        };
        let (ops, mut lines) = (told.ops, history::lines(&told).into_iter());
        let part = PART_LINES.max(lines.len().div_ceil(PARTS_MAX));
        loop {
            let next: Vec<LogLine> = lines.by_ref().take(part).collect();
            let last = lines.len() == 0;
            let response = Response::Log {
                lines: next,
                ops,
                last,
            };
            if call.send(response).is_err() || last {
                return;
            }
        }
    }

    /// The items of a file of this network.
    pub(super) fn items(&self, request: ImportRequest) -> Result<Items, Failure> {
        self.require_network()?;
        let here = self.this_member()?;
        if here.network_id != request.network {
            let text = format!(
                "the file is of the network {}, and this machine is in {} ({})",
                request.network.short(),
                here.network,
                here.network_id.short()
            );
            return Err(Failure::new(Exit::Refused, "other_network", text)
                .hint("meshnode verify FILE says what is in it"));
        }
        let bytes = |blobs: Vec<Blob>| blobs.into_iter().map(|blob| blob.0).collect();
        Ok(Items {
            ops: bytes(request.ops),
            admits: bytes(request.admits),
            records: bytes(request.records),
        })
    }
}
