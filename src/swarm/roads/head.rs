//! Heads of HTTP/1.1, as far as roads need them: bounded, read once.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};

/// What a server was asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// To go on as a WebSocket.
    Socket {
        /// What proves that the question was read.
        accept: String,
    },
    /// For a page.
    Page {
        /// Whether it is the one that there is.
        found: bool,
    },
}

/// Reads up to the end of a head; gives it, and what came behind it.
///
/// # Errors
/// When it is longer than a head may be, or the stream ends.
pub(super) async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let (mut came, mut filled) = (vec![0; HEAD_BYTES_MAX], 0_usize);
    loop {
        let searched = filled.saturating_sub(END.len() - 1);
        let count = stream.read(&mut came[filled..]).await?;
        if count == 0 {
            return Err(if filled == HEAD_BYTES_MAX {
                invalid("a head of HTTP is too long")
            } else {
                io::ErrorKind::UnexpectedEof.into()
            });
        }
        filled += count;
        let mut places = came[searched..filled].windows(END.len());
        if let Some(at) = places.position(|place| place == END) {
            came.truncate(filled);
            let rest = came.split_off(searched + at + END.len());
            return Ok((came, rest));
        }
    }
}

/// What a server is asked by a head.
///
/// # Errors
/// When it is none.
pub(super) fn question(head: &[u8]) -> io::Result<Asked> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    let parsed = request.parse(head).map_err(|_| invalid("no HTTP"))?;
    if parsed.is_partial() || request.method != Some("GET") {
        return Err(invalid("no GET of HTTP"));
    }
    let found = request.path == Some("/");
    let fields = &*request.headers;
    let key = field(fields, "Sec-WebSocket-Key");
    let is_socket = says(fields, "Upgrade", "websocket")
        && says(fields, "Connection", "upgrade")
        && says(fields, "Sec-WebSocket-Version", "13");
    match key {
        Some(key) if is_socket => {
            let accept = derive_accept_key(key);
            Ok(Asked::Socket { accept })
        }
        Some(_) | None => Ok(Asked::Page { found }),
    }
}

/// What a server says to become a WebSocket.
pub(super) fn switching(accept: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

/// A page for whoever looks.
pub(super) fn page(found: bool) -> String {
    let (status, text) = if found {
        (
            "200 OK",
            "<!doctype html><title>It works</title><p>It works.\n",
        )
    } else {
        (
            "404 Not Found",
            "<!doctype html><title>Not Found</title><p>Not found.\n",
        )
    };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{text}",
        text.len()
    )
}

/// Asks a server to go on as a WebSocket; gives what came behind its word.
///
/// # Errors
/// When it does not, or what comes is no HTTP.
pub(super) async fn ask_for_socket<S>(stream: &mut S, host: &str) -> io::Result<Vec<u8>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let key = generate_key();
    let ask = format!(
        "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    );
    stream.write_all(ask.as_bytes()).await?;
    stream.flush().await?;
    let (head, rest) = read(stream).await?;
    let wanted = derive_accept_key(key.as_bytes());
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    response.parse(&head).map_err(|_| invalid("no HTTP"))?;
    let accept = field(response.headers, "Sec-WebSocket-Accept");
    if response.code != Some(101) || accept != Some(wanted.as_bytes()) {
        return Err(invalid("no WebSocket is spoken there"));
    }
    Ok(rest)
}

/// The status of an answer.
///
/// # Errors
/// When it is no HTTP.
pub(super) fn status(head: &[u8]) -> io::Result<u16> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    response.parse(head).map_err(|_| invalid("no HTTP"))?;
    response.code.ok_or_else(|| invalid("no HTTP"))
}

fn field<'a>(fields: &[httparse::Header<'a>], name: &str) -> Option<&'a [u8]> {
    let found = fields.iter().find(|f| f.name.eq_ignore_ascii_case(name));
    found.map(|field| field.value)
}

/// Whether a list in a head has a word.
fn says(fields: &[httparse::Header<'_>], name: &str, word: &str) -> bool {
    let named = fields.iter().filter(|f| f.name.eq_ignore_ascii_case(name));
    named
        .flat_map(|field| field.value.split(|byte| *byte == b','))
        .any(|said| said.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

pub(super) fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The end of a head.
const END: &[u8] = b"\r\n\r\n";
/// Bytes of a head: proxies add fields of their own, and an honest one is far from that.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Fields of a head.
const FIELDS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes that look like a head now and then, and come in two parts.
    fn came() -> impl Strategy<Value = (Vec<u8>, usize)> {
        let word = prop_oneof![
            Just(b"GET / HTTP/1.1\r\n".to_vec()),
            Just(b"HTTP/1.1 101 Switching Protocols\r\n".to_vec()),
            Just(b"Upgrade: websocket\r\n".to_vec()),
            Just(b"Sec-WebSocket-Key: a\r\n".to_vec()),
            Just(END.to_vec()),
            proptest::collection::vec(any::<u8>(), 0..2000),
        ];
        let words = proptest::collection::vec(word, 0..12);
        let bytes = words.prop_map(|words| words.concat());
        bytes.prop_flat_map(|bytes| (0..=bytes.len(), Just(bytes)).prop_map(|(at, b)| (b, at)))
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_alike_in_one_part_and_in_two_and_is_never_too_long(
            (bytes, at) in came()
        ) {
            let run = |mut stream: Box<dyn AsyncRead + Unpin + '_>| {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on(async move { read(&mut stream).await })
            };
            let whole = run(Box::new(bytes.as_slice()));
            let (one, two) = bytes.split_at(at);
            let parts = run(Box::new(one.chain(two)));
            let wanted = bytes.windows(END.len()).position(|place| place == END);
            let wanted = wanted.map(|place| place + END.len()).filter(|end| *end <= HEAD_BYTES_MAX);
            for read in [&whole, &parts] {
                prop_assert_eq!(read.as_ref().ok().map(|(head, _)| head.len()), wanted);
            }
            if let Ok((head, rest)) = whole {
                prop_assert!(head.len() + rest.len() <= HEAD_BYTES_MAX);
                // Any answer will do, as long as there is one.
                let _ = (question(&head), status(&head));
            }
        }
    }

    #[tokio::test]
    async fn a_head_is_read_up_to_its_end_and_what_follows_is_kept() {
        let mut came: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nmore";
        let (head, rest) = read(&mut came).await.unwrap();
        assert!(head.ends_with(b"a\r\n\r\n"));
        assert_eq!(rest, b"more");
        assert_eq!(question(&head).unwrap(), Asked::Page { found: true });
    }

    #[tokio::test]
    async fn a_head_that_never_ends_is_not_read_for_ever() {
        let endless = vec![b'a'; HEAD_BYTES_MAX + 1];
        let error = read(&mut endless.as_slice()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let error = read(&mut b"GET /".as_slice()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn only_a_whole_question_for_a_socket_gets_one() {
        let ask = |fields: &str| question(format!("GET /x HTTP/1.1\r\n{fields}\r\n").as_bytes());
        let whole = "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        // The example of RFC 6455 §1.3.
        let accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned();
        assert_eq!(ask(whole).unwrap(), Asked::Socket { accept });
        let old = whole.replace("13", "8");
        assert_eq!(ask(&old).unwrap(), Asked::Page { found: false });
        assert!(question(b"POST / HTTP/1.1\r\n\r\n").is_err());
        assert!(question(b"\x16\x03\x01\r\n\r\n").is_err());
    }
}
