//! Whether a person took the network down on this machine; survives a restart.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;

use crate::clock::Clock;

/// The file `down` in the state directory: empty, or the wall time in milliseconds at which it ends.
#[derive(Debug)]
pub(super) struct Switch {
    file: PathBuf,
    down: bool,
    until_ms: Option<u64>,
}

impl Switch {
    pub(super) fn load(state_dir: &Path) -> Self {
        let file = state_dir.join("down");
        let text = fs::read_to_string(&file).ok();
        let until_ms = text.as_ref().and_then(|text| text.trim().parse().ok());
        Self {
            file,
            down: text.is_some(),
            until_ms,
        }
    }

    pub(super) const fn is_down(&self) -> bool {
        self.down
    }

    pub(super) fn down(&mut self, until_ms: Option<u64>) -> std::io::Result<()> {
        fs::write(
            &self.file,
            until_ms.map(|ms| ms.to_string()).unwrap_or_default(),
        )?;
        self.down = true;
        self.until_ms = until_ms;
        Ok(())
    }

    pub(super) fn up(&mut self) {
        let _absent = fs::remove_file(&self.file);
        self.down = false;
        self.until_ms = None;
    }

    /// Seconds until it comes up by itself; nothing when it is up, or stays down.
    pub(super) fn left_s(&self, clock: &Clock) -> Option<u64> {
        let until_ms = self.until_ms.filter(|_| self.down)?;
        Some(
            until_ms
                .saturating_sub(clock.now().wall.ms())
                .div_ceil(1000),
        )
    }

    /// Ends when it is time to come up again; never otherwise.
    pub(super) async fn due(&self, clock: &Clock) {
        let Some(until_ms) = self.until_ms.filter(|_| self.down) else {
            return std::future::pending().await;
        };
        // In short naps: a clock that is set must not make it sleep for years.
        while clock.now().wall.ms() < until_ms {
            let left = until_ms - clock.now().wall.ms();
            sleep(Duration::from_millis(left.min(5000))).await;
        }
    }
}
