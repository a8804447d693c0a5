//! A whole machine of its own for the program: system folders, users, network and processes, in fresh namespaces.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::{code, spawn, stderr, stdout};

/// Where the program lies inside: every user can reach it there.
pub(crate) const PROGRAM: &str = "/run/program";
/// Folders, accounts and a loopback device that no other machine has; ends with the outer process.
const SETUP: &str = "
set -e
mount -t tmpfs tmpfs /var/lib
mount --bind \"$ETC\" /etc
mount -t tmpfs -o mode=0755 tmpfs /run
touch /run/program
mount --bind \"$BINARY\" /run/program
ip link set lo up
echo ready
exec sleep infinity
";
const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/sh
alice:x:4001:4001::/:/bin/sh
bob:x:4002:4002::/:/bin/sh
mallory:x:4003:4003::/:/bin/sh
";
const GROUP: &str = "root:x:0:\nalice:x:4001:\nbob:x:4002:\nmallory:x:4003:\nmeshnode:x:4100:bob\n";

/// People of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Person {
    Root,
    /// Typed `sudo` at the first start.
    Alice,
    /// Is in the group `meshnode`.
    Bob,
    Mallory,
}

/// Such a machine; everything in it ends with it.
pub(crate) struct Sandbox {
    dir: TempDir,
    outer: Child,
    pub(crate) inner: String,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let etc = dir.path().join("etc");
        fs::create_dir_all(etc.join("meshnode")).unwrap();
        fs::write(etc.join("passwd"), PASSWD).unwrap();
        fs::write(etc.join("group"), GROUP).unwrap();
        fs::write(etc.join("hostname"), "box\n").unwrap();
        let namespaces = [
            "--mount",
            "--net",
            "--uts",
            "--pid",
            "--fork",
            "--kill-child",
        ];
        let mut outer = Command::new("unshare")
            .args(namespaces)
            .args(["--mount-proc", "sh", "-c", SETUP])
            .env("ETC", &etc)
            .env("BINARY", env!("CARGO_BIN_EXE_meshnode"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut reader = BufReader::new(outer.stdout.take().unwrap());
        reader.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "these tests need root and namespaces");
        let pid = outer.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let inner = children.trim().to_owned();
        Self { dir, outer, inner }
    }

    /// A file of the machine, from outside.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        if let Some(etc) = inside.strip_prefix("/etc/") {
            return self.dir.path().join("etc").join(etc);
        }
        Path::new("/proc")
            .join(&self.inner)
            .join("root")
            .join(&inside[1..])
    }

    pub(crate) fn inside(&self, program: &[&str]) -> Output {
        let mut command = Command::new("nsenter");
        command.args([
            "--target",
            &self.inner,
            "--mount",
            "--net",
            "--uts",
            "--pid",
            "--",
        ]);
        command.args(program).env_clear();
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        spawn(command, "")
    }

    pub(crate) fn run_as(&self, person: Person, words: &[&str]) -> Output {
        let user = match person {
            Person::Root => &[][..],
            Person::Alice => &["--reuid=4001", "--regid=4001", "--clear-groups"],
            Person::Bob => &["--reuid=4002", "--regid=4002", "--groups=4002,4100"],
            Person::Mallory => &["--reuid=4003", "--regid=4003", "--clear-groups"],
        };
        let mut all = vec!["setpriv"];
        all.extend(user);
        if person == Person::Root {
            all = vec!["env", "SUDO_UID=4001"];
        }
        all.push(PROGRAM);
        all.extend(words);
        self.inside(&all)
    }

    pub(crate) fn run(&self, words: &[&str]) -> Output {
        self.run_as(Person::Root, words)
    }

    /// A command that must succeed; what it printed.
    #[track_caller]
    pub(crate) fn done(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert_eq!(
            code(&output),
            0,
            "{words:?}: {}{}",
            stdout(&output),
            stderr(&output)
        );
        stdout(&output)
    }

    #[track_caller]
    pub(crate) fn ask(&self, words: &[&str]) -> Value {
        let mut all = words.to_vec();
        all.push("--json");
        serde_json::from_str(&self.done(&all)).unwrap()
    }

    /// A command that must fail with this exit code; what it said.
    #[track_caller]
    pub(crate) fn refused(&self, exit: i32, words: &[&str]) -> String {
        let output = self.run(words);
        assert_eq!(
            code(&output),
            exit,
            "{words:?}: {}{}",
            stdout(&output),
            stderr(&output)
        );
        stderr(&output)
    }

    /// The daemon of a network, as this machine counts processes.
    fn daemon(&self, local_name: &str) -> String {
        let lock = self.path(&format!("/var/lib/meshnode/{local_name}/lock"));
        fs::read_to_string(lock).unwrap().trim().to_owned()
    }

    pub(crate) fn signal(&self, local_name: &str, signal: &str) {
        let pid = self.daemon(local_name);
        assert_eq!(code(&self.inside(&["kill", signal, &pid])), 0);
    }

    /// Stops a network's daemon and waits until it is gone.
    pub(crate) fn stop(&self, local_name: &str) {
        self.signal(local_name, "-TERM");
        let socket = self.path(&format!("/run/meshnode/{local_name}/meshnode.sock"));
        eventually("the daemon is gone", || !socket.exists());
        // Its lock goes with it, right after its socket.
        let pid = self.daemon(local_name);
        self.await_end(&pid);
    }

    /// Kills a network's daemon, as a power cut would.
    pub(crate) fn kill(&self, local_name: &str) {
        let pid = self.daemon(local_name);
        self.signal(local_name, "-KILL");
        self.await_end(&pid);
    }

    pub(crate) fn await_end(&self, pid: &str) {
        let status = self.path(&format!("/proc/{pid}/status"));
        let threads = self.path(&format!("/proc/{pid}/task"));
        // The first process of this machine takes no notice of the dead; and the first thread of one may be gone before
        // the last that holds its sockets.
        let dead = |text: String| text.contains("State:\tZ");
        let alone = || fs::read_dir(&threads).map_or(true, |threads| threads.count() < 2);
        eventually("the process is gone", || {
            fs::read_to_string(&status).map_or(true, dead) && alone()
        });
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // Everything inside ends with it.
        let _ = self.outer.kill();
        let _ = self.outer.wait();
    }
}

#[track_caller]
pub(crate) fn eventually(claim: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("it does not become so: {claim}");
}
