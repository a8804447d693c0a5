//! A member that turned: it joined like any other, and then says as much as it can.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc;
use std::time::Duration;

use meshnode::carrier::Carrier;
use meshnode::clock::Clock;
use meshnode::lab::{Machine, Stopwatch};
use meshnode::swarm::{Certificate, Swarm, SwarmConfig};
use meshnode_protocol::body::Body;
use meshnode_protocol::codec::Ext;
use meshnode_protocol::custody::Custody;
use meshnode_protocol::epochs::Epochs;
use meshnode_protocol::id::{OpId, TransportKey};
use meshnode_protocol::identity::Keys;
use meshnode_protocol::invite::InviteCode;
use meshnode_protocol::io::{Input, Output, Write};
use meshnode_protocol::link::{CallId, LinkInput, LinkOutput, Service};
use meshnode_protocol::name::NodeName;
use meshnode_protocol::node::{Joining, Node, Setup};
use meshnode_protocol::op::{Draft, Op, Realm};
use meshnode_protocol::record::{Record, RecordBody, Seen};
use meshnode_protocol::seal::EpochKey;
use meshnode_protocol::time::Timestamp;
use meshnode_protocol::wire::{Items, Set, SyncRequest};
use tokio::sync::mpsc as channel;

/// Where its links listen.
const PORT: u16 = 4200;
/// How long it floods.
pub(crate) const FLOOD: Duration = Duration::from_secs(10);
/// Ops that it has at hand, half of them in one chain; more than anybody has room for.
const OPS: usize = 24_000;
/// Ops of one push and of one gossip message.
const PUSHED: usize = 1500;
const RUMOURED: usize = 50;
/// Records of one push.
const RECORDS: usize = 1000;
/// Questions that it lets wait at one peer.
const OPEN_MAX: usize = 4;
/// Between two salvos.
const BEAT: Duration = Duration::from_millis(4);
/// Its own questions have numbers that its node never comes to.
const FIRST_CALL: u64 = 1 << 40;
/// How long it may take to come in, and then to hear that it is an admin.
const PATIENCE: Duration = Duration::from_secs(30);

/// What it says of itself.
#[derive(Debug, PartialEq, Eq)]
enum News {
    In,
    Admin,
    Over(Said),
}

/// What it said in one flood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) rumours: u64,
    pub(crate) pushes: u64,
    pub(crate) questions: u64,
    pub(crate) bytes: u64,
}

/// The member, from outside.
pub(crate) struct Flooder {
    runtime: Option<tokio::runtime::Runtime>,
    news: mpsc::Receiver<News>,
    begin: channel::UnboundedSender<()>,
}

impl Flooder {
    /// Joins with a code, found by its LAN.
    pub(crate) fn join(machine: &Machine, code: &str) -> Self {
        let (tell, news) = mpsc::channel();
        let (begin, orders) = channel::unbounded_channel();
        let code = InviteCode::parse(code).unwrap();
        // Threads that are born in the machine live in it.
        let runtime = machine.inside(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let member = Member::new(code, tell);
                tokio::spawn(member.live(orders));
            });
            runtime
        });
        let flooder = Self {
            runtime: Some(runtime.unwrap()),
            news,
            begin,
        };
        flooder.expect(&News::In);
        flooder
    }

    /// Waits until it knows that it is an admin.
    pub(crate) fn is_admin(&self) {
        self.expect(&News::Admin);
    }

    /// Begins to flood.
    pub(crate) fn begin(&self) {
        self.begin.send(()).unwrap();
    }

    /// Waits for the end of the flood.
    pub(crate) fn over(&self) -> Said {
        let limit = FLOOD + PATIENCE;
        loop {
            if let News::Over(said) = self.news.recv_timeout(limit).unwrap() {
                return said;
            }
        }
    }

    fn expect(&self, wanted: &News) {
        while self.news.recv_timeout(PATIENCE).expect("it comes that far") != *wanted {}
    }
}

impl Drop for Flooder {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct Member {
    node: Node,
    swarm: Swarm,
    inputs: channel::Receiver<LinkInput>,
    tell: mpsc::Sender<News>,
    custody: Option<Custody>,
    /// What makes it an admin.
    title: Option<OpId>,
    trusted: BTreeSet<TransportKey>,
    open: BTreeMap<CallId, TransportKey>,
    calls: u64,
}

/// What it floods with.
struct Load {
    ops: Vec<Vec<u8>>,
    at: usize,
    keys: Keys,
    epochs: Epochs,
    realm: Realm,
    seq: u64,
    since: Stopwatch,
    said: Said,
}

impl Member {
    fn new(code: InviteCode, tell: mpsc::Sender<News>) -> Self {
        let setup = Setup {
            tunnel_port: PORT,
            os: "linux".to_owned(),
            version: "0".to_owned(),
            punch: meshnode_protocol::path::Punch::Off,
        };
        let joining = Joining {
            code,
            hints: Vec::new(),
            name: NodeName::parse("mallory").unwrap(),
            timeout_ms: 60_000,
            secrets: None,
        };
        let node = Node::join(joining, setup, [66; 32], Clock::new().now()).unwrap();
        let (events, inputs) = channel::channel(1024);
        let config = SwarmConfig {
            seed: node.danger_transport_seed(),
            port: PORT,
            mdns: true,
            carrier: Carrier::new().unwrap(),
            certificate: Certificate::passing().unwrap(),
            proxy: None,
        };
        Self {
            node,
            swarm: Swarm::start(config, events).unwrap(),
            inputs,
            tell,
            custody: None,
            title: None,
            trusted: BTreeSet::new(),
            open: BTreeMap::new(),
            calls: FIRST_CALL,
        }
    }

    async fn live(mut self, mut orders: channel::UnboundedReceiver<()>) {
        let mut beat = tokio::time::interval(BEAT);
        let mut load: Option<Load> = None;
        loop {
            let input = tokio::select! {
                Some(input) = self.inputs.recv() => match input {
                    LinkInput::Answered { call, .. } if call.0 >= FIRST_CALL => {
                        self.open.remove(&call);
                        continue;
                    }
                    input => Input::Link(input),
                },
                Some(()) = orders.recv() => {
                    load = Some(self.load());
                    continue;
                }
                _ = beat.tick() => {
                    if let Some(load) = &mut load {
                        self.salvo(load);
                    }
                    if let Some(over) = load.take_if(|load| load.since.elapsed() > FLOOD) {
                        let _ = self.tell.send(News::Over(over.said));
                    }
                    let now = Clock::new().now().uptime_ms();
                    if self.node.poll_timeout().is_none_or(|due| due > now) {
                        continue;
                    }
                    Input::Timeout
                }
                else => return,
            };
            self.node.handle(input, Clock::new().now());
            self.carry();
        }
    }

    fn carry(&mut self) {
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::Link(output) => {
                    match &output {
                        LinkOutput::Trust { peer } => drop(self.trusted.insert(*peer)),
                        LinkOutput::Distrust { peer } => drop(self.trusted.remove(peer)),
                        _ => {}
                    }
                    self.swarm.act(output);
                }
                Output::Persist { writes, .. } => writes.into_iter().for_each(|w| self.keep(w)),
                _ => {}
            }
        }
    }

    fn keep(&mut self, write: Write) {
        match write {
            Write::Secrets(bytes) => {
                let custody = Custody::parse(&bytes).unwrap();
                let was = self.custody.as_ref().is_some_and(|custody| custody.joined);
                if custody.joined && !was {
                    let _ = self.tell.send(News::In);
                }
                self.custody = Some(custody);
            }
            Write::Op(id, bytes) => {
                let Some(custody) = self.custody.as_ref().filter(|c| !c.genesis.is_empty()) else {
                    return;
                };
                let (_, realm) = Op::parse_genesis(&custody.genesis).unwrap();
                let me = custody.keys().node();
                let op = Op::parse(&bytes, &realm).ok();
                let grant = op.as_ref().and_then(|op| op.body().grant());
                if grant.is_some_and(|grant| grant.device == me && grant.level.is_admin()) {
                    self.title = Some(id);
                    let _ = self.tell.send(News::Admin);
                }
            }
            _ => {}
        }
    }

    fn load(&self) -> Load {
        let custody = self.custody.as_ref().unwrap();
        let title = self.title.unwrap();
        let (_, realm) = Op::parse_genesis(&custody.genesis).unwrap();
        let keys = custody.keys();
        let mut epochs = Epochs::default();
        for (number, key) in &custody.epochs {
            epochs.insert(*number, EpochKey::from_bytes(key));
        }
        let mut chain = title;
        let ops = (0..OPS).map(|number| {
            let chained = number % 2 == 0;
            let draft = Draft {
                network: realm.genesis.network(),
                authority: title,
                time: Timestamp::from_ms(number as u64),
                parents: vec![if chained { chain } else { title }],
            };
            let op = Op::sign(Body::Noop, draft, &keys.device);
            if chained {
                chain = op.id();
            }
            op.bytes().to_vec()
        });
        let ops = ops.collect();
        Load {
            ops,
            at: 0,
            keys,
            epochs,
            realm,
            seq: Clock::new().now().wall.ms(),
            since: Stopwatch::start(),
            said: Said::default(),
        }
    }

    /// A little of everything.
    fn salvo(&mut self, load: &mut Load) {
        let rumour = Items {
            ops: load.some(RUMOURED),
            ..Items::default()
        };
        if let Some(sealed) = load.epochs.seal_gossip(&rumour.to_bytes()) {
            load.said.rumours += 1;
            load.said.bytes += sealed.len() as u64;
            self.swarm.act(LinkOutput::Publish(sealed));
        }
        for peer in self.trusted.clone() {
            let open = self.open.values().filter(|other| **other == peer).count();
            if open >= OPEN_MAX {
                continue;
            }
            let request = match self.calls % 3 {
                0 => SyncRequest::Push(Items {
                    ops: load.some(PUSHED),
                    ..Items::default()
                }),
                1 => SyncRequest::Push(Items {
                    records: load.records(),
                    ..Items::default()
                }),
                _ => SyncRequest::Keys {
                    set: Set::Ops,
                    map: [0xFF; 32],
                    skip: 0,
                },
            };
            match &request {
                SyncRequest::Push(_) => load.said.pushes += 1,
                _ => load.said.questions += 1,
            }
            let bytes = request.to_bytes();
            load.said.bytes += bytes.len() as u64;
            self.calls += 1;
            let call = CallId(self.calls);
            self.open.insert(call, peer);
            self.swarm.act(LinkOutput::Ask {
                call,
                peer,
                service: Service::Sync,
                bytes,
            });
        }
    }
}

impl Load {
    /// The next ops, from the first again after the last.
    fn some(&mut self, count: usize) -> Vec<Vec<u8>> {
        let from = self.at;
        self.at = (from + count) % self.ops.len();
        let ops = self.ops.iter().cycle().skip(from);
        ops.take(count).cloned().collect()
    }

    /// New records of one slot, each newer than the one before.
    fn records(&mut self) -> Vec<Vec<u8>> {
        let network = self.realm.genesis.network();
        let next = (0..RECORDS as u64).map(|number| self.seq + number);
        let sealed = next.filter_map(|seq| {
            let body = RecordBody::Seen(Seen {
                heads: Vec::new(),
                ops: u32::try_from(seq % 1000).unwrap_or(0),
                epoch: 0,
                policy: None,
                ext: Ext::NONE,
            });
            let record = Record::sign(network, seq, body, &self.keys.device);
            self.epochs.seal_record(record.bytes())
        });
        let sealed = sealed.collect();
        self.seq += RECORDS as u64;
        sealed
    }
}
