//! Network namespaces without names: each lives in a thread, and ends with it.

use std::fs::File;
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{geteuid, gettid};

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace of its own, and the thread that is in it.
pub(crate) struct Namespace {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    path: String,
}

impl Namespace {
    pub(crate) fn new() -> Self {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (ready, path) = mpsc::channel();
        let thread = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("Failed to make a network namespace");
            ready
                .send(format!(
                    "/proc/{}/task/{}/ns/net",
                    std::process::id(),
                    gettid()
                ))
                .unwrap();
            for job in queue {
                job();
            }
        });
        let path = path.recv().expect("the thread made its namespace");
        let namespace = Self {
            jobs: Some(jobs),
            thread: Some(thread),
            path,
        };
        namespace.ip("link set lo up");
        namespace
    }

    /// Runs something inside; what it starts stays inside.
    pub(crate) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (send, result) = mpsc::channel();
        let job: Job = Box::new(move || {
            let _ = send.send(work());
        });
        self.jobs.as_ref().unwrap().send(job).unwrap();
        result
            .recv()
            .expect("the work inside the namespace did not panic")
    }

    /// Runs something inside, in a thread of its own, that needs what is out here.
    pub(crate) fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let place = File::open(&self.path).expect("the namespace stands");
        let work = move || {
            setns(place, CloneFlags::CLONE_NEWNET).expect("root may enter a namespace");
            work()
        };
        thread::scope(|scope| scope.spawn(work).join())
            .expect("the work inside the namespace did not panic")
    }

    /// Runs a command line inside; returns whether it succeeded, and its output.
    pub(crate) fn try_sh(&self, line: &str) -> (bool, String) {
        let line = line.to_owned();
        self.run(move || {
            let output = Command::new("sh")
                .args(["-c", &format!("{line} 2>&1")])
                .output()
                .unwrap();
            (
                output.status.success(),
                String::from_utf8_lossy(&output.stdout).into_owned(),
            )
        })
    }

    /// Runs a command line inside that must succeed.
    pub(crate) fn sh(&self, line: &str) -> String {
        let (good, output) = self.try_sh(line);
        assert!(good, "`{line}` failed: {output}");
        output
    }

    pub(crate) fn ip(&self, arguments: &str) -> String {
        self.sh(&format!("ip {arguments}"))
    }

    /// Starts a program inside; killed when the guard drops.
    pub(crate) fn start(&self, mut command: Command) -> Guard {
        Guard(self.run(move || command.spawn().expect("the program is installed")))
    }

    /// Pings until an answer comes, for at most 10 s.
    pub(crate) fn ping(&self, to: &str) {
        let (good, output) = self.try_sh(&format!("ping -n -c 1 -i 0.2 -w 10 {to}"));
        assert!(good, "no answer from {to}: {output}");
    }

    /// Lays a cable to another namespace, with an IPv4 and an IPv6 network `number` on it.
    pub(crate) fn cable(&self, other: &Self, device: &str, number: u8) {
        let peer = &other.path;
        self.ip(&format!(
            "link add {device} type veth peer name {device} netns {peer}"
        ));
        for (end, last) in [(self, 1), (other, 2)] {
            end.ip(&format!("addr add 192.0.{number}.{last}/24 dev {device}"));
            end.ip(&format!(
                "addr add fd00:{number}::{last}/64 dev {device} nodad"
            ));
            end.ip(&format!("link set {device} up"));
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.jobs = None;
        let _ = self.thread.take().unwrap().join();
    }
}

/// A program that ends with the test.
pub(crate) struct Guard(pub(crate) Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a test as root: at once, or once more inside a user namespace where this user is root.
pub(crate) fn as_root(name: &str, test: impl FnOnce()) {
    if geteuid().is_root() {
        return test();
    }
    assert!(
        std::env::var_os("MESHNODE_INSIDE").is_none(),
        "no root even in a user namespace"
    );
    let program = std::env::current_exe().unwrap();
    let status = Command::new("unshare")
        .args([
            "-Urnm",
            "sh",
            "-c",
            "mount -t tmpfs tmpfs /run && exec \"$@\"",
            "sh",
        ])
        .arg(program)
        .args(["--exact", name, "--nocapture"])
        .env("MESHNODE_INSIDE", "1")
        .stdin(Stdio::null())
        .status();
    let good = status.is_ok_and(|status| status.success());
    assert!(
        good,
        "{name} needs root, or a kernel that allows user namespaces with /dev/net/tun"
    );
}

/// Waits for something that happens soon, at most 10 s.
pub(crate) fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test of real programs waits in real time"
    )]
    let start = Instant::now();
    while !check() {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{what} did not happen in 10 s"
        );
        thread::sleep(Duration::from_millis(50));
    }
}

/// An address on a cable.
pub(crate) fn outer(text: &str) -> IpAddr {
    text.parse().unwrap()
}
