//! Keeps this node's ports mapped at the router: a task asks by PCP, NAT-PMP and UPnP at once and renews what it got.
//!
//! Which router that is, the driver says; what is announced of a mapping, the core decides.

mod datagrams;
mod keeper;
mod upnp;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::num::NonZeroU16;
use std::time::Duration;

use meshnode_protocol::io::Mapped;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::keeper::Keeper;

/// How long a stop waits for the router to take mappings back, beyond what giving them back may take.
const STOP_PATIENCE: Duration = Duration::from_millis(1500);

/// The machine's way to the world, as far as a router leads there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Router {
    /// Its address on this side.
    pub gateway: Ipv4Addr,
    /// The machine's own address towards it.
    pub own: Ipv4Addr,
}

/// What is mapped.
#[derive(Clone)]
pub struct MappingConfig {
    /// The tunnel's UDP port and the control plane's TCP port: one number.
    pub port: NonZeroU16,
    /// What PCP knows the owner of a mapping by: the same after a restart, and nobody else's guess.
    pub nonce: [u32; 3],
}

impl fmt::Debug for MappingConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("MappingConfig");
        out.field("port", &self.port).finish_non_exhaustive()
    }
}

/// A protocol by which routers map ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// RFC 6887.
    Pcp,
    /// RFC 6886.
    NatPmp,
    /// UPnP Internet Gateway Device, 1 or 2.
    Upnp,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pcp => "PCP",
            Self::NatPmp => "NAT-PMP",
            Self::Upnp => "UPnP",
        })
    }
}

/// What came of asking by one method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// No answer that makes sense.
    Silent,
    /// The router speaks it.
    Serves,
    /// The router speaks it and maps nothing, or not these ports.
    Refuses,
    /// The router's outer address is itself inside of something: a second router, or a provider's NAT.
    Inside(Ipv4Addr),
}

/// A mapping in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// By which method.
    pub method: Method,
    /// What leads to the tunnel's port.
    pub tunnel: SocketAddrV4,
    /// What leads to the control plane's TCP port, if the router maps that too.
    pub control: Option<SocketAddrV4>,
}

/// What is known of the router.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Which one is asked; none where no router leads to the world, or where this machine is outside itself.
    pub router: Option<Router>,
    /// What came of each method that has been tried.
    pub found: BTreeMap<Method, Finding>,
    /// The mapping in force.
    pub lease: Option<Lease>,
}

/// The task that keeps ports mapped. Dropped, it gives them back in its own time.
#[derive(Debug)]
pub struct Mapping {
    router: watch::Sender<Option<Router>>,
    mapped: watch::Receiver<Mapped>,
    report: watch::Receiver<Report>,
    task: JoinHandle<()>,
}

impl Mapping {
    /// Starts the task on the current runtime, in the network namespace of its threads; it waits for a router.
    #[must_use]
    pub fn start(config: MappingConfig) -> Self {
        let (router, routers) = watch::channel(None);
        let (tell, mapped) = watch::channel(Mapped::default());
        let (note, report) = watch::channel(Report::default());
        let keeper = Keeper::new(config, tell, note);
        let task = tokio::spawn(keeper.run(routers));
        Self {
            router,
            mapped,
            report,
            task,
        }
    }

    /// Says which router leads to the world now; the same again changes nothing.
    pub fn point_at(&self, router: Option<Router>) {
        self.router.send_if_modified(|known| {
            let news = *known != router;
            *known = router;
            news
        });
    }

    /// Waits until other outside addresses lead here. Safe to cancel.
    pub async fn changed(&mut self) -> Option<Mapped> {
        self.mapped.changed().await.ok()?;
        Some(self.mapped.borrow_and_update().clone())
    }

    /// What is known of the router now.
    #[must_use]
    pub fn report(&self) -> Report {
        self.report.borrow().clone()
    }

    /// Gives the mappings back and ends; a router that does not answer is not waited for.
    pub async fn stop(self) {
        drop(self.router);
        let abort = self.task.abort_handle();
        if timeout(STOP_PATIENCE, self.task).await.is_err() {
            abort.abort();
        }
    }
}
