//! What somebody gets who is no member: between two machines, as a stranger at a member's door, and with noise.

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use meshnode::carrier::Carrier;
use meshnode::lab::{Lab, Machine, Stopwatch, Switch, World};
use meshnode::swarm::{Certificate, Swarm, SwarmConfig};
use meshnode_protocol::id::{Digest, TransportKey};
use meshnode_protocol::link::{
    AnswerId, CallError, CallId, DialId, LinkInput, LinkOutput, Service,
};
use meshnode_protocol::record::{ControlAddress, Transport};
use meshnode_protocol::wire::{HelloRequest, JoinRequest, Knock, Set, Summary, SyncRequest};
use tokio::sync::mpsc as channel;
use zeroize::Zeroizing;

use crate::joining::{home, node_on};
use crate::lab;
use crate::node::{Node, measured, names, truth};

/// Where the attacker's links listen.
const PORT: u16 = 4100;

/// How long a member may take to refuse a stranger's question.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);

/// Bytes of noise for each port.
const NOISE_BYTES: usize = 1024 * 1024;

pub(crate) fn join_relay_gets_nothing(world: &World) {
    let lab = lab(world);
    let town = Town::new(&lab);
    let relay = Attacker::start(&town.attacker, relay);
    relay.dial(&town.member);
    relay.expect("the attacker holds a link to the member", |news| {
        matches!(news, News::Linked)
    });
    let code = town.member.invite(&[]);
    let before = truth(&town.member.status());
    // Found by its announcement on the LAN, and by the address that it smuggled into the code.
    let (exit, said) = town.newcomer.refused(&["join", &code, "--timeout", "4s"]);
    assert_eq!(exit, 7, "{said}");
    let led = format!("{code}@192.168.7.66:{PORT}");
    let (exit, said) = town.newcomer.refused(&["join", &led, "--timeout", "4s"]);
    assert_eq!(exit, 1, "{said}");
    assert!(
        said.starts_with("somebody answered at 192.168.7.66:"),
        "{said}"
    );
    let (passed_on, answered) = relay.passed_on();
    assert!(passed_on >= 2, "it did pass the newcomer's words on");
    assert_eq!(
        answered, 0,
        "the member says nothing to words made for another"
    );
    assert_eq!(truth(&town.member.status()), before, "nobody came in");
    assert_eq!(names(&town.member.status()).len(), 1);
    // The invite is as good as before.
    town.newcomer
        .machine()
        .attach(&town.near, "192.168.1.9/24", None)
        .unwrap();
    town.newcomer.join(&code);
}

pub(crate) fn join_m1_without_psk_silent(world: &World) {
    let lab = lab(world);
    let town = Town::new(&lab);
    town.member.invite(&[]);
    let before = truth(&town.member.status());
    let stranger = Attacker::start(&town.attacker, ask_everything);
    stranger.dial(&town.member);
    let questions = questions().len();
    for _ in 0..questions {
        stranger.expect(
            "every question is refused without a byte",
            |news| match news {
                News::Answered(what, result) => {
                    assert_eq!(*result, Err(CallError::Refused), "{what}");
                    true
                }
                News::Linked | News::Asked | News::Gossip => false,
            },
        );
    }
    assert!(
        !stranger.saw(&News::Asked),
        "a member asks a stranger nothing"
    );
    assert!(!stranger.saw(&News::Gossip), "a stranger hears no gossip");
    assert_eq!(truth(&town.member.status()), before);
}

pub(crate) fn noise_on_every_port_disturbs_nothing(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let [mut nas, pi] = home(&lab, &lan, ["nas", "pi"]);
    pi.reaches("nas");
    let attacker = lab.machine("attacker").unwrap();
    attacker.attach(&lan, "192.168.1.66/24", None).unwrap();
    let before = truth(&nas.status());
    let port = u16::try_from(nas.status()["self"]["port"].as_u64().unwrap()).unwrap();
    let watch = Stopwatch::start();
    let ping = pi
        .command(&["ping", "nas", "-c", "50", "-i", "50ms"])
        .start();
    let mut ping = ping.unwrap();
    // One namespace of sockets for the machine: opened there, used from here.
    let udp = attacker
        .inside(|| UdpSocket::bind("0.0.0.0:0").unwrap())
        .unwrap();
    let knock = move || TcpStream::connect(SocketAddr::from(([192, 168, 1, 1], port))).unwrap();
    let tcp = attacker.inside(knock).unwrap();
    let local = UnixStream::connect(nas.socket()).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| datagrams(&udp, port, 0));
        scope.spawn(|| datagrams(&udp, port + 1, 1));
        scope.spawn(|| stream(&tcp, 2));
        scope.spawn(|| stream(&local, 3));
    });
    let flooded = watch.elapsed();
    let ended = ping
        .wait(Duration::from_secs(20))
        .unwrap()
        .expect("it ends");
    assert!(ended.success(), "{}", ping.stderr());
    let summary = ping.stdout().lines().last().map(str::to_owned).unwrap();
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    let received = summary["summary"]["received"].as_u64().unwrap();
    measured(
        "noise on four ports, up to 1 MiB each, until sent or hung up on",
        format!("{} ms", flooded.as_millis()),
    );
    measured("probes answered meanwhile", format!("{received} of 50"));
    measured(
        "slowest of them",
        format!("{} ms", summary["summary"]["max_ms"]),
    );
    assert_eq!(received, 50);
    assert!(nas.runs(), "the daemon lives");
    let log = nas.whole_log();
    assert!(
        !log.contains("panicked") && !log.contains(" ERROR "),
        "{log}"
    );
    assert_eq!(truth(&nas.status()), before);
    pi.reaches("nas");
}

/// A LAN with the newcomer, a LAN with the member, and the attacker in both.
struct Town {
    member: Node,
    newcomer: Node,
    attacker: Machine,
    near: Switch,
    _far: Switch,
}

impl Town {
    fn new(lab: &Lab) -> Self {
        let near = lab.switch("near").unwrap();
        let far = lab.switch("far").unwrap();
        let member = node_on(lab, &near, "member", 1);
        member.init("home");
        let newcomer = lab.machine("newcomer").unwrap();
        newcomer.attach(&far, "192.168.7.9/24", None).unwrap();
        let attacker = lab.machine("attacker").unwrap();
        attacker.attach(&near, "192.168.1.66/24", None).unwrap();
        attacker.attach(&far, "192.168.7.66/24", None).unwrap();
        Self {
            member,
            newcomer: Node::on(newcomer),
            attacker,
            near,
            _far: far,
        }
    }
}

/// What the attacker notices.
#[derive(Debug, PartialEq, Eq)]
enum News {
    /// It holds a link that it dialled.
    Linked,
    /// Somebody asked it something.
    Asked,
    /// What became of a question of its own.
    Answered(String, Result<Vec<u8>, CallError>),
    /// Somebody let it hear gossip.
    Gossip,
}

/// A stranger with links of his own, run by one of the plans below.
struct Attacker {
    runtime: Option<tokio::runtime::Runtime>,
    news: mpsc::Receiver<News>,
    old: std::cell::RefCell<Vec<News>>,
    dial: channel::UnboundedSender<LinkOutput>,
}

/// What is at the attacker's hand: his links, what happens on them, and to whom he tells it.
struct Hand {
    swarm: Swarm,
    inputs: channel::Receiver<LinkInput>,
    orders: channel::UnboundedReceiver<LinkOutput>,
    tell: mpsc::Sender<News>,
}

impl Attacker {
    fn start<P: Future<Output = ()> + Send + 'static>(
        machine: &Machine,
        plan: impl FnOnce(Hand) -> P + Send + 'static,
    ) -> Self {
        let (tell, news) = mpsc::channel();
        let (dial, orders) = channel::unbounded_channel();
        // Threads that are born in the machine live in it.
        let runtime = machine.inside(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let (events, inputs) = channel::channel(64);
                let seed = Zeroizing::new([66; 32]);
                let swarm = Swarm::start(
                    SwarmConfig {
                        seed,
                        port: PORT,
                        mdns: true,
                        carrier: Carrier::new().unwrap(),
                        certificate: Certificate::passing().unwrap(),
                        proxy: None,
                    },
                    events,
                );
                let hand = Hand {
                    swarm: swarm.unwrap(),
                    inputs,
                    orders,
                    tell,
                };
                tokio::spawn(plan(hand));
            });
            runtime
        });
        let runtime = Some(runtime.unwrap());
        Self {
            runtime,
            news,
            old: Vec::new().into(),
            dial,
        }
    }

    /// Calls a member at the address where it listens.
    fn dial(&self, member: &Node) {
        let port = member.status()["self"]["port"].as_u64().unwrap();
        let port = u16::try_from(port).unwrap();
        let address = SocketAddr::from(([192, 168, 1, 1], port));
        let addresses = vec![ControlAddress {
            transport: Transport::Tcp,
            address,
        }];
        let order = LinkOutput::Dial {
            dial: DialId(1),
            peer: None,
            addresses,
        };
        self.dial.send(order).unwrap();
    }

    fn expect(&self, claim: &str, is_so: impl Fn(&News) -> bool) {
        loop {
            let news = self.news.recv_timeout(ANSWER_LIMIT).expect(claim);
            let found = is_so(&news);
            self.old.borrow_mut().push(news);
            if found {
                return;
            }
        }
    }

    fn saw(&self, news: &News) -> bool {
        let mut old = self.old.borrow_mut();
        old.extend(self.news.try_iter());
        old.contains(news)
    }

    /// How many questions were passed on, and how many answers with content came back.
    fn passed_on(&self) -> (usize, usize) {
        let mut old = self.old.borrow_mut();
        old.extend(self.news.try_iter());
        let asked = old.iter().filter(|news| **news == News::Asked).count();
        let answered = |news: &&News| matches!(news, News::Answered(_, Ok(_)));
        (asked, old.iter().filter(answered).count())
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Passes every question on to the member, byte for byte, and every answer back.
async fn relay(mut hand: Hand) {
    let mut member: Option<TransportKey> = None;
    let mut open: Vec<(CallId, AnswerId)> = Vec::new();
    let mut calls = 0;
    loop {
        tokio::select! {
            Some(order) = hand.orders.recv() => hand.swarm.act(order),
            Some(input) = hand.inputs.recv() => match input {
                LinkInput::Up { peer, dial: Some(_), .. } if member.is_none() => {
                    member = Some(peer);
                    let _ = hand.tell.send(News::Linked);
                }
                // He is on the newcomer's LAN as any machine is; the newcomer comes to him.
                LinkInput::Asked { answer, peer, service, bytes, .. } if Some(peer) != member => {
                    let Some(peer) = member else { continue };
                    let _ = hand.tell.send(News::Asked);
                    calls += 1;
                    open.push((CallId(calls), answer));
                    hand.swarm.act(LinkOutput::Ask { call: CallId(calls), peer, service, bytes });
                }
                LinkInput::Answered { call, result, .. } => {
                    let Some(at) = open.iter().position(|(asked, _)| *asked == call) else {
                        continue;
                    };
                    let (_, answer) = open.swap_remove(at);
                    hand.swarm.act(match &result {
                        Ok(bytes) => LinkOutput::Answer { answer, bytes: bytes.clone() },
                        Err(_) => LinkOutput::Refuse { answer },
                    });
                    let _ = hand.tell.send(News::Answered("passed on".to_owned(), result));
                }
                _ => {}
            },
            else => return,
        }
    }
}

/// Asks a member everything that a stranger can think of, one after the other.
async fn ask_everything(mut hand: Hand) {
    let mut left = questions().into_iter();
    let mut asked = String::new();
    let mut member = None;
    let mut call = 0;
    loop {
        let mut next = false;
        tokio::select! {
            Some(order) = hand.orders.recv() => hand.swarm.act(order),
            Some(input) = hand.inputs.recv() => match input {
                LinkInput::Up { peer, dial: Some(_), .. } => {
                    member = Some(peer);
                    next = true;
                    let _ = hand.tell.send(News::Linked);
                }
                LinkInput::Asked { .. } => drop(hand.tell.send(News::Asked)),
                LinkInput::Gossip { .. } => drop(hand.tell.send(News::Gossip)),
                LinkInput::Answered { result, .. } => {
                    next = true;
                    let _ = hand.tell.send(News::Answered(asked.clone(), result));
                }
                _ => {}
            },
            else => return,
        }
        let (true, Some(peer)) = (next, member) else {
            continue;
        };
        let Some((what, service, bytes)) = left.next() else {
            continue;
        };
        call += 1;
        asked = what.to_owned();
        hand.swarm.act(LinkOutput::Ask {
            call: CallId(call),
            peer,
            service,
            bytes,
        });
    }
}

pub(crate) fn questions() -> Vec<(&'static str, Service, Vec<u8>)> {
    let knock = Knock {
        locator: [7; 16],
        nonce: [8; 32],
        mac: [9; 32],
    };
    let summary = Summary {
        roots: [Digest::ZERO; 3],
        heads: Vec::new(),
    };
    vec![
        ("join: nothing", Service::Join, Vec::new()),
        ("join: garbage", Service::Join, vec![0xff; 4096]),
        (
            "join: m1 without the psk",
            Service::Join,
            JoinRequest::Knock(knock).to_bytes(),
        ),
        ("hello: garbage", Service::Hello, vec![0xff; 512]),
        (
            "hello: open",
            Service::Hello,
            HelloRequest::Open { nonce: [1; 32] }.to_bytes(),
        ),
        ("sync: garbage", Service::Sync, vec![0xff; 512]),
        (
            "sync: summary",
            Service::Sync,
            SyncRequest::Summary(summary).to_bytes(),
        ),
        (
            "sync: buckets",
            Service::Sync,
            SyncRequest::Buckets(Set::Ops).to_bytes(),
        ),
    ]
}

/// Noise in datagrams, slowly enough that queues need not drop it.
pub(crate) fn datagrams(socket: &UdpSocket, port: u16, seed: u64) {
    let to = SocketAddr::from(([192, 168, 1, 1], port));
    for (at, piece) in noise(seed).chunks(1200).enumerate() {
        // Full queues on the way drop; that is noise's own affair.
        let _ = socket.send_to(piece, to);
        if at % 8 == 7 {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Noise in a stream, until it is done or the other side has had enough.
fn stream(mut to: impl std::io::Write, seed: u64) {
    for piece in noise(seed).chunks(1024) {
        if to.write_all(piece).is_err() {
            return;
        }
    }
}

fn noise(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; NOISE_BYTES];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_be_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}
