//! The daemon's log: lines to stderr, and to callers that read along.

use std::io::{self, Write};

use tracing_subscriber::fmt::MakeWriter;

use crate::config::{DaemonConfig, LogFormat};
use crate::control::LOG_LINES_WAITING_MAX;
use crate::control::server::LogLines;

/// Starts the log; gives the way to its lines.
pub(super) fn start(config: &DaemonConfig) -> LogLines {
    let lines = LogLines::new(LOG_LINES_WAITING_MAX);
    // The libraries tell addresses and ordinary time-outs louder than this program does.
    let filter = format!("libp2p=error,boringtun=off,{}", config.log_filter);
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(Tee(lines.clone()));
    // A second daemon in one process is a test's; the first one's subscriber serves it too.
    let _set = match config.log_format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    lines
}

/// Writes every line to stderr, and to whoever reads along.
#[derive(Clone, Debug)]
struct Tee(LogLines);

impl<'a> MakeWriter<'a> for Tee {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Write for &Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.receiver_count() > 0 {
            let line = String::from_utf8_lossy(bytes).trim_end().to_owned();
            // They may be gone by now.
            let _nobody = self.0.send(line);
        }
        io::stderr().write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
