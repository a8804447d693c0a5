//! Ctrl-C during a join: says what continues and ends with 130.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SigSet, Signal};

use super::launch::{self, Launched};
use crate::config::place::Place;
use crate::failure::Exit;
use crate::output;

/// From now on Ctrl-C ends the program with words. While the answered flag is set the daemon's join waits for
/// approval and goes on; else a daemon that this run started is stopped. Call it after the daemon was started:
/// children inherit the mask.
pub(crate) fn watch(launched: Launched, place: &Place) -> Arc<AtomicBool> {
    let waiting = Arc::new(AtomicBool::new(false));
    let mut interrupt = SigSet::empty();
    interrupt.add(Signal::SIGINT);
    if interrupt.thread_block().is_err() {
        return waiting;
    }
    let place = place.clone();
    let goes_on = Arc::clone(&waiting);
    std::thread::spawn(move || {
        if interrupt.wait().is_err() {
            return;
        }
        if goes_on.load(Ordering::Relaxed) {
            output::say("\nThe daemon keeps waiting for approval; meshnode status shows it.\n");
        } else {
            launch::undo(launched, &place);
            output::say("\nStopped; this machine did not join.\n");
        }
        std::process::exit(i32::from(Exit::Interrupted.code()));
    });
    waiting
}
