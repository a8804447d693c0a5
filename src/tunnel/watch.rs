//! Waits for what can be read.

use std::os::fd::BorrowedFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    Ready,
    Late,
    Stopped,
}

/// Descriptors that are waited on together.
#[derive(Debug)]
pub(crate) struct Watch<'a>(Vec<PollFd<'a>>);

impl<'a> Watch<'a> {
    /// `stopped` reads end-of-file when there is nothing to wait for any more.
    pub(crate) fn new(
        stopped: BorrowedFd<'a>,
        fds: impl IntoIterator<Item = BorrowedFd<'a>>,
    ) -> Self {
        let all = [stopped].into_iter().chain(fds);
        Self(all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect())
    }

    /// Waits until one of the descriptors can be read, the time is over, or the end.
    pub(crate) fn wait(&mut self, timeout_ms: Option<u16>) -> Wake {
        let timeout = timeout_ms.map_or(PollTimeout::NONE, PollTimeout::from);
        let ready = poll(&mut self.0, timeout);
        if self.0[0].any() != Some(false) {
            return Wake::Stopped;
        }
        match ready {
            Ok(0) => Wake::Late,
            Ok(_) => Wake::Ready,
            // A signal; the caller finds nothing to read and waits again.
            Err(_) if timeout_ms.is_some() => Wake::Late,
            Err(_) => Wake::Ready,
        }
    }

    /// Whether the last wait found something to read there.
    pub(crate) fn is_ready(&self, number: usize) -> bool {
        self.0[number + 1].any() != Some(false)
    }
}
