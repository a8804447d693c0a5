//! The socket against honest, foreign and hostile callers.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use nix::unistd::{Gid, Uid};

use super::*;
use crate::config::settings::Key;
use crate::control::client::Client;

fn house(operator: Option<u32>) -> House {
    House {
        own: Uid::from_raw(0),
        operator: operator.map(Uid::from_raw),
        group: Some(Gid::from_raw(999)),
        group_rights: GroupRights::Use,
    }
}

fn bind(path: &Path) -> Result<Server, Failure> {
    let people = People {
        operator: None,
        group: GroupRights::Use,
    };
    Server::bind(path, people, LogLines::new(16))
}

fn caller(rights: Rights) -> Caller {
    Caller {
        uid: Uid::from_raw(4_000_000),
        gid: Gid::from_raw(4_000_000),
        pid: None,
        rights,
    }
}

/// A server in a fresh directory, and a task that answers every call with `Done`.
fn answering() -> (tempfile::TempDir, PathBuf, JoinHandle<()>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meshnode.sock");
    let mut server = bind(&path).unwrap();
    let task = tokio::spawn(async move {
        while let Ok(call) = server.accept().await {
            let _ = call.send(Response::Done);
        }
    });
    (dir, path, task)
}

async fn raw(path: &Path, bytes: Vec<u8>) -> String {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || {
        let mut stream = UnixStream::connect(path).unwrap();
        // The daemon may hang up on a line that is too long before all of it is written.
        let _ = stream.write_all(&bytes);
        let mut answer = String::new();
        let _ = BufReader::new(stream).read_line(&mut answer);
        answer
    })
    .await
    .unwrap()
}

#[test]
fn root_and_the_operator_may_all_the_group_may_use_others_nothing() {
    let house = house(Some(1000));
    assert_eq!(house.rights(Uid::from_raw(0), false), Rights::Administer);
    assert_eq!(house.rights(Uid::from_raw(1000), false), Rights::Administer);
    assert_eq!(house.rights(Uid::from_raw(1001), true), Rights::Use);
    assert_eq!(house.rights(Uid::from_raw(1001), false), Rights::None);
}

#[test]
fn the_group_may_what_is_set_and_never_more() {
    let member = Uid::from_raw(1001);
    for (set, rights) in [
        (GroupRights::None, Rights::None),
        (GroupRights::Look, Rights::Look),
        (GroupRights::Use, Rights::Use),
    ] {
        let house = House {
            group_rights: set,
            ..house(Some(1000))
        };
        assert_eq!(house.rights(member, true), rights);
        assert_eq!(house.rights(Uid::from_raw(1000), true), Rights::Administer);
    }
}

#[test]
fn who_may_use_cannot_make_himself_the_operator() {
    let set = |key| Request::Set(vec![(Key::Mdns, None), (key, Some("x".to_owned()))]);
    assert!(permit(set(Key::TunName), caller(Rights::Use)).is_ok());
    for key in [Key::Operator, Key::GroupRights] {
        assert!(permit(set(key), caller(Rights::Use)).is_err());
        let logged = Request::Logged(Box::new(set(key)));
        assert!(permit(logged, caller(Rights::Use)).is_err());
        assert!(permit(set(key), caller(Rights::Administer)).is_ok());
    }
    assert!(permit(set(Key::TunName), caller(Rights::Look)).is_err());
}

#[tokio::test]
async fn a_caller_that_reads_along_gets_the_log_before_the_answer_and_others_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meshnode.sock");
    let people = People {
        operator: None,
        group: GroupRights::Use,
    };
    let log = LogLines::new(16);
    let mut server = Server::bind(&path, people, log.clone()).unwrap();
    tokio::spawn(async move {
        while let Ok(call) = server.accept().await {
            let _nobody = log.send("it is done".to_owned());
            let _ = call.send(Response::Done);
        }
    });
    let logged = b"{\"Logged\":\"Status\"}\n".to_vec();
    assert_eq!(raw(&path, logged).await, "{\"Logged\":\"it is done\"}\n");
    assert_eq!(raw(&path, b"\"Status\"\n".to_vec()).await, "\"Done\"\n");
}

#[test]
fn without_an_operator_no_user_is_taken_for_one() {
    assert_eq!(house(None).rights(Uid::from_raw(1000), false), Rights::None);
}

#[test]
fn using_is_not_administering_and_the_refusal_says_what_to_type() {
    let down = Request::Down { for_s: None };
    assert!(permit(down, caller(Rights::Use)).is_ok());
    let failure = permit(Request::Stop, caller(Rights::Use)).unwrap_err();
    assert_eq!(failure.exit, Exit::Denied);
    assert_eq!(failure.hints, ["type it again with sudo in front"]);
    assert!(permit(Request::Status, caller(Rights::None)).is_err());
}

#[tokio::test]
async fn a_request_is_answered_and_the_socket_is_closed_to_others() {
    let (_dir, path, task) = answering();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let asked = path.clone();
    let answer =
        tokio::task::spawn_blocking(move || Client::connect(&asked).unwrap().ask(&Request::Status));
    assert_eq!(answer.await.unwrap(), Ok(Response::Done));
    task.abort();
}

#[tokio::test]
async fn garbage_gets_a_sentence_and_the_next_caller_an_answer() {
    let (_dir, path, task) = answering();
    for garbage in [
        b"\n".to_vec(),
        b"{\"Init\":{}}\n".to_vec(),
        b"\xff\xfe\n".to_vec(),
        [b"[".repeat(60_000), b"\n".to_vec()].concat(),
        vec![b'x'; LINE_BYTES_MAX + 1],
    ] {
        let answer = raw(&path, garbage).await;
        assert!(answer.starts_with("{\"Failed\""), "{answer}");
    }
    assert_eq!(raw(&path, b"\"Status\"\n".to_vec()).await, "\"Done\"\n");
    task.abort();
}

#[tokio::test]
async fn callers_that_say_nothing_do_not_hold_up_others() {
    let (_dir, path, task) = answering();
    let silent: Vec<UnixStream> = (0..CALLS_MAX / 2)
        .map(|_| UnixStream::connect(&path).unwrap())
        .collect();
    assert_eq!(raw(&path, b"\"Status\"\n".to_vec()).await, "\"Done\"\n");
    drop(silent);
    task.abort();
}

#[tokio::test]
async fn who_has_too_many_callers_is_told_so_and_finds_room_when_some_end() {
    let (_dir, path, task) = answering();
    let silent: Vec<UnixStream> = (0..CALLS_MAX)
        .map(|_| UnixStream::connect(&path).unwrap())
        .collect();
    let answer = raw(&path, b"\"Status\"\n".to_vec()).await;
    assert!(answer.contains("\"busy\""), "{answer}");
    drop(silent);
    while raw(&path, b"\"Status\"\n".to_vec()).await != "\"Done\"\n" {
        tokio::task::yield_now().await;
    }
    task.abort();
}

#[tokio::test]
async fn a_call_tells_when_its_caller_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meshnode.sock");
    let mut server = bind(&path).unwrap();
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"\"Status\"\n").unwrap();
    let call = server.accept().await.unwrap();
    assert!(!call.is_closed());
    drop(stream);
    while !call.is_closed() {
        tokio::task::yield_now().await;
    }
    assert_eq!(call.send(Response::Done), Err(Gone));
}

#[tokio::test]
async fn a_caller_that_does_not_read_is_dropped_and_never_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meshnode.sock");
    let mut server = bind(&path).unwrap();
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"\"Status\"\n").unwrap();
    let call = server.accept().await.unwrap();
    let refused = (0..=RESPONSES_WAITING_MAX).any(|_| call.send(Response::Done).is_err());
    assert!(refused);
}

#[tokio::test]
async fn what_was_sent_before_the_end_is_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meshnode.sock");
    let mut server = bind(&path).unwrap();
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"\"Stop\"\n").unwrap();
    let call = server.accept().await.unwrap();
    call.send(Response::Done).unwrap();
    call.finish().await;
    drop(server);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "\"Done\"\n");
    assert!(!path.exists());
}

#[tokio::test]
async fn a_live_socket_is_refused_and_a_dead_one_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meshnode.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let failure = bind(&path).unwrap_err();
    let own = std::process::id();
    assert_eq!(
        failure.text,
        format!("{} is in use: process {own} listens there", path.display())
    );
    drop(listener);
    assert!(bind(&path).is_ok());
}

#[tokio::test]
async fn a_file_in_the_way_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meshnode.sock");
    fs::write(&path, b"mine").unwrap();
    assert!(bind(&path).is_err());
    assert_eq!(fs::read(&path).unwrap(), b"mine");
}
