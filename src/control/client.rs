//! The command line's end: connects, sends one request, reads responses.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::{LINE_BYTES_MAX, Request, Response};
use crate::failure::{Exit, Failure};

/// A daemon that answered the call.
#[derive(Debug)]
pub(crate) struct Client {
    stream: UnixStream,
    log: Option<fn(&str)>,
}

/// Why nobody is at a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreachable {
    /// No daemon listens there.
    NotRunning,
    /// A daemon may listen there; this user is not let in.
    NotPermitted,
}

impl Client {
    /// Connects to the daemon at `path`.
    ///
    /// # Errors
    /// When nobody listens, or this user may not ask.
    pub(crate) fn connect(path: &Path) -> Result<Self, Unreachable> {
        match UnixStream::connect(path) {
            Ok(stream) => Ok(Self { stream, log: None }),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(Unreachable::NotPermitted)
            }
            Err(_) => Err(Unreachable::NotRunning),
        }
    }

    /// The same, and every line that the daemon logs meanwhile goes to `log`.
    #[must_use]
    pub(crate) fn reading_along(mut self, log: fn(&str)) -> Self {
        self.log = Some(log);
        self
    }

    /// Sends a request and gives all its responses in order; the last one ends them.
    ///
    /// # Errors
    /// When the daemon goes away.
    pub(crate) fn send(mut self, request: &Request) -> Result<Responses, Failure> {
        let logged = self.log.map(|_| Request::Logged(Box::new(request.clone())));
        let request = logged.as_ref().unwrap_or(request);
        let mut line = zeroize::Zeroizing::new(serde_json::to_vec(request).map_err(|_| bug())?);
        line.push(b'\n');
        if line.len() > LINE_BYTES_MAX {
            return Err(Failure::usage("that is too much text for one request"));
        }
        // A daemon that turns its caller away at once says why; if it is gone, reading shows it.
        let _unheard = self.stream.write_all(&line);
        Ok(Responses {
            reader: BufReader::new(self.stream),
            log: self.log,
        })
    }

    /// Sends a request that has one response, and gives that.
    ///
    /// # Errors
    /// When the daemon goes away, or with the failure it answered.
    pub(crate) fn ask(self, request: &Request) -> Result<Response, Failure> {
        self.send(request)?.next_response()
    }
}

/// The responses to one request.
#[derive(Debug)]
pub(crate) struct Responses {
    reader: BufReader<UnixStream>,
    log: Option<fn(&str)>,
}

impl Responses {
    /// The next response; waits for it.
    ///
    /// # Errors
    /// When the daemon goes away or talks nonsense, or with the failure it answered.
    pub(crate) fn next_response(&mut self) -> Result<Response, Failure> {
        loop {
            match (self.read()?, self.log) {
                (Response::Logged(line), Some(log)) => log(&line),
                (Response::Logged(_), None) => {}
                (response, _) => return Ok(response),
            }
        }
    }

    fn read(&mut self) -> Result<Response, Failure> {
        let mut line = zeroize::Zeroizing::new(Vec::new());
        let mut bounded = (&mut self.reader).take(RESPONSE_BYTES_MAX);
        match bounded.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return Err(gone()),
            Ok(_) => {}
        }
        match serde_json::from_slice(&line) {
            Ok(Response::Failed(failure)) => Err(failure),
            Ok(response) => Ok(response),
            Err(_) => Err(other_version()),
        }
    }
}

fn gone() -> Failure {
    let text = "the daemon went away before it answered";
    Failure::new(Exit::NoDaemon, "daemon_gone", text).hint("sudo meshnode up")
}

fn other_version() -> Failure {
    let text = "the running daemon is of another version";
    Failure::new(Exit::Refused, "other_version", text)
        .hint("stop the daemon and start it again: sudo meshnode up")
}

fn bug() -> Failure {
    Failure::new(Exit::Bug, "bug", "a request could not be written")
}

/// A report of thousands of nodes is longer than a request; a broken daemon is bounded all the same.
const RESPONSE_BYTES_MAX: u64 = 64 * 1024 * 1024;
