//! Whatever the network does, the tables end as if it had done nothing.
//!
//! Network and time are simulated: hours pass in milliseconds, nothing is left to chance but proptest's choices, and a
//! failing case is shrunk to the faults that matter.

// This file is tests alone, where a panic is how a failure is told.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::TimeDelta;
use futures_util::{FutureExt, future::BoxFuture};
use kronos_ingest::{
    error::FeedError,
    exact::micros,
    feed::{FeedSettings, Request, Secret, find},
    record::{Record, Timestamp},
    sink::{Batch, GapStatus},
    stream::Stream,
    track::{Anchor, Tracker},
    transport::{Connection, Received, Transport},
    writer::{Limits, Sink},
};
use kronos_venue::{KEY, Protocol, SECRET, Trade, Venue};
use proptest::prelude::*;
use tokio::{sync::watch, time::Instant};

/// 2023-11-14 22:13:20 UTC.
const START: i64 = 1_700_000_000_000_000;
/// Time between two trades of the venue.
const EVERY: Duration = Duration::from_millis(300);

const PROTOCOLS: [Protocol; 5] = [
    Protocol::Coinbase,
    Protocol::CoinbaseExchange,
    Protocol::Kraken,
    Protocol::Alpaca,
    Protocol::AlpacaCrypto,
];

/// What happens to one frame.
#[derive(Clone, Copy, Debug)]
enum Fault {
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
enum Refusal {
    None,
    Error,
    RateLimit,
    Lost,
}

struct World {
    venue: Venue,
    started: Instant,
    faults: Mutex<VecDeque<Fault>>,
    handshakes: Mutex<VecDeque<Refusal>>,
    requests: Mutex<VecDeque<Refusal>>,
}

impl World {
    fn published(&self) -> usize {
        let ticks = self.started.elapsed().as_millis() / EVERY.as_millis();
        usize::try_from(ticks).unwrap().min(self.venue.trades.len())
    }

    fn publication_of(&self, index: usize) -> Instant {
        self.started + EVERY * u32::try_from(index + 1).unwrap()
    }
}

#[derive(Clone)]
struct Simulated(Arc<World>);

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

    fn get(&self, request: Request) -> BoxFuture<'static, Result<Vec<u8>, FeedError>> {
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
            let (status, body) = world.venue.answer(&target, world.published());
            kronos_ingest::transport::classify(status, None, body.as_bytes())?;
            Ok(body.into_bytes())
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

/// Symbol, event time and id of a trade: the key of its table.
type Key = (String, Timestamp, String);

/// Price, size and aggressor.
type Row = (String, String, Option<String>);

/// The tables, with the keys and conflict rules of `sql/`.
#[derive(Default)]
struct Tables {
    trades: BTreeMap<Key, Row>,
    gaps: BTreeMap<(String, String, String, i64, i64), GapStatus>,
    cursors: BTreeMap<String, i64>,
}

impl Tables {
    fn store(&mut self, batch: Batch) {
        for record in batch.records {
            if let Record::Trade(t) = record {
                let row =
                    (t.price.to_string(), t.size.to_string(), t.aggressor.map(|a| a.as_str().to_owned()));
                self.trades.entry((t.symbol, t.event_time, t.trade_id)).or_insert(row);
            }
        }
        for g in batch.gaps {
            let status =
                self.gaps.entry((g.channel, g.symbol, g.cause, g.from_seq, g.to_seq)).or_insert(g.status);
            if *status == GapStatus::Open {
                *status = g.status;
            }
        }
        for c in batch.cursors {
            let place = self.cursors.entry(c.symbol).or_insert(c.sequence);
            *place = c.sequence.max(*place);
        }
    }
}

fn venue(protocol: Protocol, count: i64) -> Venue {
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

/// Runs the worker against the world for long enough to repair everything.
fn run(
    protocol: Protocol,
    count: i64,
    faults: Vec<Fault>,
    handshakes: Vec<Refusal>,
    requests: Vec<Refusal>,
) -> Tables {
    let name = protocol.feed();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async move {
        let venue = venue(protocol, count);
        let symbols: BTreeMap<String, String> =
            venue.trades.iter().map(|t| (t.symbol.clone(), t.symbol.replace(['-', '/'], ""))).collect();
        let started = Instant::now();
        let world = Arc::new(World {
            venue,
            started,
            faults: Mutex::new(faults.into()),
            handshakes: Mutex::new(handshakes.into()),
            requests: Mutex::new(requests.into()),
        });
        let settings = FeedSettings {
            symbols: symbols.keys().cloned().collect(),
            trades: true,
            url: Some("ws://venue".into()),
            rest_url: Some("http://venue".into()),
            credentials: [("APCA_API_KEY_ID", KEY), ("APCA_API_SECRET_KEY", SECRET)]
                .map(|(name, value)| (name, Secret(value.into())))
                .into(),
            ..FeedSettings::default()
        };
        let feed = Arc::from((find(name).unwrap().build)(settings).unwrap());
        let anchors = symbols.values().map(|symbol| Anchor {
            symbol: symbol.clone(),
            sequence: 0,
            event_time: micros(START),
        });
        let ids = kronos_ingest::feed::Feed::trade_ids(&*feed as &dyn kronos_ingest::feed::Feed);
        let tracker = Tracker::new(find(name).unwrap().name, ids, anchors.collect(), Vec::new());
        let (sink, mut receiver) = Sink::channel(Limits::default());
        let clock = Arc::new(move || {
            micros(START).unwrap()
                + TimeDelta::from_std(started.elapsed()).unwrap()
                + TimeDelta::milliseconds(20)
        });
        let stream = Stream::new(feed, Arc::new(Simulated(world)), tracker, symbols, sink, clock);
        let (stop, shutdown) = watch::channel(false);
        let running = tokio::spawn(stream.run(shutdown));
        let collecting = tokio::spawn(async move {
            let mut tables = Tables::default();
            while let Some(batch) = receiver.recv().await {
                tables.store(batch);
            }
            tables
        });
        // Silence is noticed after two minutes, and faults may follow each other.
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        stop.send(true).unwrap();
        running.await.unwrap().unwrap();
        collecting.await.unwrap()
    })
}

fn assert_complete(protocol: Protocol, count: i64, tables: &Tables) {
    let truth: BTreeMap<_, _> = venue(protocol, count)
        .trades
        .into_iter()
        .map(|t| {
            // The stock stream does not tell.
            let side =
                (protocol != Protocol::Alpaca).then(|| if t.is_buy { "buy" } else { "sell" }.to_owned());
            let id = protocol.trade_id(&t);
            let symbol = t.symbol.replace(['-', '/'], "");
            ((symbol, micros(t.micros).unwrap(), id), (t.price, t.size, side))
        })
        .collect();
    assert_eq!(tables.trades, truth);
    let open: Vec<_> = tables.gaps.iter().filter(|(_, status)| **status != GapStatus::Filled).collect();
    assert!(open.is_empty(), "{open:?}");
    for symbol in ["BTCUSD", "ETHUSD"] {
        let of_symbol = truth.keys().filter(|key| key.0 == symbol);
        let newest = match protocol {
            Protocol::Alpaca | Protocol::AlpacaCrypto => of_symbol.map(|key| key.1.timestamp_micros()).max(),
            _ => of_symbol.map(|key| key.2.parse().unwrap()).max(),
        };
        assert_eq!(tables.cursors.get(symbol).copied(), newest, "{symbol}");
    }
}

fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let fault = prop_oneof![
        6 => Just(Fault::None),
        2 => Just(Fault::Drop),
        1 => Just(Fault::Duplicate),
        2 => Just(Fault::Late),
        1 => Just(Fault::Garbage),
        1 => Just(Fault::Truncate),
        1 => Just(Fault::Close),
        1 => Just(Fault::Silence),
    ];
    proptest::collection::vec(fault, 0..60)
}

fn refusals() -> impl Strategy<Value = Vec<Refusal>> {
    let refusal = prop_oneof![
        2 => Just(Refusal::None),
        1 => Just(Refusal::Error),
        1 => Just(Refusal::RateLimit),
        1 => Just(Refusal::Lost),
    ];
    proptest::collection::vec(refusal, 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 384, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_interleaving_of_faults_leaves_the_tables_of_the_clean_feed(
        protocol in proptest::sample::select(&PROTOCOLS[..]),
        faults in faults(),
        handshakes in refusals(),
        requests in refusals(),
    ) {
        assert_complete(protocol, 60, &run(protocol, 60, faults, handshakes, requests));
    }
}

#[test]
fn a_clean_feed_is_stored_without_a_gap() {
    for protocol in PROTOCOLS {
        let tables = run(protocol, 60, Vec::new(), Vec::new(), Vec::new());
        assert_complete(protocol, 60, &tables);
        // The stretch from the resume position to the connection is always asked for.
        assert!(tables.gaps.keys().all(|(_, _, cause, _, _)| cause == "reconnect"), "{:?}", tables.gaps);
    }
}

#[test]
fn a_stream_without_numbers_is_compared_with_rest() {
    let mut faults = vec![Fault::None; 20];
    faults.extend([Fault::Drop; 5]);
    for protocol in [Protocol::Alpaca, Protocol::AlpacaCrypto] {
        let tables = run(protocol, 60, faults.clone(), Vec::new(), Vec::new());
        assert_complete(protocol, 60, &tables);
        assert!(tables.gaps.keys().any(|(_, _, cause, _, _)| cause == "idle"), "{:?}", tables.gaps);
    }
}

#[test]
fn an_acknowledged_subscription_that_stays_mute_is_noticed() {
    // The last trades are dropped while heartbeats go on: only a question to REST can tell.
    let mut faults = vec![Fault::None; 50];
    faults.extend([Fault::Drop; 10]);
    let tables = run(Protocol::Kraken, 60, faults, Vec::new(), Vec::new());
    assert_complete(Protocol::Kraken, 60, &tables);
    assert!(tables.gaps.keys().any(|(_, _, cause, _, _)| cause == "idle"), "{:?}", tables.gaps);
}
