//! The engine's slow heartbeat: handshake retries, rekeys, keepalives, forgotten flows and reports.

use std::sync::Arc;

use super::Engine;
use super::sockets::Patience;
use super::watch::Wake;

/// Milliseconds between two looks at every peer.
const TICK_MS: u16 = 250;

/// Bytes of the largest message that a timer sends: an initiation.
const MESSAGE_BYTES_MAX: usize = 256;

/// Runs until the engine stops.
pub(crate) fn run(engine: &Arc<Engine>) {
    let mut out = [0; MESSAGE_BYTES_MAX];
    while engine.wait(&[], Some(TICK_MS)) == Wake::Late {
        let now = engine.clock.now();
        // Whether or not there are peers: strangers count too.
        engine.identity.limiter.reset_count();
        let router = engine.router.load_full();
        for peer in router.peers() {
            if let Some((path, bytes)) = peer.tick(&mut out, now) {
                engine.ways.send(path, bytes, Patience::Drop);
            }
            peer.filter().tick(now);
            peer.report(now, |report| engine.tell(report));
        }
    }
}
