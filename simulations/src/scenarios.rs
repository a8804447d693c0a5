//! The stories that are simulated, and how one is run.

mod bootstrap;
mod edits;
mod join_storm;
mod liars;
mod loss;
mod partition;
mod people;
mod recovery;
mod relays;
mod restart;
mod revoke;
mod single_use;
mod skew;
mod town;
mod year;

#[cfg(test)]
pub(crate) use self::revoke::put_out;
#[cfg(test)]
pub(crate) use self::town::overspent;
pub(crate) use self::town::site;
use crate::film::Film;
use crate::report::Report;
use crate::trace::Trace;
use crate::world::{Broken, World};

/// A story.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What happens in it.
    pub about: &'static str,
    run: fn(&mut World, usize) -> Result<(), Broken>,
}

/// All stories.
pub const ALL: [Scenario; 14] = [
    Scenario {
        name: "join-storm",
        about: "machines join one after another at random members while the founder goes off and on",
        run: join_storm::run,
    },
    Scenario {
        name: "bootstrap",
        about: "newcomers to a large network of which twelve members run",
        run: bootstrap::run,
    },
    Scenario {
        name: "partition",
        about: "two halves that cannot hear each other take in newcomers, then hear each other again",
        run: partition::run,
    },
    Scenario {
        name: "policy",
        about: "two halves let in, put out and edit the policy, one rule both of them, then hear each other again",
        run: edits::run,
    },
    Scenario {
        name: "restart",
        about: "the power fails everywhere in the middle of writes; all boot together with clocks in 1970",
        run: restart::run,
    },
    Scenario {
        name: "loss",
        about: "messages are lost, doubled and late, answers are torn",
        run: loss::run,
    },
    Scenario {
        name: "single-use",
        about: "an invite for one machine is redeemed in two partitions",
        run: single_use::run,
    },
    Scenario {
        name: "liars",
        about: "one member in ten sends malformed and foreign items, bogus summaries and replays",
        run: liars::run,
    },
    Scenario {
        name: "skew",
        about: "clocks between 1970 and 2099: all records are taken, no right is widened",
        run: skew::run,
    },
    Scenario {
        name: "revoke",
        about: "nodes are put out, also by two admins that cannot hear each other",
        run: revoke::run,
    },
    Scenario {
        name: "relays",
        about: "nobody is reached but by two relays; one of them dies and comes back",
        run: relays::run,
    },
    Scenario {
        name: "recovery",
        about: "a thief of the founder's key puts everybody out; the recovery phrase brings all back",
        run: recovery::run,
    },
    Scenario {
        name: "people",
        about: "joiners are approved and denied, admins come and go, invites are cancelled, a machine is replaced",
        run: people::run,
    },
    Scenario {
        name: "year",
        about: "a device comes back after a year in which the others moved, came and went",
        run: year::run,
    },
];

/// The story with this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}

/// Whether what every machine knows is noted all the time, for a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Camera {
    /// It is.
    On,
    /// It is not.
    Off,
}

/// Runs a story.
#[must_use]
pub fn run(scenario: &Scenario, seed: u64, nodes: usize, trace: Trace, camera: Camera) -> Report {
    let mut world = World::new(seed, trace);
    world.film = (camera == Camera::On).then(Film::new);
    let result = (scenario.run)(&mut world, nodes);
    Report::of(&world, scenario.name, nodes, result.err())
}
