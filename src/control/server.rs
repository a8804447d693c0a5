//! The daemon's end: listens, reads one request a caller, checks the caller's right, hands the call over.
//!
//! Callers are local but not trusted: each has its own task, a deadline for its request, a bound on its line and on
//! the responses that may wait for it. None of them can hold up the daemon or another caller.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::unistd::{Gid, Group, Uid, User, chown};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;

use self::places::{Place, Places};
use super::{
    CALLS_MAX, LINE_BYTES_MAX, LOG_LINES_WAITING_MAX, REQUEST_TIMEOUT, RESPONSES_WAITING_MAX,
    Request, Response, Rights,
};
use crate::config::settings::GroupRights;
use crate::failure::{Exit, Failure};

mod places;

/// The group whose people may look at and use this machine's networks.
pub(crate) const GROUP: &str = "meshnode";

/// The listening socket; removed from the file system when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    calls: mpsc::Receiver<Call>,
    acceptor: JoinHandle<()>,
    house: watch::Sender<House>,
    path: PathBuf,
}

/// The daemon's log, a line at a time, for callers that want to read along.
pub(crate) type LogLines = broadcast::Sender<String>;

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct People {
    /// The person who may all.
    pub(crate) operator: Option<Uid>,
    /// What the group may.
    pub(crate) group: GroupRights,
}

impl Server {
    /// Listens at `path`: mode 0660, owned by the operator if there is one, group `meshnode` if it exists. A socket
    /// that nobody answers at is replaced. Must be called inside a runtime.
    ///
    /// # Errors
    /// When a daemon answers at `path` already, something else lies there, or the file system refuses.
    pub(crate) fn bind(path: &Path, people: People, log: LogLines) -> Result<Self, Failure> {
        clear_dead(path)?;
        let failed = |cause: &dyn std::fmt::Display| {
            Failure::world(&format!("cannot listen at {}", path.display()), cause)
        };
        let listener = UnixListener::bind(path).map_err(|e| failed(&e))?;
        let house = House::of(people);
        open_to(path, &house).map_err(|e| failed(&e))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(|e| failed(&e))?;
        let (sender, calls) = mpsc::channel(CALLS_MAX);
        let (house, watched) = watch::channel(house);
        Ok(Self {
            calls,
            acceptor: tokio::spawn(accept_all(listener, watched, sender, log)),
            house,
            path: path.to_owned(),
        })
    }

    /// From now on these people may ask; who was called in before is through.
    ///
    /// # Errors
    /// When the file system refuses; the old ones may then still connect, and are refused.
    pub(crate) fn admit(&self, people: People) -> Result<(), Failure> {
        let house = House::of(people);
        self.house.send_replace(house);
        open_to(&self.path, &house).map_err(|error| {
            Failure::world(&format!("cannot open {}", self.path.display()), &error)
        })
    }

    /// The next call whose caller has the right to it. May be dropped and called again without loss.
    ///
    /// # Errors
    /// When the socket is broken; nobody can call any more.
    pub(crate) async fn accept(&mut self) -> Result<Call, Failure> {
        let call = self.calls.recv().await;
        call.ok_or_else(|| Failure::world("the control socket broke", &self.path.display()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.acceptor.abort();
        // A socket that stays behind is replaced at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

/// Who calls, by the socket's peer credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Caller {
    uid: Uid,
    gid: Gid,
    /// `None` when the system does not tell.
    pid: Option<i32>,
    rights: Rights,
}

/// One permitted request, and the way back to who made it. The caller sees the end when this is dropped.
#[derive(Debug)]
pub(crate) struct Call {
    /// What is wanted.
    pub(crate) request: Request,
    responses: mpsc::Sender<Response>,
    delivery: JoinHandle<()>,
}

/// The caller went away, or does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

impl Call {
    /// Sends a response; never waits.
    ///
    /// # Errors
    /// When the caller went away or lets responses pile up.
    pub(crate) fn send(&self, response: Response) -> Result<(), Gone> {
        self.responses.try_send(response).map_err(|_| Gone)
    }

    /// Whether the caller is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.responses.is_closed()
    }

    /// Waits until the caller has everything that was sent; for the last response before the daemon stops.
    pub(crate) async fn finish(self) {
        drop(self.responses);
        let _ = tokio::time::timeout(REQUEST_TIMEOUT, self.delivery).await;
    }
}

/// Whose the socket is.
#[derive(Clone, Copy, Debug)]
struct House {
    own: Uid,
    operator: Option<Uid>,
    group: Option<Gid>,
    group_rights: GroupRights,
}

impl House {
    fn of(people: People) -> Self {
        let group = Group::from_name(GROUP).ok().flatten();
        Self {
            own: Uid::effective(),
            operator: people.operator,
            group: group.map(|group| group.gid),
            group_rights: people.group,
        }
    }

    /// Root, the daemon's own user and the operator: all; members of the group: what is set; others: nothing.
    fn rights(&self, uid: Uid, in_group: bool) -> Rights {
        if uid.is_root() || uid == self.own || Some(uid) == self.operator {
            Rights::Administer
        } else if in_group {
            match self.group_rights {
                GroupRights::None => Rights::None,
                GroupRights::Look => Rights::Look,
                GroupRights::Use => Rights::Use,
            }
        } else {
            Rights::None
        }
    }

    fn caller(&self, stream: &UnixStream) -> io::Result<Caller> {
        let peer = stream.peer_cred()?;
        let (uid, gid) = (Uid::from_raw(peer.uid()), Gid::from_raw(peer.gid()));
        let in_group = self
            .group
            .is_some_and(|group| gid == group || is_member(uid, group));
        Ok(Caller {
            uid,
            gid,
            pid: peer.pid(),
            rights: self.rights(uid, in_group),
        })
    }
}

fn is_member(uid: Uid, group: Gid) -> bool {
    let Ok(Some(user)) = User::from_uid(uid) else {
        return false;
    };
    let group = Group::from_gid(group).ok().flatten();
    group.is_some_and(|group| user.gid == group.gid || group.mem.contains(&user.name))
}

/// Gives the socket to the operator and the group; the file system lets nobody else connect.
fn open_to(path: &Path, house: &House) -> nix::Result<()> {
    if !Uid::effective().is_root() {
        return Ok(());
    }
    let group = house.group.unwrap_or_else(|| Gid::from_raw(0));
    chown(path, Some(house.operator.unwrap_or(house.own)), Some(group))
}

async fn accept_all(
    listener: UnixListener,
    house: watch::Receiver<House>,
    calls: mpsc::Sender<Call>,
    log: LogLines,
) {
    let places = Places::default();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "control socket did not accept a caller");
                // Out of file descriptors: accepting again at once would only spin.
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(caller) = house.borrow().caller(&stream) else {
            continue;
        };
        let Some(place) = places.take(caller.uid, caller.rights) else {
            turn_away(stream);
            continue;
        };
        let (calls, log) = (calls.clone(), log.clone());
        tokio::spawn(async move {
            if let Err(error) = serve(stream, caller, &calls, place, &log).await {
                tracing::debug!(%error, "control caller went away");
            }
        });
    }
}

/// Tells a caller that its user has too many. The few bytes fit into its socket, so this ends at once.
fn turn_away(mut stream: UnixStream) {
    let failure = Failure::new(
        Exit::Refused,
        "busy",
        "too many requests of yours run already",
    )
    .hint("end some of them: a ping or wait that runs in another terminal counts");
    tokio::spawn(async move { write(&mut stream, &Response::Failed(failure)).await });
}

/// Reads the request, hands it over, and carries responses back until the call or the caller ends; until then the
/// caller keeps its place.
async fn serve(
    stream: UnixStream,
    caller: Caller,
    calls: &mpsc::Sender<Call>,
    place: Place,
    log: &LogLines,
) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader.take(LINE_BYTES_MAX as u64));
    let mut line = Vec::new();
    let read = tokio::time::timeout(REQUEST_TIMEOUT, reader.read_until(b'\n', &mut line)).await;
    let request = match read {
        Ok(Ok(0)) => return Ok(()),
        Ok(Ok(_)) => parse(&line).and_then(|request| permit(request, caller)),
        Ok(Err(error)) => return Err(error),
        Err(_) => Err(Failure::usage("no request came in time")),
    };
    drop(zeroize::Zeroizing::new(line));
    let request = match request {
        Ok(request) => request,
        Err(failure) => return write(&mut writer, &Response::Failed(failure)).await,
    };
    let (request, mut lines) = if let Request::Logged(request) = request {
        (*request, Some(log.subscribe()))
    } else {
        (request, None)
    };
    let Caller { uid, gid, pid, .. } = caller;
    tracing::debug!(%uid, %gid, pid, "control request comes in");
    let (responses, mut waiting) = mpsc::channel(RESPONSES_WAITING_MAX);
    // The limit of the line is spent; what follows is only the caller's end.
    reader.get_mut().set_limit(1);
    let delivery = tokio::spawn(async move {
        let _place = place;
        let mut rest = [0; 1];
        loop {
            tokio::select! {
                biased;
                response = waiting.recv() => {
                    let Some(response) = response else { return };
                    // What was logged on the way to it comes first.
                    for line in logged(&mut lines) {
                        if write(&mut writer, &Response::Logged(line)).await.is_err() { return }
                    }
                    if write(&mut writer, &response).await.is_err() { return }
                }
                line = next_line(&mut lines) => {
                    if write(&mut writer, &Response::Logged(line)).await.is_err() { return }
                }
                _ = reader.read(&mut rest) => return,
            }
        }
    });
    let call = Call {
        request,
        responses,
        delivery,
    };
    // A daemon that takes no calls any more drops this one, and its delivery ends by itself.
    let _ = calls.send(call).await;
    Ok(())
}

/// The next line of the log for a caller that reads along; a caller that is too slow misses some.
async fn next_line(lines: &mut Option<broadcast::Receiver<String>>) -> String {
    if let Some(receiver) = lines {
        loop {
            match receiver.recv().await {
                Ok(line) => return line,
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => break,
            }
        }
    }
    std::future::pending().await
}

/// The lines that wait for such a caller.
fn logged(lines: &mut Option<broadcast::Receiver<String>>) -> Vec<String> {
    let waiting = std::iter::from_fn(|| lines.as_mut()?.try_recv().ok());
    waiting.take(LOG_LINES_WAITING_MAX).collect()
}

fn parse(line: &[u8]) -> Result<Request, Failure> {
    if !line.ends_with(b"\n") {
        let text = format!("a request line has at most {LINE_BYTES_MAX} bytes and an end");
        return Err(Failure::usage(text));
    }
    serde_json::from_slice(line).map_err(|_| {
        let version = env!("CARGO_PKG_VERSION");
        let text = format!("the running daemon ({version}) does not know this request");
        Failure::new(Exit::Refused, "other_version", text)
            .hint("stop the daemon and start it again: sudo meshnode up")
    })
}

fn permit(request: Request, caller: Caller) -> Result<Request, Failure> {
    if matches!(&request, Request::Logged(inner) if matches!(**inner, Request::Logged(_))) {
        return Err(Failure::usage("a request is logged once"));
    }
    if caller.rights >= request.needs() {
        return Ok(request);
    }
    let user = User::from_uid(caller.uid).ok().flatten();
    let user = user.map_or_else(|| caller.uid.to_string(), |user| user.name);
    let text = match caller.rights {
        Rights::None => format!("{user} may not look at this machine's networks"),
        Rights::Look => format!("{user} may look at this machine's networks, but not change them"),
        Rights::Use | Rights::Administer => format!(
            "{user} may use this machine's networks, but not sign for them, join, leave, or give rights"
        ),
    };
    Err(Failure::new(Exit::Denied, "not_permitted", text).hint("type it again with sudo in front"))
}

async fn write(writer: &mut (impl AsyncWriteExt + Unpin), response: &Response) -> io::Result<()> {
    let mut line = zeroize::Zeroizing::new(serde_json::to_vec(response)?);
    line.push(b'\n');
    match tokio::time::timeout(REQUEST_TIMEOUT, writer.write_all(&line)).await {
        Ok(written) => written,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Removes a socket that nobody answers at.
fn clear_dead(path: &Path) -> Result<(), Failure> {
    let what = format!("cannot listen at {}", path.display());
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Failure::world(&what, &error)),
    };
    if !found.file_type().is_socket() {
        return Err(Failure::world(
            &what,
            &"something that is no socket lies there",
        ));
    }
    match StdStream::connect(path) {
        Ok(stream) => {
            let pid = getsockopt(&stream, PeerCredentials)
                .ok()
                .map(|peer| peer.pid());
            let who = pid.map_or("a daemon".to_owned(), |pid| format!("process {pid}"));
            let text = format!("{} is in use: {who} listens there", path.display());
            Err(Failure::new(Exit::Refused, "in_use", text).hint("meshnode status shows it"))
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|e| Failure::world(&what, &e))
        }
        Err(error) => Err(Failure::world(&what, &error)),
    }
}

#[cfg(test)]
mod tests;
