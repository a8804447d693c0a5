//! The roads to a peer's TCP address: plain, in TLS where only HTTPS passes, and in TLS through a proxy of HTTP.
//!
//! An address stays an address of TCP: every node answers all roads at the same port (`docs/protocol.md` §8.8), and who
//! calls tries the next road when one fails or takes too long. Noise is inside of all of them, and the first road on
//! which it proved the peer wins.

mod certificate;
mod door;
mod head;
mod memory;
mod proxy;
#[cfg(test)]
mod tests;
mod tls;
mod wire;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use libp2p::core::ConnectedPoint;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId, Transport, noise, tcp, yamux};
use meshnode_protocol::record;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::address;
use memory::Memory;
use wire::Wire;

pub use certificate::Certificate;
pub use memory::Road;
pub use proxy::{Proxy, Trouble};

/// What a connection is, whatever road it came by.
type Made = (PeerId, StreamMuxerBox);
type Dialling = BoxFuture<'static, io::Result<Made>>;

/// What is known of the roads of a swarm; a handle.
#[derive(Clone, Debug, Default)]
pub(super) struct Map {
    pub(super) memory: Memory,
    proxy: Option<Arc<Proxy>>,
}

impl Map {
    pub(super) fn new(proxy: Option<Proxy>) -> Self {
        Self {
            memory: Memory::default(),
            proxy: proxy.map(Arc::new),
        }
    }
}

/// TCP by all its roads.
pub(super) struct Roads {
    plain: Boxed<Made>,
    web: Boxed<Made>,
    proxied: Option<(Arc<Proxy>, Boxed<Made>)>,
    memory: Memory,
}

impl Roads {
    /// # Errors
    /// When the keys cannot be used.
    pub(super) fn new(pair: &Keypair, own: &Certificate, map: &Map) -> anyhow::Result<Self> {
        let client = Arc::new(tls::client().context("Failed to set up TLS")?);
        let server = own.config();
        let config = tcp::Config::new().nodelay(true);
        let plain = tcp::tokio::Transport::new(config).and_then(move |stream, point| {
            let is_caller = matches!(point, ConnectedPoint::Listener { .. });
            let server = Arc::clone(&server);
            async move {
                if is_caller {
                    door::receive(stream, server).await
                } else {
                    Ok(Wire::Plain(stream))
                }
            }
        });
        let config = Arc::clone(&client);
        let web = Caller::new(move |to| web(to, Arc::clone(&config)).boxed());
        let proxied = map.proxy.clone().map(|proxy| {
            let (asked, memory) = (Arc::clone(&proxy), map.memory.clone());
            let config = client;
            let caller = Caller::new(move |to| {
                let (proxy, memory) = (Arc::clone(&asked), memory.clone());
                by_proxy(to, proxy, memory, Arc::clone(&config)).boxed()
            });
            (proxy, caller)
        });
        let proxied = match proxied {
            Some((proxy, caller)) => Some((proxy, secured(caller, pair)?)),
            None => None,
        };
        Ok(Self {
            plain: secured(plain, pair)?,
            web: secured(web, pair)?,
            proxied,
            memory: map.memory.clone(),
        })
    }

    /// The roads to an address, the most promising first.
    fn dials(
        &mut self,
        to: SocketAddr,
        address: &Multiaddr,
        opts: DialOpts,
    ) -> Result<VecDeque<(Road, Dialling)>, TransportError<io::Error>> {
        let mut roads = VecDeque::new();
        let plain = self.plain.dial(address.clone(), opts)?;
        roads.push_back((Road::Tcp, plain));
        let web = self.web.dial(address.clone(), opts)?;
        roads.push_back((Road::Tls, web));
        if let Some((proxy, caller)) = &mut self.proxied
            && proxy.leads_to(to.ip())
        {
            let proxied = caller.dial(address.clone(), opts)?;
            roads.push_back((Road::Proxy, proxied));
        }
        if let Some(last) = self.memory.last(to, Instant::now())
            && let Some(at) = roads.iter().position(|(road, _)| *road == last)
            && let Some(first) = roads.remove(at)
        {
            roads.push_front(first);
        }
        Ok(roads)
    }
}

/// Noise and yamux on a stream of any road.
fn secured<T>(streams: T, pair: &Keypair) -> anyhow::Result<Boxed<Made>>
where
    T: Transport<Output = Wire> + Send + Unpin + 'static,
    T::Error: Send + Sync + 'static,
    T::ListenerUpgrade: Send,
    T::Dial: Send,
{
    Ok(streams
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(pair).context("Failed to set up TCP")?)
        .multiplex(yamux::Config::default())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
        .boxed())
}

async fn web(to: SocketAddr, config: Arc<ClientConfig>) -> io::Result<Wire> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    door::call(stream, to, config).await
}

async fn by_proxy(
    to: SocketAddr,
    proxy: Arc<Proxy>,
    memory: Memory,
    config: Arc<ClientConfig>,
) -> io::Result<Wire> {
    let asked = proxy.connect(to).await;
    memory.asked(asked.as_ref().map(|_| ()).map_err(|(trouble, _)| *trouble));
    let stream = asked.map_err(|(trouble, error)| {
        tracing::debug!(?trouble, "The proxy does not lead there");
        error
    })?;
    door::call(stream, to, config).await
}

/// Tries one road after the other; who is first to prove the peer wins, and the others are given up.
async fn race(
    to: SocketAddr,
    mut waiting: VecDeque<(Road, Dialling)>,
    memory: Memory,
) -> io::Result<Made> {
    let begin = |(road, dialling): (Road, Dialling)| dialling.map(move |made| (road, made));
    let mut running = FuturesUnordered::new();
    let mut end = io::ErrorKind::AddrNotAvailable.into();
    running.extend(waiting.pop_front().map(begin));
    while !running.is_empty() {
        tokio::select! {
            Some((road, made)) = running.next() => match made {
                Ok(made) => {
                    memory.note(to, road, Instant::now());
                    return Ok(made);
                }
                Err(error) => {
                    tracing::debug!(?road, %error, "A road does not lead there");
                    end = error;
                    running.extend(waiting.pop_front().map(begin));
                }
            },
            () = sleep(STAGGER), if !waiting.is_empty() => {
                running.extend(waiting.pop_front().map(begin));
            }
        }
    }
    Err(end)
}

impl Transport for Roads {
    type Output = Made;
    type Error = io::Error;
    type ListenerUpgrade = <Boxed<Made> as Transport>::ListenerUpgrade;
    type Dial = Dialling;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        self.plain.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.plain.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        opts: DialOpts,
    ) -> Result<Dialling, TransportError<io::Error>> {
        let Some(to) = socket(&address) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        let waiting = self.dials(to, &address, opts)?;
        Ok(race(to, waiting, self.memory.clone()).boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Pin::new(&mut self.plain).poll(cx)
    }
}

/// A transport that only calls.
struct Caller {
    call: Box<dyn Fn(SocketAddr) -> BoxFuture<'static, io::Result<Wire>> + Send>,
}

impl Caller {
    fn new(
        call: impl Fn(SocketAddr) -> BoxFuture<'static, io::Result<Wire>> + Send + 'static,
    ) -> Self {
        let call = Box::new(call);
        Self { call }
    }
}

impl Transport for Caller {
    type Output = Wire;
    type Error = io::Error;
    type ListenerUpgrade = BoxFuture<'static, io::Result<Wire>>;
    type Dial = BoxFuture<'static, io::Result<Wire>>;

    fn listen_on(
        &mut self,
        _: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        Err(TransportError::MultiaddrNotSupported(address))
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        false
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        _: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        match socket(&address) {
            Some(to) => Ok((self.call)(to)),
            None => Err(TransportError::MultiaddrNotSupported(address)),
        }
    }

    fn poll(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Poll::Pending
    }
}

fn socket(address: &Multiaddr) -> Option<SocketAddr> {
    let address = address::control_address(address)?;
    (address.transport == record::Transport::Tcp).then_some(address.address)
}

/// How long a road has before the next one is tried beside it: what a handshake over half the world takes.
const STAGGER: Duration = Duration::from_millis(400);
