//! The filter as one would say it: a list of all flows there ever were, each with every packet that it had.

use proptest::prelude::*;

use super::*;

const PORTS: [u16; 3] = [22, 53, 40_000];

#[derive(Clone, Debug)]
enum Act {
    Tcp(Direction, u16, u16, u8),
    Udp(Direction, u16, u16),
    Echo(Direction, bool, u16),
    /// An error about a UDP packet that went the other way.
    Error(Direction, u16, u16),
    Wait(u64),
    Change(u8),
}

fn act() -> impl Strategy<Value = Act> {
    let way = prop_oneof![Just(In), Just(Out)];
    let port = proptest::sample::select(PORTS.to_vec());
    let flags = prop_oneof![
        3 => Just(SYN),
        3 => Just(SYN | ACK),
        6 => Just(ACK),
        2 => Just(FIN | ACK),
        1 => Just(RST),
        1 => any::<u8>(),
    ];
    let ends = (way, port.clone(), port);
    let waits = proptest::sample::select(vec![1, 50_000, 120_000, 240_000, 4_000_000]);
    prop_oneof![
        8 => (ends.clone(), flags).prop_map(|((way, a, b), flags)| Act::Tcp(way, a, b, flags)),
        3 => ends.clone().prop_map(|(way, a, b)| Act::Udp(way, a, b)),
        2 => (ends.clone(), any::<bool>()).prop_map(|((way, id, _), ask)| Act::Echo(way, ask, id)),
        2 => ends.prop_map(|(way, a, b)| Act::Error(way, a, b)),
        2 => waits.prop_map(Act::Wait),
        1 => any::<u8>().prop_map(Act::Change),
    ]
}

/// One of the policies that the bits choose.
fn policy(bits: u8) -> Arc<Filter> {
    let all = [
        allow(number::TCP, 22),
        allow(number::TCP, 40_000),
        allow(number::UDP, 53),
        PING,
    ];
    let chosen = |bits: u8| -> Vec<Allow> {
        let chosen = all.iter().enumerate();
        let chosen = chosen.filter(|(number, _)| bits >> number & 1 == 1);
        chosen.map(|(_, allow)| *allow).collect()
    };
    closed(&chosen(bits), &chosen(bits >> 4))
}

/// Protocol, local port, remote port; of an echo its number and which way it asks.
type Name = (u8, u16, u16, Option<Direction>);

struct Conversation {
    name: Name,
    opened: Direction,
    packets: Vec<(Direction, u8)>,
    last_ms: u64,
    /// A policy does not allow it any more.
    barred: bool,
}

impl Conversation {
    /// The flags that one end sent, in order; those of other protocols are none.
    fn from(&self, way: Direction) -> impl Iterator<Item = u8> {
        let packets = self.packets.iter().filter(move |(at, _)| *at == way);
        packets.map(|(_, flags)| *flags)
    }

    fn timeout_ms(&self) -> u64 {
        let answerer = self.opened.other();
        match self.name {
            (_, _, _, Some(_)) => 60_000,
            (number::UDP, ..) if self.from(answerer).next().is_some() => 300_000,
            (number::UDP, ..) => 120_000,
            _ if self.confirmed() && !self.ended() => 7_440_000,
            _ => 240_000,
        }
    }

    /// Whether the opener acknowledged something that the other end said.
    fn confirmed(&self) -> bool {
        let said = |(way, flags): &(Direction, u8)| *way != self.opened && flags & RST == 0;
        let said = self.packets.iter().position(said);
        said.is_some_and(|at| {
            let mut after = self.packets[at..].iter();
            after.any(|(way, flags)| *way == self.opened && flags & (ACK | SYN) == ACK)
        })
    }

    fn ended(&self) -> bool {
        let all = |way| self.from(way).fold(0, |all, flags| all | flags);
        (all(In) | all(Out)) & RST != 0 || all(In) & all(Out) & FIN != 0
    }
}

struct Model {
    filter: Arc<Filter>,
    conversations: Vec<Conversation>,
    now_ms: u64,
}

impl Model {
    fn allows(&self, name: Name, way: Direction) -> bool {
        let port = match way {
            In => name.1,
            Out => name.2,
        };
        let port = (name.0 != number::ICMP).then_some(port);
        match way {
            In => self.filter.inbound(&device(2), name.0, port),
            Out => self.filter.outbound(&device(2), name.0, port),
        }
    }

    fn known(&mut self, name: Name) -> Option<&mut Conversation> {
        let now_ms = self.now_ms;
        self.conversations
            .retain(|one| now_ms - one.last_ms < one.timeout_ms());
        self.conversations.iter_mut().find(|one| one.name == name)
    }

    fn passes(&mut self, name: Name, way: Direction, flags: u8) -> bool {
        let opens = name.0 == number::TCP && flags & (SYN | ACK | RST) == SYN;
        let goes_on = name.0 == number::TCP && flags & (SYN | ACK | RST) == ACK;
        let (now_ms, allowed) = (self.now_ms, self.allows(name, way));
        let allowed_back = self.allows(name, way.other());
        if let Some(known) = self.known(name) {
            let other_opens = opens && known.opened != way;
            if other_opens && !allowed {
                return false;
            }
            if known.barred && !other_opens {
                if name.0 == number::TCP {
                    known.last_ms = now_ms;
                }
                return false;
            }
            if known.barred || opens && known.ended() {
                known.opened = way;
                known.packets.clear();
            }
            known.barred = false;
            // Two that open at once: the second changes nothing.
            if known.opened == way || !opens {
                known.packets.push((way, flags));
            }
            known.last_ms = now_ms;
            return true;
        }
        let answers = name.3.is_some_and(|asks| asks != way);
        let opened = if allowed { way } else { way.other() };
        if answers || !(allowed || way == Out && goes_on && allowed_back) {
            return false;
        }
        self.conversations.push(Conversation {
            name,
            opened,
            packets: vec![(way, flags)],
            last_ms: now_ms,
            barred: false,
        });
        true
    }

    fn change(&mut self, filter: Arc<Filter>) {
        self.filter = filter;
        let mut conversations = std::mem::take(&mut self.conversations);
        for one in &mut conversations {
            one.barred = !self.allows(one.name, one.opened);
        }
        self.conversations = conversations;
    }
}

fn sent(way: Direction, local: u16, remote: u16) -> (SocketAddr, SocketAddr) {
    match way {
        In => (there(remote), here(local)),
        Out => (here(local), there(remote)),
    }
}

/// What is sent, which way, and whether it is to pass; `None` when nothing is sent.
fn carry_out(
    act: &Act,
    real: &PeerFilter,
    model: &mut Model,
) -> Option<(Vec<u8>, Direction, bool)> {
    match *act {
        Act::Tcp(way, local, remote, flags) => {
            let (from, to) = sent(way, local, remote);
            let name = (number::TCP, local, remote, None);
            Some((tcp(from, to, flags), way, model.passes(name, way, flags)))
        }
        Act::Udp(way, local, remote) => {
            let (from, to) = sent(way, local, remote);
            let name = (number::UDP, local, remote, None);
            Some((udp(from, to), way, model.passes(name, way, 0)))
        }
        Act::Echo(way, asks, id) => {
            let (from, to) = sent(way, 0, 0);
            let kind = if asks { ECHO_REQUEST } else { ECHO_REPLY };
            let asker = if asks { way } else { way.other() };
            let bytes = icmp(from.ip(), to.ip(), kind, id, &[]);
            let name = (number::ICMP, id, 0, Some(asker));
            Some((bytes, way, model.passes(name, way, 0)))
        }
        Act::Error(way, local, remote) => {
            let (from, to) = sent(way.other(), local, remote);
            let bytes = icmp(to.ip(), from.ip(), UNREACHABLE, 0, &udp(from, to));
            let known = model.known((number::UDP, local, remote, None));
            Some((bytes, way, known.is_some_and(|known| !known.barred)))
        }
        Act::Wait(ms) => {
            model.now_ms += ms;
            real.tick(at(model.now_ms));
            None
        }
        Act::Change(bits) => {
            real.change(&policy(bits));
            model.change(policy(bits));
            None
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn the_filter_passes_what_a_list_of_all_conversations_passes(
        start in any::<u8>(),
        acts in proptest::collection::vec(act(), 0..120),
    ) {
        let real = PeerFilter::new(&Terms::default(), device(2), policy(start));
        let mut model = Model { filter: policy(start), conversations: Vec::new(), now_ms: 0 };
        for act in acts {
            if let Some((bytes, way, expected)) = carry_out(&act, &real, &mut model) {
                let passes = real.passes(&bytes, way, model.now_ms);
                prop_assert_eq!(passes, expected, "{:?}", act);
            }
        }
    }
}
