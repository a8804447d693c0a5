//! The relay's own control socket: whoever may open it is told how the relay does, and nothing else can be asked.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream as Caller;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{UnixListener, UnixStream};

use super::report::Report;
use crate::config::socket_fits;
use crate::failure::{Exit, Failure};

/// The listening socket; removed from the file system when dropped.
pub(super) struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

/// Somebody who asks.
pub(super) struct Called(UnixStream);

impl Socket {
    /// Listens in the state directory, whose lock is taken: what lies there is a dead one's.
    pub(super) fn bind(dir: &Path) -> Result<Self, Failure> {
        let path = dir.join(NAME);
        let failed = |cause: &dyn std::fmt::Display| {
            Failure::world(&format!("cannot listen at {}", path.display()), cause)
        };
        if !socket_fits(&path) {
            return Err(failed(&"the path is too long for the system"));
        }
        let _absent = fs::remove_file(&path);
        let listener = UnixListener::bind(&path).map_err(|error| failed(&error))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
            .map_err(|error| failed(&error))?;
        Ok(Self { listener, path })
    }

    /// The next caller.
    pub(super) async fn accept(&self) -> Result<Called, Failure> {
        match self.listener.accept().await {
            Ok((stream, _)) => Ok(Called(stream)),
            Err(error) => Err(Failure::world("the control socket broke", &error)),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // A socket that stays behind is replaced at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

impl Called {
    /// Answers in a task of its own, for a caller may not read.
    pub(super) fn answer(mut self, report: Report) {
        tokio::spawn(async move {
            let text = serde_json::to_vec(&report).expect("a report has only texts and numbers");
            let written = tokio::time::timeout(ANSWER_TIME_MAX, self.0.write_all(&text)).await;
            if !matches!(written, Ok(Ok(()))) {
                tracing::debug!(reason = "it does not read", "A caller got no report");
            }
        });
    }
}

/// Asks the relay of a state directory how it does.
///
/// # Errors
/// When no relay runs there, or it does not answer.
pub(crate) fn ask(dir: &Path) -> Result<Report, Failure> {
    let mut stream = Caller::connect(dir.join(NAME)).map_err(|error| unreachable(dir, &error))?;
    let mute = |cause: &dyn std::fmt::Display| Failure::world("the relay does not answer", cause);
    stream
        .set_read_timeout(Some(ANSWER_TIME_MAX))
        .map_err(|error| mute(&error))?;
    let mut text = Vec::new();
    let read = (&mut stream).take(REPORT_BYTES_MAX).read_to_end(&mut text);
    read.map_err(|error| mute(&error))?;
    serde_json::from_slice(&text).map_err(|error| mute(&error))
}

fn unreachable(dir: &Path, error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::PermissionDenied {
        let text = format!("the relay of {} is another user's", dir.display());
        return Failure::new(Exit::Denied, "rights", text).hint("type it again with sudo in front");
    }
    Failure::new(Exit::NoDaemon, "no_relay", "no relay for others runs here")
        .hint("meshnode relay run")
}

/// The socket's name in the state directory.
const NAME: &str = "relay.sock";
/// How long an answer may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// A report, with every pair of a large relay.
const REPORT_BYTES_MAX: u64 = 8 << 20;
