//! A bad network between clients and a server: relays UDP datagrams and, by chance, loses, repeats and delays them, which
//! also puts them in another order; and changes the address that the server sees of a client, as a NAT does.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{net::UdpSocket, task::JoinHandle};

use crate::Rng;

/// Largest datagram that UDP can have.
const DATAGRAM_BYTES_MAX: usize = 65_535;
/// Largest one that the network carries, as networks do. Loopback's would make few datagrams of much.
const CARRIED_BYTES_MAX: usize = 1_400;

/// What becomes of datagrams, either way.
#[derive(Debug, Clone, Copy, Default)]
pub struct Damage {
    /// Share that is lost.
    pub lost: f64,
    /// Share that comes twice.
    pub repeated: f64,
    /// Share that comes later, and so behind others.
    pub delayed: f64,
    /// By how much at most.
    pub delay: Duration,
    /// After about so many datagrams of a client, it has another address.
    pub moves_after: Option<u64>,
}

/// What became of datagrams so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suffered {
    /// Datagrams that came to the proxy, but for those too large for it.
    pub datagrams: u64,
    /// Of those, lost.
    pub lost: u64,
    /// Of those, sent on twice.
    pub repeated: u64,
    /// Times that one was sent on later.
    pub delayed: u64,
    /// Times that a client got another address.
    pub moves: u64,
}

/// The network. Dropping it cuts all connections.
#[derive(Debug)]
pub struct Proxy {
    network: Arc<Network>,
    address: SocketAddr,
    relay: JoinHandle<()>,
}

#[derive(Debug)]
struct Network {
    /// Where clients send to.
    front: UdpSocket,
    server: SocketAddr,
    damage: Damage,
    rng: Mutex<Rng>,
    /// Rises when all clients are to have another address.
    addresses: AtomicU64,
    dark: AtomicBool,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    datagrams: AtomicU64,
    lost: AtomicU64,
    repeated: AtomicU64,
    delayed: AtomicU64,
    moves: AtomicU64,
}

/// What the server takes for a client.
struct Path {
    socket: Arc<UdpSocket>,
    down: JoinHandle<()>,
    /// See [`Network::addresses`].
    addresses: u64,
    /// Datagrams until it moves.
    left: u64,
}

/// Where a datagram goes.
#[derive(Clone)]
enum To {
    Server(Arc<UdpSocket>),
    Client(SocketAddr),
}

impl Proxy {
    /// A network in front of `server`, whose chances come from `seed`.
    ///
    /// # Panics
    /// When there is no socket.
    pub async fn start(server: SocketAddr, damage: Damage, seed: u64) -> Self {
        let front = UdpSocket::bind(local()).await.expect("a socket");
        let address = front.local_addr().expect("an address");
        let network = Arc::new(Network {
            front,
            server,
            damage,
            rng: Mutex::new(Rng::new(seed)),
            addresses: AtomicU64::new(0),
            dark: AtomicBool::new(false),
            counts: Counts::default(),
        });
        let relay = tokio::spawn(relay(Arc::clone(&network)));
        Self { network, address, relay }
    }

    /// Where clients connect instead of to the server.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gives every client another address: what the server sends to the one before is lost from now on, and it learns of
    /// the new one by what the client sends next.
    pub fn move_clients(&self) {
        self.network.addresses.fetch_add(1, Ordering::Relaxed);
    }

    /// From now on everything is lost, or not.
    pub fn set_dark(&self, dark: bool) {
        self.network.dark.store(dark, Ordering::Relaxed);
    }

    /// What became of datagrams so far.
    pub fn suffered(&self) -> Suffered {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counts { datagrams, lost, repeated, delayed, moves } = &self.network.counts;
        Suffered {
            datagrams: of(datagrams),
            lost: of(lost),
            repeated: of(repeated),
            delayed: of(delayed),
            moves: of(moves),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.relay.abort();
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        self.down.abort();
    }
}

/// Takes what clients send.
async fn relay(network: Arc<Network>) {
    let mut paths: HashMap<SocketAddr, Path> = HashMap::new();
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        // Fails when a client that is gone was sent something.
        let Ok((len, client)) = network.front.recv_from(&mut buffer).await else { continue };
        let moves = paths.get(&client).is_some_and(|path| path.left == 0 || path.is_stale(&network));
        if moves {
            network.counts.moves.fetch_add(1, Ordering::Relaxed);
            paths.remove(&client);
        }
        let path = match paths.entry(client) {
            std::collections::hash_map::Entry::Occupied(found) => found.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                let Ok(path) = Path::open(&network, client).await else { continue };
                place.insert(path)
            }
        };
        path.left -= 1;
        network.pass(buffer.get(..len).unwrap_or_default(), To::Server(Arc::clone(&path.socket)));
    }
}

impl Path {
    async fn open(network: &Arc<Network>, client: SocketAddr) -> std::io::Result<Self> {
        let socket = UdpSocket::bind(local()).await?;
        socket.connect(network.server).await?;
        let (socket, addresses) = (Arc::new(socket), network.addresses.load(Ordering::Relaxed));
        let down = tokio::spawn({
            let (network, socket) = (Arc::clone(network), Arc::clone(&socket));
            async move {
                let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
                loop {
                    // Fails when nobody listens at the server's address.
                    let Ok(len) = socket.recv(&mut buffer).await else { continue };
                    if network.addresses.load(Ordering::Relaxed) == addresses {
                        network.pass(buffer.get(..len).unwrap_or_default(), To::Client(client));
                    }
                }
            }
        });
        let after = network.damage.moves_after;
        // Not all at the same moment.
        let left = after.map_or(u64::MAX, |after| after / 2 + 1 + network.rng().below(after));
        Ok(Self { socket, down, addresses, left })
    }

    fn is_stale(&self, network: &Network) -> bool {
        self.addresses != network.addresses.load(Ordering::Relaxed)
    }
}

impl Network {
    /// Sends a datagram on, or what chance makes of it.
    fn pass(self: &Arc<Self>, datagram: &[u8], to: To) {
        let Damage { lost, repeated, delayed, delay, .. } = self.damage;
        if datagram.len() > CARRIED_BYTES_MAX {
            return;
        }
        self.counts.datagrams.fetch_add(1, Ordering::Relaxed);
        let mut rng = self.rng();
        if self.dark.load(Ordering::Relaxed) || rng.chance(lost) {
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let copies = 1 + u64::from(rng.chance(repeated));
        self.counts.repeated.fetch_add(copies - 1, Ordering::Relaxed);
        for _ in 0..copies {
            if !rng.chance(delayed) {
                self.send(datagram, &to);
                continue;
            }
            self.counts.delayed.fetch_add(1, Ordering::Relaxed);
            let wait = delay.mul_f64(rng.share());
            let (network, datagram, to) = (Arc::clone(self), datagram.to_vec(), to.clone());
            tokio::spawn(async move {
                tokio::time::sleep(wait).await;
                network.send(&datagram, &to);
            });
        }
    }

    fn send(&self, datagram: &[u8], to: &To) {
        // What finds no room is lost, as in any network.
        let _ = match to {
            To::Server(socket) => socket.try_send(datagram),
            To::Client(client) => self.front.try_send_to(datagram, *client),
        };
    }

    fn rng(&self) -> std::sync::MutexGuard<'_, Rng> {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn local() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}
