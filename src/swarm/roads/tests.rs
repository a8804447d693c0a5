//! Roads over real sockets on loopback: a box that passes TLS alone, hostile callers, a proxy.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

fn pair(seed: u8) -> Keypair {
    Keypair::ed25519_from_bytes([seed; 32]).unwrap()
}

fn roads(seed: u8, map: &Map) -> Roads {
    Roads::new(&pair(seed), &Certificate::passing().unwrap(), map).unwrap()
}

fn tcp(at: SocketAddr) -> Multiaddr {
    address::multiaddr(&record::ControlAddress {
        transport: record::Transport::Tcp,
        address: at,
    })
}

/// A listener that takes callers until the test ends; gives where it is.
async fn listening(seed: u8) -> SocketAddr {
    let mut listener = roads(seed, &Map::default());
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    listener
        .listen_on(ListenerId::next(), tcp(anywhere))
        .unwrap();
    let at = loop {
        let event = futures::future::poll_fn(|cx| Pin::new(&mut listener).poll(cx)).await;
        if let Some(address) = event.into_new_address() {
            break socket(&address).unwrap();
        }
    };
    tokio::spawn(async move {
        loop {
            let event = futures::future::poll_fn(|cx| Pin::new(&mut listener).poll(cx)).await;
            if let Some((upgrade, _)) = event.into_incoming() {
                tokio::spawn(async move {
                    let Ok((_, mut muxer)) = upgrade.await else {
                        return;
                    };
                    use libp2p::core::muxing::StreamMuxerExt as _;
                    while futures::future::poll_fn(|cx| muxer.poll_unpin(cx))
                        .await
                        .is_ok()
                    {}
                });
            }
        }
    });
    at
}

async fn dial(from: &mut Roads, to: SocketAddr) -> io::Result<PeerId> {
    let opts = DialOpts {
        role: libp2p::core::Endpoint::Dialer,
        port_use: libp2p::core::transport::PortUse::New,
    };
    let dialling = from.dial(tcp(to), opts).unwrap();
    timeout(PATIENCE, dialling)
        .await
        .unwrap()
        .map(|made| made.0)
}

/// A box that passes connections that begin as TLS to `to`; gives where it is, and how many it cut.
async fn only_tls(to: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>) {
    let door = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let at = door.local_addr().unwrap();
    let cut = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&cut);
    tokio::spawn(async move {
        while let Ok((mut caller, _)) = door.accept().await {
            let counted = Arc::clone(&counted);
            tokio::spawn(async move {
                let mut first = [0];
                if caller.peek(&mut first).await.is_ok() && first == [0x16] {
                    let mut out = TcpStream::connect(to).await.unwrap();
                    // However it ends, both ends hear of it.
                    let _ = copy_bidirectional(&mut caller, &mut out).await;
                } else {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    (at, cut)
}

async fn tls_to(at: SocketAddr) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(at).await.unwrap();
    let name = ServerName::IpAddress(at.ip().into());
    let connector = TlsConnector::from(Arc::new(tls::client().unwrap()));
    timeout(PATIENCE, connector.connect(name, stream))
        .await
        .unwrap()
        .unwrap()
}

/// Everything up to the end of a stream, however it ends.
async fn rest(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Vec<u8> {
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    let read = async {
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            all.extend_from_slice(&buffer[..count]);
        }
    };
    timeout(PATIENCE, read).await.expect("the stream ends");
    all
}

#[tokio::test]
async fn one_port_answers_noise_and_tls_and_the_caller_remembers_what_passes() {
    let at = listening(7).await;
    let own = pair(7).public().to_peer_id();
    let map = Map::default();
    let mut caller = roads(8, &map);
    assert_eq!(dial(&mut caller, at).await.unwrap(), own);
    assert_eq!(map.memory.last(at, Instant::now()), Some(Road::Tcp));
    let (by_box, cut) = only_tls(at).await;
    assert_eq!(dial(&mut caller, by_box).await.unwrap(), own);
    assert_eq!(map.memory.last(by_box, Instant::now()), Some(Road::Tls));
    assert_eq!(cut.load(Ordering::Relaxed), 1);
    assert_eq!(dial(&mut caller, by_box).await.unwrap(), own);
    assert_eq!(
        cut.load(Ordering::Relaxed),
        1,
        "the second call begins as TLS"
    );
}

#[tokio::test]
async fn where_nobody_listens_every_road_ends() {
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let at = nobody.local_addr().unwrap();
    drop(nobody);
    assert!(dial(&mut roads(8, &Map::default()), at).await.is_err());
}

#[tokio::test]
async fn a_browser_sees_a_short_page_and_nothing_of_what_is_behind() {
    let at = listening(7).await;
    for (path, status) in [("/", "200 OK"), ("/admin", "404 Not Found")] {
        let mut stream = tls_to(at).await;
        let ask = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        stream.write_all(ask.as_bytes()).await.unwrap();
        let page = String::from_utf8(rest(&mut stream).await).unwrap();
        assert!(
            page.starts_with(&format!("HTTP/1.1 {status}\r\n")),
            "{page}"
        );
        assert!(!page.to_lowercase().contains("mesh"), "{page}");
    }
}

#[tokio::test]
async fn what_is_no_tls_behind_its_first_byte_is_cut_and_so_is_silence() {
    let at = listening(7).await;
    for said in [&[0x16; 300][..], &[0x16], &[]] {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(said).await.unwrap();
        rest(&mut stream).await;
    }
    assert!(dial(&mut roads(8, &Map::default()), at).await.is_ok());
}

#[tokio::test]
async fn a_head_without_an_end_and_a_message_too_long_end_the_connection() {
    let at = listening(7).await;
    let mut stream = tls_to(at).await;
    // What was cut in the midst of writing is cut all the same.
    let _ = stream.write_all(&[b'a'; 20_000]).await;
    assert!(rest(&mut stream).await.is_empty());
    // A binary frame of 2^40 bytes, and one that is no more than a byte past the limit.
    for length in [1_u64 << 40, 128 * 1024 + 1] {
        let mut stream = tls_to(at).await;
        head::ask_for_socket(&mut stream, "a").await.unwrap();
        let mut frame = vec![0x82, 0xff];
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(&[0; 4]);
        stream.write_all(&frame).await.unwrap();
        rest(&mut stream).await;
    }
    assert!(dial(&mut roads(8, &Map::default()), at).await.is_ok());
}

#[tokio::test]
async fn a_proxys_answer_is_told_apart() {
    let answers: [(&'static [u8], Trouble); 5] = [
        (b"HTTP/1.1 407 Who are you\r\n\r\n", Trouble::Credentials),
        (
            b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno",
            Trouble::Refused(403),
        ),
        (b"SSH-2.0-x\r\n\r\n", Trouble::NoProxy),
        (b"HTTP/1.1 200 OK\r\n\r\nand more", Trouble::NoProxy),
        (b"HTTP/1.1 200", Trouble::Silent),
    ];
    for (answer, expected) in answers {
        let door = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let at = door.local_addr().unwrap();
        let answering = tokio::spawn(async move {
            let (mut caller, _) = door.accept().await.unwrap();
            let (asked, _) = head::read(&mut caller).await.unwrap();
            caller.write_all(answer).await.unwrap();
            String::from_utf8(asked).unwrap()
        });
        let proxy = Proxy::parse(&format!("http://ben:p@{at}"), "").unwrap();
        let to = SocketAddr::from(([203, 0, 113, 1], 443));
        let (trouble, _) = timeout(PATIENCE, proxy.connect(to))
            .await
            .unwrap()
            .unwrap_err();
        assert_eq!(trouble, expected);
        let asked = answering.await.unwrap();
        assert!(
            asked.starts_with("CONNECT 203.0.113.1:443 HTTP/1.1\r\n"),
            "{asked}"
        );
        assert!(
            asked.contains("\r\nProxy-Authorization: Basic YmVuOnA=\r\n"),
            "{asked}"
        );
    }
}
