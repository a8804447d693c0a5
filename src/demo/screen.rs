//! What the demo shows: one line a step, and in the end one sentence.

use std::io::{self, IsTerminal, Write};
use std::thread;
use std::time::Duration;

use super::Options;
use super::stage::{Miss, Stage};
use super::steps::Passed;
use crate::lab::{Error, Stopwatch, World};

/// Between two steps, for somebody who reads along.
const PAUSE: Duration = Duration::from_millis(600);

/// Where the words of a step begin, counted from the machine's column.
const ACT_COLUMN: usize = 8;
const WORDS_COLUMN: usize = 46;
const TIME_COLUMN: usize = 72;

/// A step's place on the screen.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) number: usize,
    pub(crate) machine: &'static str,
    pub(crate) act: &'static str,
}

impl Line {
    /// The left part; the words go behind it.
    fn left(&self) -> String {
        let act = if self.act.is_empty() {
            self.machine.to_owned()
        } else {
            format!("{:<ACT_COLUMN$}{}", self.machine, self.act)
        };
        format!("{:>2}  {act:<WORDS_COLUMN$}", self.number)
    }

    fn whole(&self, words: &str, took: Option<Duration>) -> String {
        let time = took
            .map(|took| format!("{:.1} s", took.as_secs_f32()))
            .unwrap_or_default();
        let left = format!("{}{words}", self.left());
        let line = format!("{left:<width$}{time}", width = TIME_COLUMN + 4);
        line.trim_end().to_owned()
    }
}

/// The screen of one demo.
#[derive(Debug)]
pub(crate) struct Screen {
    keep: bool,
    /// A person watches: pauses, and the left part of a line before its step has ended.
    live: bool,
    pauses: bool,
    watch: Stopwatch,
}

impl Screen {
    pub(crate) fn new(options: Options) -> Self {
        let live = io::stdout().is_terminal();
        let pauses = live && !options.fast;
        Self {
            keep: options.keep,
            live,
            pauses,
            watch: Stopwatch::start(),
        }
    }

    pub(crate) fn opening(&self, rootless: bool) {
        let rootless = if rootless { ", no root" } else { "" };
        say(&format!(
            "A mesh on this machine: vps is public; nas and laptop share a home LAN behind a NAT router; pi sits behind\n\
             another. Real tunnels, no internet{rootless}; everything is removed at the end.\n\n"
        ));
    }

    pub(crate) fn begin(&self, line: &Line) {
        if self.live {
            say(&line.left());
        }
    }

    pub(crate) fn end(&self, line: &Line, words: &str, took: Option<Duration>) {
        let start = if self.live { "\r" } else { "" };
        say(&format!("{start}{}\n", line.whole(words, took)));
        if self.pauses {
            thread::sleep(PAUSE);
        }
    }

    pub(crate) fn miss(&self, line: &Line, miss: &Miss) {
        let start = if self.live { "\r" } else { "" };
        say(&format!("{start}{}\n", line.whole("FAILED", None)));
        say(&format!(
            "      expected  {}\n      got       {}\n",
            miss.expected, miss.got
        ));
        for line in &miss.said {
            say(&format!("      {line}\n"));
        }
    }

    pub(crate) fn closing(&self, passed: Passed) {
        let seconds = self.watch.elapsed().as_secs_f32().ceil();
        let removed = if self.keep {
            ""
        } else {
            " Everything is removed again."
        };
        match passed {
            Ok(count) => say(&format!(
                "\n{} of {} steps passed in {seconds} s.{removed}\n\
                 Yours:  cargo install --path . && sudo meshnode init --name NAME      Look around:  demo --keep\n",
                count.passed, count.of
            )),
            Err(count) => say(&format!(
                "\n{} of {} steps passed, then one failed.{removed}\n",
                count.passed, count.of
            )),
        }
    }

    /// How to get into the machines from another terminal.
    pub(crate) fn places(&self, stage: &Stage, world: &World) -> Result<(), Error> {
        let root = if world.is_rootless() { "" } else { "sudo " };
        say("\nThe machines run until Ctrl-C, which removes everything. In another terminal:\n");
        for node in stage.nodes() {
            let socket = world.path_from_outside(&node.socket())?;
            let way = world.way_to(&node.machine)?;
            say(&format!(
                "\n{}\n  {root}{} --socket {} status\n  {root}{way} bash\n",
                node.name(),
                node.program().display(),
                socket.display(),
            ));
        }
        Ok(())
    }
}

fn say(text: &str) {
    let mut out = io::stdout().lock();
    // A closed pipe is no reason to stop in the middle of a step.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_columns() {
        let line = Line {
            number: 3,
            machine: "nas",
            act: "$ meshnode join CODE-1@vps",
        };
        assert_eq!(
            line.whole("found vps", Some(Duration::from_millis(940))),
            " 3  nas     $ meshnode join CODE-1@vps            found vps                 0.9 s"
        );
        let line = Line {
            number: 10,
            machine: "all on again",
            act: "",
        };
        assert_eq!(
            line.whole("same view on 4 of 4", Some(Duration::from_millis(1200))),
            "10  all on again                                  same view on 4 of 4       1.2 s"
        );
        let line = Line {
            number: 6,
            machine: "vps",
            act: "off, it made the codes",
        };
        assert_eq!(line.whole("", None), " 6  vps     off, it made the codes");
    }
}
