//! Peers that are gone without a word. When a process dies and its machine lives, the network says that nobody listens at
//! its address; since anyone can forge that, the peer is asked, and gone is who does not answer.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use millstream_quic::Unreachable;
use millstream_wire::CloseCode;

use crate::{
    limits::{GONE_AFTER, GONE_ROUND_TRIPS, REPORTS_EVERY, REPORTS_MIN},
    peer::Peer,
    session::Context,
};

/// What speaks against a peer. It knows no clock and no socket.
#[derive(Debug, Default)]
pub(crate) struct Suspicion {
    first: Option<First>,
    reports: u32,
}

/// The first report since the peer was heard.
#[derive(Debug, Clone, Copy)]
struct First {
    at: Instant,
    /// Datagrams that had come from the peer by then.
    heard: u64,
}

/// What to do about a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Ask the peer whether it is there.
    Ask,
    /// It was asked and has still time.
    Wait,
    /// It is gone.
    GiveUp,
}

impl Suspicion {
    /// At `now` the network says that nobody listens at the peer's address; `heard` datagrams have come from it so far.
    pub(crate) fn reported(&mut self, now: Instant, heard: u64, round_trip: Duration) -> Next {
        let Some(first) = self.first.filter(|first| first.heard == heard) else {
            *self = Self { first: Some(First { at: now, heard }), reports: 1 };
            return Next::Ask;
        };
        self.reports = self.reports.saturating_add(1);
        let time = GONE_AFTER.max(round_trip * GONE_ROUND_TRIPS);
        let late = now.saturating_duration_since(first.at) >= time;
        if late && self.reports >= REPORTS_MIN { Next::GiveUp } else { Next::Wait }
    }
}

/// Those who are there, to find whom a report is about.
#[derive(Default)]
pub(crate) struct Peers {
    all: Mutex<HashMap<usize, Arc<Peer>>>,
}

impl Peers {
    /// Notes `peer` until what is returned is dropped.
    pub(crate) fn enter(&self, peer: &Arc<Peer>) -> Present<'_> {
        let id = peer.connection.stable_id();
        self.lock().insert(id, Arc::clone(peer));
        Present { peers: self, id }
    }

    /// The network says that nobody listens at `addresses`. Gives up who is gone, and returns how many.
    fn reported(&self, addresses: &HashSet<SocketAddr>, now: Instant) -> u64 {
        let all = self.lock();
        let meant = all.values().filter(|peer| addresses.contains(&plain(peer.connection.remote_address())));
        meant.map(|peer| u64::from(peer.reported(now))).sum()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<usize, Arc<Peer>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A peer's place among those who are there.
pub(crate) struct Present<'a> {
    peers: &'a Peers,
    id: usize,
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.peers.lock().remove(&self.id);
    }
}

impl Peer {
    /// Whether it is given up.
    fn reported(&self, now: Instant) -> bool {
        let heard = self.connection.stats().udp_rx.datagrams;
        let next = self.suspicion().reported(now, heard, self.connection.rtt());
        match next {
            Next::Ask => self.probe(),
            Next::Wait => {}
            Next::GiveUp => {
                tracing::info!(peer = %self.connection.remote_address(), "vanished: nobody listens there any more");
                self.vanish(CloseCode::Vanished, "nobody seems to listen at your address any more");
                return true;
            }
        }
        false
    }
}

/// Acts on what the network says, for as long as the server runs.
pub(crate) async fn watch(mut unreachable: Unreachable, context: Arc<Context>) {
    loop {
        let told = match unreachable.next().await {
            Ok(told) => told,
            Err(error) => {
                return tracing::warn!(%error, "peers that are gone are noticed by their idle time-out alone");
            }
        };
        let addresses = told.into_iter().map(plain).collect();
        let gone = context.peers.reported(&addresses, Instant::now());
        context.vanished.fetch_add(gone, Ordering::Relaxed);
        // However much somebody forges.
        tokio::time::sleep(REPORTS_EVERY).await;
    }
}

/// An IPv4 address as such, also where a socket of IPv6 names it.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(1);

    /// What is done about reports that come after so many ms, when so many datagrams had come from the peer.
    fn check(reports: &[(u64, u64)], expected: &[Next]) {
        let (mut suspicion, start) = (Suspicion::default(), Instant::now());
        let report =
            |&(ms, heard): &(u64, u64)| suspicion.reported(start + Duration::from_millis(ms), heard, RTT);
        let found: Vec<_> = reports.iter().map(report).collect();
        assert_eq!(found, expected, "{reports:?}");
    }

    #[test]
    fn gone_is_who_is_reported_again_and_again_and_says_nothing() {
        use Next::{Ask, GiveUp, Wait};
        check(&[(0, 7), (30, 7), (90, 7), (210, 7), (930, 7)], &[Ask, Wait, Wait, Wait, GiveUp]);
        // Too few, however late.
        check(&[(0, 7), (60_000, 7)], &[Ask, Wait]);
        check(&[(0, 7), (60_000, 7), (60_001, 7)], &[Ask, Wait, GiveUp]);
    }

    #[test]
    fn who_answers_is_there_whatever_is_reported() {
        use Next::{Ask, Wait};
        // A thousand forged reports a second; the peer answers each time it is asked, in 20 ms.
        let (mut suspicion, start, mut heard, mut asked) = (Suspicion::default(), Instant::now(), 0, None);
        for ms in 0..5_000 {
            if asked.is_some_and(|asked| ms >= asked + 20) {
                (heard, asked) = (heard + 1, None);
            }
            match suspicion.reported(start + Duration::from_millis(ms), heard, RTT) {
                Ask => asked = Some(ms),
                Wait => {}
                Next::GiveUp => panic!("given up after {ms} ms"),
            }
        }
        assert!(heard > 200);
        // One that speaks for another reason is there, too, from then on.
        check(&[(0, 1), (200, 1), (400, 1), (499, 2), (900, 2)], &[Ask, Wait, Wait, Ask, Wait]);
    }

    #[test]
    fn who_is_far_away_has_more_time() {
        let (mut suspicion, start) = (Suspicion::default(), Instant::now());
        let mut at =
            |ms| suspicion.reported(start + Duration::from_millis(ms), 0, Duration::from_millis(300));
        assert_eq!([at(0), at(600), at(1_200), at(2_000)], [Next::Ask, Next::Wait, Next::Wait, Next::Wait]);
        assert_eq!(at(2_400), Next::GiveUp);
    }
}
