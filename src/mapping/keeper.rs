//! When the router is asked: at once when it is another one, at half of a lease, and again after a failure.

use std::future::pending;
use std::net::{SocketAddr, SocketAddrV4};
use std::num::NonZeroU16;
use std::pin::pin;
use std::time::Duration;

use meshnode_protocol::io::Mapped;
use meshnode_protocol::path::is_public;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::{Finding, Lease, MappingConfig, Method, Report, Router, datagrams, upnp};

/// What is asked for: short, so that a router that lost its memory is asked again within ten minutes.
pub(super) const LEASE_S: u32 = 1200;
/// The shortest lease that is believed: a router is asked at most once a minute.
const LEASE_S_MIN: u32 = 120;
/// Between tries while a lease that could not be renewed still holds.
const RETRY: Duration = Duration::from_secs(30);
/// Until the next try when nothing was mapped: doubled each time, up to the second.
const PAUSES_S: (u64, u64) = (60, 900);
/// How long giving a mapping back may take.
const LET_GO: Duration = Duration::from_secs(1);

/// One question: which port of which machine, and which outside ports would be welcome.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) router: Router,
    pub(super) port: NonZeroU16,
    pub(super) nonce: [u32; 3],
    pub(super) tunnel: NonZeroU16,
    pub(super) control: NonZeroU16,
}

/// A method, with what it takes to go on by it.
#[derive(Clone, Debug)]
pub(super) enum Way {
    Pcp,
    NatPmp,
    Upnp(Box<upnp::Gateway>),
}

impl Way {
    const fn method(&self) -> Method {
        match self {
            Self::Pcp => Method::Pcp,
            Self::NatPmp => Method::NatPmp,
            Self::Upnp(_) => Method::Upnp,
        }
    }
}

/// What a router gave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given {
    pub(super) tunnel: SocketAddrV4,
    pub(super) control: Option<SocketAddrV4>,
    pub(super) lease_s: u32,
}

#[derive(Debug)]
struct Held {
    way: Way,
    given: Given,
    /// How long it holds still.
    left: Duration,
}

#[derive(Debug)]
pub(super) struct Keeper {
    config: MappingConfig,
    tell: watch::Sender<Mapped>,
    note: watch::Sender<Report>,
    held: Option<Held>,
}

impl Keeper {
    pub(super) const fn new(
        config: MappingConfig,
        tell: watch::Sender<Mapped>,
        note: watch::Sender<Report>,
    ) -> Self {
        Self {
            config,
            tell,
            note,
            held: None,
        }
    }

    /// Until nobody says any more which router there is.
    pub(super) async fn run(mut self, mut routers: watch::Receiver<Option<Router>>) {
        loop {
            // Whoever has a public address has nothing to ask of the provider's router.
            let router = *routers.borrow_and_update();
            let router = router.filter(|router| !is_outside(router, self.config.port));
            self.note.send_modify(|report| {
                *report = Report {
                    router,
                    ..Report::default()
                };
            });
            let goes_on = tokio::select! {
                changed = routers.changed() => changed.is_ok(),
                () = self.keep(router) => true,
            };
            self.let_go(router).await;
            if !goes_on {
                return;
            }
        }
    }

    async fn keep(&mut self, router: Option<Router>) {
        let Some(router) = router else {
            return pending().await;
        };
        let mut failures = 0;
        loop {
            let wait = if self.renew(router).await || self.discover(router).await {
                failures = 0;
                self.held.as_ref().map_or(RETRY, |held| held.left / 2)
            } else {
                failures += 1;
                self.retry_after(failures)
            };
            sleep(wait).await;
            if let Some(held) = &mut self.held {
                held.left = held.left.saturating_sub(wait);
            }
        }
    }

    /// After how long to try again; what does not hold any more is taken back here.
    fn retry_after(&mut self, failures: u32) -> Duration {
        let left = self.held.as_ref().map_or(Duration::ZERO, |held| held.left);
        if !left.is_zero() {
            return RETRY.min(left);
        }
        if self.held.take().is_some() {
            tracing::info!("the router does not lead to this node any more");
            self.publish();
        }
        pause(failures)
    }

    /// Asks for the same again, by the way that worked.
    async fn renew(&mut self, router: Router) -> bool {
        let Some(held) = &self.held else { return false };
        let (way, ask) = (held.way.clone(), self.ask(router));
        let method = way.method();
        match map(&way, &ask).await {
            Ok(given) => {
                self.adopt(way, given);
                true
            }
            Err(finding) => {
                tracing::debug!(%method, ?finding, "a mapping could not be renewed");
                self.found(method, finding);
                false
            }
        }
    }

    /// Asks by all methods at once; the first that maps is taken, the others are asked to their end for the report.
    async fn discover(&mut self, router: Router) -> bool {
        let ask = self.ask(router);
        let mut by_datagrams = pin!(datagrams::try_both(&ask));
        let mut by_upnp = pin!(upnp::find(router));
        let (mut asks_datagrams, mut asks_upnp, mut found) = (true, true, false);
        while asks_datagrams || asks_upnp {
            tokio::select! {
                biased;
                (pcp, nat_pmp) = &mut by_datagrams, if asks_datagrams => {
                    asks_datagrams = false;
                    found |= self.weigh(Way::Pcp, pcp, found);
                    match nat_pmp {
                        // One mapping is enough, and on many routers both methods speak of the same one.
                        Ok(()) if found => self.found(Method::NatPmp, Finding::Serves),
                        Ok(()) => {
                            let given = map(&Way::NatPmp, &ask).await;
                            found |= self.weigh(Way::NatPmp, given, found);
                        }
                        Err(finding) => self.found(Method::NatPmp, finding),
                    }
                }
                gateway = &mut by_upnp, if asks_upnp => {
                    asks_upnp = false;
                    match gateway {
                        Some(_) if found => self.found(Method::Upnp, Finding::Serves),
                        Some(gateway) => {
                            let way = Way::Upnp(Box::new(gateway));
                            let given = map(&way, &ask).await;
                            found |= self.weigh(way, given, found);
                        }
                        None => self.found(Method::Upnp, Finding::Silent),
                    }
                }
            }
        }
        found
    }

    /// Takes what a method gave, unless there is something already; whether it did.
    fn weigh(&mut self, way: Way, given: Result<Given, Finding>, found: bool) -> bool {
        let method = way.method();
        self.found(
            method,
            given.map_or_else(|finding| finding, |_| Finding::Serves),
        );
        match given {
            Ok(given) if !found => {
                self.adopt(way, given);
                true
            }
            Ok(_) | Err(_) => false,
        }
    }

    fn adopt(&mut self, way: Way, given: Given) {
        let method = way.method();
        let lease_s = given.lease_s.clamp(LEASE_S_MIN, LEASE_S);
        if self.held.is_none() {
            tracing::info!(%method, "the router leads to this node");
        }
        tracing::debug!(%method, ?given, "mapped");
        self.held = Some(Held {
            way,
            given,
            left: Duration::from_secs(lease_s.into()),
        });
        self.publish();
    }

    /// Gives everything back, and says first that it does not count any more.
    async fn let_go(&mut self, router: Option<Router>) {
        let (Some(router), Some(held)) = (router, &self.held) else {
            return;
        };
        let (way, ask) = (held.way.clone(), self.ask(router));
        self.held = None;
        self.publish();
        if timeout(LET_GO, unmap(&way, &ask)).await.is_err() {
            tracing::debug!("the router does not take the mapping back; it ends by itself");
        }
    }

    fn publish(&self) {
        let given = self.held.as_ref().map(|held| held.given);
        let lease = self.held.as_ref().map(|held| Lease {
            method: held.way.method(),
            tunnel: held.given.tunnel,
            control: held.given.control,
        });
        let tunnel = given.map(|given| given.tunnel.into());
        let control = given.and_then(|given| given.control).map(SocketAddr::from);
        let mapped = Mapped {
            tunnel: tunnel.into_iter().collect(),
            control: control.into_iter().collect(),
        };
        self.note.send_modify(|report| report.lease = lease);
        self.tell.send_if_modified(|told| {
            let news = *told != mapped;
            *told = mapped;
            news
        });
    }

    fn found(&self, method: Method, finding: Finding) {
        self.note.send_modify(|report| {
            report.found.insert(method, finding);
        });
    }

    /// What to ask for now: the outside ports of before, or the same numbers as inside.
    fn ask(&self, router: Router) -> Ask {
        let port = self.config.port;
        let given = self.held.as_ref().map(|held| held.given);
        let before = |address: Option<SocketAddrV4>| {
            let port_before = address.and_then(|address| NonZeroU16::new(address.port()));
            port_before.unwrap_or(port)
        };
        Ask {
            router,
            port,
            nonce: self.config.nonce,
            tunnel: before(given.map(|given| given.tunnel)),
            control: before(given.and_then(|given| given.control)),
        }
    }
}

/// Maps both ports; the control plane's may fail.
async fn map(way: &Way, ask: &Ask) -> Result<Given, Finding> {
    match way {
        Way::Pcp => datagrams::map_by_pcp(ask).await,
        Way::NatPmp => datagrams::map_by_nat_pmp(ask).await,
        Way::Upnp(gateway) => upnp::map(gateway, ask).await,
    }
}

async fn unmap(way: &Way, ask: &Ask) {
    match way {
        Way::Pcp => datagrams::unmap_by_pcp(ask).await,
        Way::NatPmp => datagrams::unmap_by_nat_pmp(ask).await,
        Way::Upnp(gateway) => upnp::unmap(gateway, ask).await,
    }
}

/// An outside address, if it is one that the internet leads to.
pub(super) fn outside(address: SocketAddrV4) -> Result<SocketAddrV4, Finding> {
    if is_public(&address.into()) {
        Ok(address)
    } else if is_public(&(*address.ip(), u16::MAX).into()) {
        // The address is fine; a port of a well-known service is not.
        Err(Finding::Refuses)
    } else {
        Err(Finding::Inside(*address.ip()))
    }
}

fn is_outside(router: &Router, port: NonZeroU16) -> bool {
    outside(SocketAddrV4::new(router.own, port.get().max(1024))).is_ok()
}

fn pause(failures: u32) -> Duration {
    let (first, longest) = PAUSES_S;
    let doubled = first << failures.saturating_sub(1).min(10);
    Duration::from_secs(doubled.min(longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_router_that_maps_nothing_is_asked_ever_more_rarely_but_for_ever() {
        let pauses: Vec<u64> = (1..8).map(|failures| pause(failures).as_secs()).collect();
        assert_eq!(pauses, [60, 120, 240, 480, 900, 900, 900]);
        assert_eq!(pause(u32::MAX).as_secs(), 900);
    }

    #[test]
    fn an_outside_address_within_a_second_nat_is_told_apart() {
        let judged = |text: &str| outside(text.parse().unwrap());
        assert!(judged("25.0.1.2:41641").is_ok());
        assert_eq!(judged("25.0.1.2:53"), Err(Finding::Refuses));
        for inside in ["192.168.0.2", "100.64.0.9", "10.1.2.3", "0.0.0.0"] {
            let finding = Finding::Inside(inside.parse().unwrap());
            assert_eq!(judged(&format!("{inside}:41641")), Err(finding));
        }
    }
}
