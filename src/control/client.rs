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
    called: Option<String>,
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
            Ok(stream) => Ok(Self {
                stream,
                log: None,
                called: None,
            }),
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

    /// The same, and commands in the daemon's hints say which network: it does not know that there are others.
    #[must_use]
    pub(crate) fn called(mut self, called: Option<String>) -> Self {
        self.called = called;
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
            called: self.called,
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
    called: Option<String>,
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
            Ok(Response::Failed(mut failure)) => {
                for hint in failure.hints.iter_mut() {
                    if let Some(called) = &self.called {
                        *hint = address(hint, called);
                    }
                }
                Err(failure)
            }
            Ok(response) => Ok(response),
            Err(_) => Err(other_version()),
        }
    }
}

/// A hint whose commands say which network they mean.
pub(crate) fn address(hint: &str, called: &str) -> String {
    const PROGRAM: &str = "meshnode ";
    if hint.contains(" -n ") {
        return hint.to_owned();
    }
    let mut parts = hint.split(PROGRAM);
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str(PROGRAM);
        // A daemon is started where no other is; its flags are its own.
        if !part.starts_with("daemon") {
            text.push_str(called);
            text.push(' ');
        }
        text.push_str(part);
    }
    text
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

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn commands_in_a_hint_say_which_network() {
        let say = |hint| address(hint, "-n work");
        assert_eq!(
            say("meshnode status lists them"),
            "meshnode -n work status lists them"
        );
        assert_eq!(
            say("meshnode init, or meshnode join"),
            "meshnode -n work init, or meshnode -n work join"
        );
        assert_eq!(say("sudo meshnode up"), "sudo meshnode -n work up");
        assert_eq!(say("meshnode init -n NAME"), "meshnode init -n NAME");
        assert_eq!(
            say("make room, then try again"),
            "make room, then try again"
        );
        assert_eq!(
            say("meshnode daemon --tun-name NAME"),
            "meshnode daemon --tun-name NAME"
        );
    }
}
