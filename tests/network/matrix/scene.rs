//! Who meets in a cell: `ann` and `ben` at sites of their own, and `via`, a public member that both know.

use std::cell::RefCell;
use std::fs;
use std::net::IpAddr;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use meshnode::lab::{Lab, Machine, Process, Stopwatch};
use serde_json::Value;

use super::outcome::{Bound, Outcome, of};
use super::packets::Packets;
use super::target::Target;
use crate::internet::plan::{Nat, Plan, V6};
use crate::internet::uplinks::Uplink;
use crate::internet::{Internet, Site};
use crate::node::{Node, agree};
use crate::say;

/// One way from `ann` or `ben` to the backbone, and from `via`: 30 ms there and back to `via`, 20 to each other.
pub(crate) const HOME_MS: u32 = 5;
pub(crate) const VIA_MS: u32 = 10;

/// How long a node may take to be linked to `via` again.
const LINK_LIMIT: Duration = Duration::from_secs(15);

/// How long a first answer, and a direct path after it, are waited for at least.
const ANSWER_LIMIT: Duration = Duration::from_secs(6);

/// How long a pair that must stay on a relay is watched for a direct path.
const WATCH: Duration = Duration::from_secs(3);

/// Between two probes, and between two looks at what they said.
const PROBE_INTERVAL: &str = "20ms";
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

thread_local! {
    /// Where the daemons' logs of the cell that runs on this thread go, as the first part of their names.
    pub(crate) static LOGS: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Three machines and what is between them.
pub(crate) struct Scene<'lab> {
    pub(crate) lab: &'lab Lab,
    pub(crate) internet: Internet<'lab>,
    pub(crate) ann: Node,
    pub(crate) ben: Node,
    pub(crate) via: Node,
    /// Of the overlay.
    addresses: [IpAddr; 2],
    /// Where `ann` and `ben` are, outer sites of other sites before them.
    pub(crate) sites: Vec<Site>,
    pub(crate) via_addresses: Vec<IpAddr>,
    via_site: Site,
    /// One more public member.
    other: Node,
}

/// Where the two are.
pub(crate) struct Places {
    pub(crate) sites: Vec<Site>,
    pub(crate) ann: Machine,
    pub(crate) ben: Machine,
}

/// A site at the end of an uplink like that of most homes.
pub(crate) fn home(nat: Nat) -> Plan {
    Plan {
        uplink: Uplink::of_ms(HOME_MS),
        ..Plan::of(nat)
    }
}

/// Two sites, one machine in each.
pub(crate) fn apart(ann: Plan, ben: Plan) -> impl FnOnce(&Internet<'_>, &Lab) -> Places {
    move |internet, lab| {
        let sites = vec![internet.site("here", ann), internet.site("there", ben)];
        Places {
            ann: sites[0].host(lab, "ann"),
            ben: sites[1].host(lab, "ben"),
            sites,
        }
    }
}

impl<'lab> Scene<'lab> {
    /// Three members that know of each other. `uplink` is that of `via`.
    pub(crate) fn new(
        lab: &'lab Lab,
        uplink: Uplink,
        place: impl FnOnce(&Internet<'_>, &Lab) -> Places,
    ) -> Self {
        let internet = Internet::new(lab);
        let v6 = V6::Open;
        let plan = Plan {
            v6,
            uplink,
            ..Plan::of(Nat::Public)
        };
        let via_site = internet.site("middle", plan);
        let (via, via_addresses) = public_node(&via_site, lab, "via");
        via.init("matrix");
        // Two who see a machine are what it takes to tell how its router maps.
        let (other, _) = public_node(&via_site, lab, "other");
        other.join(&via.invite(&[]));
        let places = place(&internet, lab);
        let [ann, ben] = [places.ann, places.ben].map(|machine| {
            let mut node = Node::new(machine);
            if LOGS.with_borrow(Option::is_some) {
                node.set(&["MESHNODE_LOG=debug".to_owned()]);
            }
            node.switch_on();
            node.join(&via.invite(&[]));
            node
        });
        agree(&[&via, &other, &ann, &ben], 4);
        let addresses = [&ann, &ben].map(|node| node.addresses()[0]);
        Self {
            addresses,
            lab,
            internet,
            ann,
            ben,
            via,
            sites: places.sites,
            via_addresses,
            via_site,
            other,
        }
    }

    /// The site of `ann`, when each of the two has its own.
    pub(crate) fn here(&self) -> &Site {
        &self.sites[self.sites.len() - 2]
    }

    /// The site of `ben`.
    pub(crate) fn there(&self) -> &Site {
        &self.sites[self.sites.len() - 1]
    }

    /// One more public member beside `via`.
    pub(crate) fn second_via(&self, name: &str) -> Node {
        let (node, _) = public_node(&self.via_site, self.lab, name);
        node.join(&self.via.invite(&[]));
        agree(&[&self.via, &self.other, &self.ann, &self.ben, &node], 5);
        node
    }

    /// Both daemons end and every router forgets: nothing is left of what they had between them but what they keep.
    pub(crate) fn separate(&mut self) {
        self.ann.switch_off();
        self.ben.switch_off();
        self.sites.iter().for_each(Site::forget);
    }

    /// Both daemons start. The watch runs from when both are linked to `via`; nothing: one of them never was.
    pub(crate) fn meet(&mut self) -> Option<Stopwatch> {
        self.ann.switch_on();
        self.ben.switch_on();
        let watch = Stopwatch::start();
        loop {
            if [&self.ann, &self.ben]
                .iter()
                .all(|node| is_linked(node, "via"))
            {
                return Some(Stopwatch::start());
            }
            if watch.elapsed() > LINK_LIMIT {
                return None;
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }

    /// What every row begins with: from no session, how long until the first answer and until a direct path.
    pub(crate) fn reunite(&mut self, target: &Target) -> Outcome {
        self.separate();
        let Some(watch) = self.meet() else {
            return Outcome::missed("not linked to the public member");
        };
        self.measure(watch, target)
    }

    /// The same from a moment on at which both are there: by probes, and by packets of a program.
    pub(crate) fn measure(&self, watch: Stopwatch, target: &Target) -> Outcome {
        let [ann, ben] = self.addresses;
        let packets = Packets::start(watch, (&self.ann, ann), (&self.ben, ben));
        let mut probes = Probes::start(&self.ann, "ben");
        let first = probes.await_first(watch, ANSWER_LIMIT);
        let limit = match target.direct_ms {
            _ if first.is_none() => Duration::ZERO,
            Some(within) => (Duration::from_millis(within) * 2).max(ANSWER_LIMIT),
            None => watch.elapsed() + WATCH,
        };
        let direct = probes.await_direct(watch, limit);
        drop(probes);
        let mut outcome = Outcome::new(vec![of(
            "first",
            "ms",
            first.map(millis),
            Bound::AtMost(target.first_ms as f64),
        )]);
        let packet = packets.await_first(watch, ANSWER_LIMIT);
        outcome.add(
            "packet",
            "ms",
            packet.map(millis),
            Bound::AtMost(target.first_ms as f64),
        );
        match (target.direct_ms, direct) {
            (Some(within), _) => outcome.add(
                "direct",
                "ms",
                direct.map(millis),
                Bound::AtMost(within as f64),
            ),
            // Better than expected is worth to be known, too.
            (None, Some(direct)) => outcome.note = format!("direct after {:.0} ms", millis(direct)),
            (None, None) => {}
        }
        outcome.end = Some(end_of(&self.ann, "ben"));
        outcome
    }
}

/// A public member with the port that strict sites let through.
fn public_node(site: &Site, lab: &Lab, name: &str) -> (Node, Vec<IpAddr>) {
    let machine = lab.machine(name).unwrap();
    let addresses = site.connect(&machine);
    let mut node = Node::beside(&Rc::new(machine), "state", &["--listen-port", "443"]);
    node.switch_on();
    (node, addresses)
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        let Some(begin) = LOGS.with_borrow(Clone::clone) else {
            return;
        };
        for node in [&self.ann, &self.ben, &self.via] {
            let file = format!("{begin}.{}.log", node.name());
            if let Err(error) = fs::write(&file, node.whole_log()) {
                say(&format!("error: {file}: {error}\n"));
            }
        }
    }
}

/// Probes of a peer that go on until this is dropped.
pub(crate) struct Probes {
    process: Process,
}

impl Probes {
    pub(crate) fn start(from: &Node, to: &str) -> Self {
        let words = ["ping", to, "-c", "100000", "-i", PROBE_INTERVAL];
        let process = from.command(&words).start().unwrap();
        Self { process }
    }

    /// What was answered so far.
    pub(crate) fn answers(&self) -> Vec<Value> {
        let lines = self.process.stdout();
        // The last line may be half there.
        let whole = lines.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let lines = whole
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        lines
            .filter(|line: &Value| line["rtt_ms"].is_number())
            .collect()
    }

    /// When the first answer came, by this watch.
    pub(crate) fn await_first(&mut self, watch: Stopwatch, limit: Duration) -> Option<Duration> {
        self.await_answer(watch, limit, |_| true)
    }

    /// When the first answer came by a direct path.
    pub(crate) fn await_direct(&mut self, watch: Stopwatch, limit: Duration) -> Option<Duration> {
        self.await_answer(watch, limit, |line| line["path"]["kind"] == "direct")
    }

    /// How long no answer comes from now on; at most `limit`. What was asked before does not count.
    pub(crate) fn gap(&mut self, limit: Duration) -> Option<Duration> {
        let watch = Stopwatch::start();
        let asked = self.asked();
        self.await_answer(watch, limit, |line| line["seq"].as_u64() > asked)
    }

    /// The last probe that came to an end; some later ones are on their way.
    pub(crate) fn asked(&self) -> Option<u64> {
        /// Probes that may be on their way when an answer comes: a tenth of a second.
        const ON_THE_WAY: u64 = 5;
        let last = self
            .answers()
            .iter()
            .filter_map(|line| line["seq"].as_u64())
            .max();
        last.map(|seq| seq + ON_THE_WAY)
    }

    pub(crate) fn await_answer(
        &mut self,
        watch: Stopwatch,
        limit: Duration,
        fits: impl Fn(&Value) -> bool,
    ) -> Option<Duration> {
        loop {
            if self.answers().iter().any(&fits) {
                return Some(watch.elapsed());
            }
            if watch.elapsed() > limit {
                return None;
            }
            thread::sleep(LOOK_INTERVAL);
            if self.process.wait(Duration::ZERO).unwrap().is_some() {
                panic!(
                    "the probes ended: {}{}",
                    self.process.stdout(),
                    self.process.stderr()
                );
            }
        }
    }
}

/// Whether a node holds a link to this peer.
pub(crate) fn is_linked(node: &Node, peer: &str) -> bool {
    card(node, peer).is_some_and(|card| card["online"] == true)
}

/// By which tier packets travel at the end: `lan`, `direct`, `udp-relay`, `circuit` or `none`.
pub(crate) fn end_of(node: &Node, peer: &str) -> String {
    let path = card(node, peer).map(|mut card| card["path"].take());
    let path = path.unwrap_or_default();
    let tier = path["tier"].as_str().or_else(|| path["kind"].as_str());
    tier.unwrap_or("none").to_owned()
}

/// What the status of a node says of a peer.
pub(crate) fn card(node: &Node, peer: &str) -> Option<Value> {
    let mut status = node.status();
    let peers = status["peers"].as_array_mut()?;
    peers
        .iter_mut()
        .find(|card| card["name"] == peer)
        .map(Value::take)
}

pub(crate) fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1_000.0
}
