//! The verb `demo`: four machines, two NAT routers, real commands, in namespaces that vanish.
//!
//! It acts a person's first evening: make a network, let machines in across NATs, switch off the machine that made the
//! codes, join anyway, be alone, come together again. Every step runs this very program as a person would type it,
//! checks what the step claims, and says how long it took. It is no substitute for the network tests, which prove
//! more and in more weathers.

mod screen;
mod stage;
mod steps;

use std::io::{self, Write};
use std::thread;

use crate::lab::{Entry, Error, World, require_tun};

use screen::Screen;
use stage::Stage;

/// How the demo is to be given.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Keep the machines running at the end, until Ctrl-C.
    pub keep: bool,
    /// No pauses for reading along.
    pub fast: bool,
}

/// Gives the demo; returns the exit code: 0 when every step did what it claims, else 1.
///
/// Must be called before the process has a second thread, as it starts this program once more in namespaces of its own.
///
/// # Errors
/// When the system cannot provide the laboratory: [`Error`] says why, [`Error::hints`] what to do about it.
pub fn run(options: Options) -> Result<u8, Error> {
    // Before the world is entered, so that the hint is right: inside, everybody is root.
    require_tun()?;
    let world = match World::enter()? {
        Entry::Inside(world) => world,
        Entry::Over(code) => return Ok(code),
    };
    let screen = Screen::new(options);
    screen.opening(world.is_rootless());
    let mut stage = Stage::build(&world)?;
    let passed = steps::perform(&mut stage, &screen);
    screen.closing(passed);
    if options.keep {
        screen.places(&stage, &world)?;
        wait_for_ctrl_c();
    }
    Ok(u8::from(passed.is_err()))
}

/// Waits for the signal that ends the world, and everything with it.
fn wait_for_ctrl_c() {
    // Whoever has piped the text away cannot be told more.
    let _ = io::stdout().flush();
    loop {
        thread::park();
    }
}
