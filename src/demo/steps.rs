//! The ten steps: what is typed, what must come out, and the few words that say so.

use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::screen::{Line, Screen};
use super::stage::{Miss, Node, PI_OUTSIDE, Stage};
use crate::lab::Stopwatch;

/// How long two NATs may take to be punched.
const PUNCH_LIMIT: Duration = Duration::from_secs(15);

/// How long a lonely machine may take to be up, and to notice that it is alone.
const ALONE_LIMIT: Duration = Duration::from_secs(20);

/// How long four machines that were apart may take to agree.
const AGREE_LIMIT: Duration = Duration::from_secs(60);

/// What later steps need of earlier ones.
#[derive(Debug, Default)]
struct Plot {
    /// Invite codes, each for one machine.
    codes: Vec<String>,
    vps: String,
    nas: String,
}

/// One step: machine, what is typed or happens, and how it is done.
struct Step {
    machine: &'static str,
    act: &'static str,
    perform: fn(&mut Stage, &mut Plot) -> Result<Done, Miss>,
}

/// What a step came to: its words, and how long the part took that a person would wait for.
struct Done {
    words: String,
    took: Option<Duration>,
}

impl Done {
    fn timed(words: &str, took: Duration) -> Self {
        Self {
            words: words.to_owned(),
            took: Some(took),
        }
    }

    fn untimed(words: &str) -> Self {
        Self {
            words: words.to_owned(),
            took: None,
        }
    }
}

const STEPS: [Step; 10] = [
    Step {
        machine: "vps",
        act: "$ meshnode init --name demo",
        perform: init,
    },
    Step {
        machine: "vps",
        act: "$ meshnode invite",
        perform: invite,
    },
    Step {
        machine: "nas",
        act: "$ meshnode join CODE-1@vps",
        perform: join_nas,
    },
    Step {
        machine: "pi",
        act: "$ meshnode join CODE-2@vps",
        perform: join_pi,
    },
    Step {
        machine: "nas",
        act: "$ meshnode ping pi",
        perform: ping,
    },
    Step {
        machine: "vps",
        act: "off, it made the codes",
        perform: vps_off,
    },
    Step {
        machine: "laptop",
        act: "$ meshnode join CODE-3",
        perform: join_laptop,
    },
    Step {
        machine: "laptop",
        act: "restarts, every other node off",
        perform: restart_alone,
    },
    Step {
        machine: "laptop",
        act: "$ meshnode status",
        perform: status_alone,
    },
    Step {
        machine: "all on again",
        act: "",
        perform: all_on,
    },
];

/// How far the demo came: all steps, or so many of them.
pub(crate) type Passed = Result<Count, Count>;

/// Steps that did what they claim, and steps there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: usize,
    pub(crate) of: usize,
}

/// Performs the steps in order; a step that fails ends it, as the later ones build on it.
pub(crate) fn perform(stage: &mut Stage, screen: &Screen) -> Passed {
    let mut plot = Plot::default();
    let of = STEPS.len();
    for (index, step) in STEPS.iter().enumerate() {
        let line = Line {
            number: index + 1,
            machine: step.machine,
            act: step.act,
        };
        screen.begin(&line);
        match (step.perform)(stage, &mut plot) {
            Ok(done) => screen.end(&line, &done.words, done.took),
            Err(miss) => {
                screen.miss(&line, &miss);
                return Err(Count { passed: index, of });
            }
        }
    }
    Ok(Count { passed: of, of })
}

fn init(stage: &mut Stage, plot: &mut Plot) -> Result<Done, Miss> {
    stage.vps.switch_on()?;
    let watch = Stopwatch::start();
    let made = stage
        .vps
        .ask_one(&["init", "--name", "demo", "--node-name", "vps"])?;
    let took = watch.elapsed();
    expect_text(&made, "/network/name", "demo")?;
    plot.vps = text(&made, "/self/id")?;
    Ok(Done::timed("made, offline", took))
}

fn invite(stage: &mut Stage, plot: &mut Plot) -> Result<Done, Miss> {
    for _ in 0..3 {
        let invited = stage.vps.ask_one(&["invite"])?;
        let code = text(&invited, "/code")?;
        if !code.contains("@203.0.113.1:") {
            // Never the code itself.
            let hints = invited
                .pointer("/hints")
                .map(Value::to_string)
                .unwrap_or_default();
            return Err(Miss::new(
                "a code that leads to vps at 203.0.113.1",
                format!("hints {hints}"),
            ));
        }
        plot.codes.push(code);
    }
    Ok(Done::untimed("3 codes"))
}

fn join_nas(stage: &mut Stage, plot: &mut Plot) -> Result<Done, Miss> {
    let (joined, took) = join(&mut stage.nas, &plot.codes[0], &plot.vps)?;
    plot.nas = text(&joined, "/self/id")?;
    Ok(Done::timed("found vps", took))
}

fn join_pi(stage: &mut Stage, plot: &mut Plot) -> Result<Done, Miss> {
    let (_, took) = join(&mut stage.pi, &plot.codes[1], &plot.vps)?;
    Ok(Done::timed("found vps", took))
}

fn ping(stage: &mut Stage, _: &mut Plot) -> Result<Done, Miss> {
    let through_the_nat = |lines: &[Value]| {
        lines.iter().any(|line| {
            let endpoint = line.pointer("/path/endpoint").and_then(Value::as_str);
            let direct = line.pointer("/path/kind").and_then(Value::as_str) == Some("direct");
            let answered = line.get("rtt_ms").is_some_and(Value::is_number);
            answered
                && direct
                && endpoint.is_some_and(|at| at.starts_with(&format!("{PI_OUTSIDE}:")))
        })
    };
    let watch = Stopwatch::start();
    let expected = format!("an answer of pi directly from {PI_OUTSIDE}");
    stage.nas.await_answer(
        &["ping", "pi", "-c", "1"],
        &expected,
        PUNCH_LIMIT,
        through_the_nat,
    )?;
    Ok(Done::timed("direct, through two NATs", watch.elapsed()))
}

fn vps_off(stage: &mut Stage, _: &mut Plot) -> Result<Done, Miss> {
    stage.vps.switch_off()?;
    Ok(Done::untimed(""))
}

fn join_laptop(stage: &mut Stage, plot: &mut Plot) -> Result<Done, Miss> {
    // Without the address of vps: this join has nobody but its LAN.
    let code = plot.codes[2].split('@').next().unwrap_or_default();
    let (_, took) = join(&mut stage.laptop, code, &plot.nas)?;
    Ok(Done::timed("found nas on the LAN", took))
}

fn restart_alone(stage: &mut Stage, _: &mut Plot) -> Result<Done, Miss> {
    let before = stage.laptop.ask_one(&["status"])?;
    let addresses = ["/self/ipv4", "/self/ipv6"].map(|field| {
        before
            .pointer(field)
            .and_then(Value::as_str)
            .and_then(|text| text.parse::<IpAddr>().ok())
    });
    let addresses: Vec<IpAddr> = addresses.into_iter().flatten().collect();
    if addresses.is_empty() {
        return Err(Miss::new("addresses in 'status'", before));
    }
    for node in [&mut stage.nas, &mut stage.pi, &mut stage.laptop] {
        node.switch_off()?;
    }
    if let Some(kept) = addresses
        .iter()
        .find(|address| stage.laptop.owns(**address))
    {
        return Err(Miss::new(
            "no overlay address while the daemon is off",
            kept,
        ));
    }
    let watch = Stopwatch::start();
    stage.laptop.switch_on()?;
    while !addresses.iter().all(|address| stage.laptop.owns(*address)) {
        if watch.elapsed() > ALONE_LIMIT {
            let expected = format!("its addresses within {} s", ALONE_LIMIT.as_secs());
            return Err(Miss::new(expected, "programs cannot use them"));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(Done::timed("addresses up", watch.elapsed()))
}

fn status_alone(stage: &mut Stage, _: &mut Plot) -> Result<Done, Miss> {
    stage
        .laptop
        .await_answer(&["status"], "state isolated", ALONE_LIMIT, |lines| {
            lines
                .iter()
                .any(|line| line.pointer("/state").and_then(Value::as_str) == Some("isolated"))
        })?;
    Ok(Done::untimed("isolated, as it must be"))
}

fn all_on(stage: &mut Stage, _: &mut Plot) -> Result<Done, Miss> {
    let watch = Stopwatch::start();
    for node in [&mut stage.vps, &mut stage.nas, &mut stage.pi] {
        node.switch_on()?;
    }
    loop {
        let views = stage
            .nodes()
            .map(|node| node.ask_one(&["status"]).map(|status| view(&status)));
        let views = views.into_iter().collect::<Result<Vec<_>, Miss>>()?;
        let first = &views[0];
        if first.is_whole() && views.iter().all(|view| view == first) {
            return Ok(Done::timed("same view on 4 of 4", watch.elapsed()));
        }
        if watch.elapsed() > AGREE_LIMIT {
            let got: Vec<String> = stage
                .nodes()
                .iter()
                .zip(&views)
                .map(|(node, view)| format!("{} {view:?}", node.name()))
                .collect();
            let expected = format!("one view on all four within {} s", AGREE_LIMIT.as_secs());
            return Err(Miss::new(expected, got.join("; ")));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// What a node holds for true, as far as `status` tells, and whether it hears everybody else.
#[derive(Debug, PartialEq, Eq)]
struct View {
    digest: Option<String>,
    ops: Option<u64>,
    online: usize,
}

impl View {
    fn is_whole(&self) -> bool {
        self.digest.is_some() && self.ops.is_some() && self.online == 3
    }
}

fn view(status: &Value) -> View {
    let peers = status.pointer("/peers").and_then(Value::as_array);
    let is_online = |peer: &&Value| peer.get("online").and_then(Value::as_bool) == Some(true);
    View {
        digest: status
            .pointer("/network/view")
            .and_then(Value::as_str)
            .map(str::to_owned),
        ops: status.pointer("/network/ops").and_then(Value::as_u64),
        online: peers.map_or(0, |peers| peers.iter().filter(is_online).count()),
    }
}

/// Joins with `code` and expects the member with the id `witness` to let the newcomer in.
fn join(node: &mut Node, code: &str, witness: &str) -> Result<(Value, Duration), Miss> {
    node.switch_on()?;
    let watch = Stopwatch::start();
    let joined = node.ask_one(&["join", code])?;
    let took = watch.elapsed();
    expect_text(&joined, "/network/name", "demo")?;
    expect_text(&joined, "/self/name", node.name())?;
    expect_text(&joined, "/witness", witness)?;
    Ok((joined, took))
}

fn text(value: &Value, field: &str) -> Result<String, Miss> {
    let found = value
        .pointer(field)
        .and_then(Value::as_str)
        .map(str::to_owned);
    found.ok_or_else(|| Miss::new(format!("text in the field {field}"), "none"))
}

fn expect_text(value: &Value, field: &str, wanted: &str) -> Result<(), Miss> {
    let found = text(value, field)?;
    if found == wanted {
        return Ok(());
    }
    Err(Miss::new(format!("{wanted} in the field {field}"), found))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_view_is_whole_only_with_all_three_others_online() {
        let status = |online: bool| {
            json!({
                "network": {"view": "ab12", "ops": 9},
                "peers": [{"online": true}, {"online": true}, {"online": online}],
            })
        };
        assert!(view(&status(true)).is_whole());
        assert!(!view(&status(false)).is_whole());
        assert!(!view(&json!({"peers": []})).is_whole());
    }

    #[test]
    fn a_wrong_field_says_what_was_expected() {
        let miss = expect_text(&json!({"witness": "b"}), "/witness", "a").unwrap_err();
        assert_eq!(
            (miss.expected.as_str(), miss.got.as_str()),
            ("a in the field /witness", "b")
        );
        assert!(expect_text(&json!({}), "/witness", "a").is_err());
    }
}
