//! The venue and the network between it and the worker, in simulated time, with faults on demand.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use kronos_ingest::{
    error::FeedError,
    wire::{Answer, Connection, Received, Request, Transport},
};
use kronos_venue::{Protocol, Trade, Venue};
use tokio::time::Instant;

/// 2023-11-14 22:13:20 UTC.
pub const START: i64 = 1_700_000_000_000_000;
/// Time between two trades of the venue.
pub const EVERY: Duration = Duration::from_millis(300);

/// Every feed with a stream.
pub const PROTOCOLS: [Protocol; 5] = [
    Protocol::Coinbase,
    Protocol::CoinbaseExchange,
    Protocol::Kraken,
    Protocol::Alpaca,
    Protocol::AlpacaCrypto,
];

/// What happens to one frame.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    None,
    Drop,
    Duplicate,
    /// Comes after its successor.
    Late,
    /// Noise comes before it.
    Garbage,
    /// Cut in the middle.
    Truncate,
    /// The connection is closed instead.
    Close,
    /// Nothing comes any more, the connection stays open.
    Silence,
}

/// What happens to one request or handshake.
#[derive(Clone, Copy, Debug)]
pub enum Refusal {
    None,
    Error,
    RateLimit,
    Lost,
}

/// The venue, what goes wrong around it, and since when.
pub struct World {
    pub venue: Venue,
    pub started: Instant,
    pub faults: Mutex<VecDeque<Fault>>,
    pub handshakes: Mutex<VecDeque<Refusal>>,
    pub requests: Mutex<VecDeque<Refusal>>,
    /// How far the REST interface is behind the stream.
    pub lag: Duration,
}

impl World {
    /// Trades that are out.
    fn published(&self) -> usize {
        self.published_in(self.started.elapsed())
    }

    /// Trades that the REST interface knows.
    fn listed(&self) -> usize {
        self.published_in(self.started.elapsed().saturating_sub(self.lag))
    }

    fn published_in(&self, elapsed: Duration) -> usize {
        let ticks = elapsed.as_millis() / EVERY.as_millis();
        usize::try_from(ticks).unwrap().min(self.venue.trades.len())
    }

    fn publication_of(&self, index: usize) -> Instant {
        self.started + EVERY * u32::try_from(index + 1).unwrap()
    }
}

/// The network of the worker.
#[derive(Clone)]
pub struct Simulated(pub Arc<World>);

impl Transport for Simulated {
    fn open(&self, _url: String) -> BoxFuture<'static, Result<Box<dyn Connection>, FeedError>> {
        let world = Arc::clone(&self.0);
        async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let refusal = world.handshakes.lock().unwrap().pop_front().unwrap_or(Refusal::None);
            match refusal {
                Refusal::None => {
                    let next = world.published();
                    let connection = Line {
                        world,
                        next,
                        sequence: 0,
                        ready: VecDeque::new(),
                        late: None,
                        heartbeats: 0,
                        silent: false,
                        pinged: false,
                    };
                    Ok(Box::new(connection) as Box<dyn Connection>)
                }
                Refusal::RateLimit => {
                    let retry_after = Some(Duration::from_secs(3));
                    Err(FeedError::RateLimited { reason: "too many connections".into(), retry_after })
                }
                _ => Err(FeedError::Transient("refused".into())),
            }
        }
        .boxed()
    }

    fn ask(&self, request: Request) -> BoxFuture<'static, Result<Answer, FeedError>> {
        let world = Arc::clone(&self.0);
        async move {
            tokio::time::sleep(Duration::from_millis(80)).await;
            let refusal = world.requests.lock().unwrap().pop_front().unwrap_or(Refusal::None);
            match refusal {
                Refusal::None => {}
                Refusal::Error => return Err(FeedError::Transient("HTTP 503".into())),
                Refusal::RateLimit => {
                    let retry_after = Some(Duration::from_secs(2));
                    return Err(FeedError::RateLimited { reason: "HTTP 429".into(), retry_after });
                }
                Refusal::Lost => {
                    tokio::time::sleep(Duration::from_secs(30)).await;
                    return Err(FeedError::Transient("timed out".into()));
                }
            }
            let target = request.url.strip_prefix("http://venue").unwrap().to_owned();
            let (status, body) = world.venue.answer(&target, world.listed());
            Ok(Answer { status, body: body.into_bytes(), ..Answer::default() })
        }
        .boxed()
    }
}

struct Line {
    world: Arc<World>,
    /// Next trade to publish on this connection.
    next: usize,
    sequence: i64,
    ready: VecDeque<String>,
    late: Option<String>,
    heartbeats: u64,
    silent: bool,
    /// A ping of the worker is to be answered.
    pinged: bool,
}

impl Line {
    /// The next thing to come out, waiting for the venue's time; the state only changes when it is there.
    async fn step(&mut self) -> Received {
        loop {
            if self.silent {
                return std::future::pending().await;
            }
            if std::mem::take(&mut self.pinged) {
                return Received::Alive;
            }
            if let Some(frame) = self.ready.pop_front() {
                return Received::Frame(frame.into_bytes());
            }
            let second = self.world.started + Duration::from_secs(self.world.started.elapsed().as_secs() + 1);
            let is_trade = self.next < self.world.venue.trades.len();
            let due = if is_trade { self.world.publication_of(self.next).min(second) } else { second };
            tokio::time::sleep_until(due).await;
            if is_trade && Instant::now() >= self.world.publication_of(self.next) {
                self.sequence += 1;
                let trade = &self.world.venue.trades[self.next..=self.next];
                let frame = self.world.venue.frame(trade, self.sequence);
                self.next += 1;
                let fault = self.world.faults.lock().unwrap().pop_front().unwrap_or(Fault::None);
                match fault {
                    Fault::None => self.ready.push_back(frame),
                    Fault::Drop => continue,
                    Fault::Duplicate => self.ready.extend([frame.clone(), frame]),
                    Fault::Late => {
                        self.late = Some(frame);
                        continue;
                    }
                    Fault::Garbage => self.ready.extend(["\u{0}[{".to_owned(), frame]),
                    Fault::Truncate => self.ready.push_back(frame[..frame.len() / 2].to_owned()),
                    Fault::Close => return Received::Closed { code: Some(1006), reason: "reset".into() },
                    Fault::Silence => self.silent = true,
                }
                self.ready.extend(self.late.take());
            } else {
                self.heartbeats += 1;
                let (counter, sequence) = (i64::try_from(self.heartbeats).unwrap(), self.sequence + 1);
                if self.world.venue.protocol == Protocol::Coinbase {
                    self.sequence += 1;
                }
                self.ready.extend(self.world.venue.heartbeat(self.next, counter, sequence));
            }
        }
    }
}

impl Connection for Line {
    fn send(&mut self, text: String) -> BoxFuture<'_, Result<(), FeedError>> {
        self.ready.extend(self.world.venue.acknowledge(&text));
        async { Ok(()) }.boxed()
    }

    fn ping(&mut self) -> BoxFuture<'_, Result<(), FeedError>> {
        self.pinged = true;
        async { Ok(()) }.boxed()
    }

    fn receive(&mut self) -> BoxFuture<'_, Received> {
        self.step().boxed()
    }
}

/// A venue that publishes `count` trades of two symbols, one each [`EVERY`].
pub fn venue(protocol: Protocol, count: i64) -> Venue {
    let symbols = match protocol {
        Protocol::Kraken | Protocol::AlpacaCrypto => ["BTC/USD", "ETH/USD"],
        Protocol::Alpaca => ["BTCUSD", "ETHUSD"],
        _ => ["BTC-USD", "ETH-USD"],
    };
    let mut next = [0i64; 2];
    let trades = (0..count).map(|i| {
        let which = usize::from(i % 3 == 1);
        next[which] += 1;
        Trade {
            symbol: symbols[which].to_owned(),
            id: next[which],
            micros: START + (i + 1) * i64::try_from(EVERY.as_micros()).unwrap(),
            price: format!("{}.{:02}", 100 + i, i % 100),
            size: format!("0.{:08}", 1 + i),
            is_buy: i % 2 == 0,
        }
    });
    Venue { protocol, trades: trades.collect(), has_quotes: false }
}
