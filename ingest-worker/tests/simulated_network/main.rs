//! Whatever the network does, and however often the worker is killed, the tables end as if nothing had happened.
//!
//! Network and time are simulated: hours pass in milliseconds, nothing is left to chance but proptest's choices, and a
//! failing case is shrunk to the faults that matter. The tables are real: what the worker sends is stored by its own
//! statements, and after a kill it starts from what it finds there.

// This file is tests alone, where a panic is how a failure is told.
#![allow(clippy::unwrap_used)]

mod cases;
#[path = "../database/mod.rs"]
mod database;
mod facts;
mod messages;
mod polling;
mod sources;
mod world;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use cases::{Case, Kill, cases};
use chrono::TimeDelta;
use database::Tables;
use kronos_ingest::{
    drive::{
        Anchor, KnownGap, Stream, TRADES, Tracker,
        backfill::{Backfill, backfill},
    },
    exact::micros,
    feeds::{FeedSettings, StreamFeed, find},
    kinds::Record,
    store::{Batch, CursorMove, Limits, Sink},
    wire::Secret,
};
use kronos_venue::{KEY, Protocol, SECRET};
use proptest::test_runner::{Config as ProptestConfig, TestRunner};
use tokio::{sync::watch, time::Instant};
use world::{EVERY, Fault, PROTOCOLS, Refusal, START, Simulated, World, venue};

/// Trades of a case: more than are copied into their table directly.
const COUNT: i64 = 80;
const SYMBOLS: [&str; 2] = ["BTCUSD", "ETHUSD"];

/// What the tables hold, a text for each row.
#[derive(Debug, PartialEq)]
struct Stored {
    trades: Vec<String>,
    /// Channel, symbol, cause, first and last number, status.
    gaps: Vec<String>,
    cursors: Vec<String>,
}

impl Stored {
    fn of(tables: &Tables) -> Self {
        let trades = "select symbol, trade_id, (extract(epoch from event_time) * 1000000)::bigint, price, size, aggressor
                      from market.trades order by symbol collate \"C\", event_time";
        let gaps = "select channel, symbol, cause, from_seq, to_seq, status from market.feed_gaps order by 1, 2, 3, 4, 5";
        let cursors = "select symbol, sequence from market.feed_cursors order by 1";
        let [trades, gaps, cursors] = [trades, gaps, cursors].map(|statement| tables.rows(statement));
        Stored { trades, gaps, cursors }
    }

    fn has_gap_of(&self, cause: &str) -> bool {
        self.gaps.iter().any(|gap| gap.contains(&format!(" {cause} ")))
    }
}

/// One life of the worker; returns what it handed to the writer.
async fn live(
    world: &Arc<World>,
    feed: &Arc<dyn StreamFeed>,
    (anchors, gaps): (Vec<Anchor>, Vec<KnownGap>),
    kill: Option<Kill>,
) -> Vec<Batch> {
    let started = world.started;
    let clock = move || {
        micros(START).unwrap() + TimeDelta::from_std(started.elapsed()).unwrap() + TimeDelta::milliseconds(20)
    };
    let known = gaps.iter().map(|gap| gap.row.clone()).collect();
    let tracker = Tracker::new(feed.name(), feed.trade_ids(), anchors, gaps);
    let (sink, mut queue) = Sink::channel(Limits::default());
    let transport = Arc::new(Simulated(Arc::clone(world)));
    let mut stream = Stream::new(Arc::clone(feed), transport, tracker, symbols(world), sink, Arc::new(clock));
    stream.resume(known);
    let (stop, shutdown) = watch::channel(false);
    let running = tokio::spawn(stream.run(shutdown));
    let collecting = tokio::spawn(async move {
        let mut batches = Vec::new();
        while let Some(mut batch) = queue.recv().await {
            // An hour of rows that say that a connection is open would take longer to store than all the rest.
            batch.sessions.retain(|session| session.closed_at.is_some());
            if !batch.is_empty() {
                batches.push(batch);
            }
        }
        batches
    });
    match kill {
        Some(kill) => {
            tokio::time::sleep(kill.after).await;
            running.abort();
        }
        None => {
            // Silence is noticed after two minutes, and faults may follow each other.
            tokio::time::sleep(Duration::from_secs(3_600)).await;
            stop.send(true).unwrap();
            running.await.unwrap().unwrap();
        }
    }
    let mut batches = collecting.await.unwrap();
    batches.truncate(batches.len().saturating_sub(kill.map_or(0, |kill| kill.unsaved)));
    batches
}

fn symbols(world: &World) -> BTreeMap<String, String> {
    let trades = world.venue.trades.iter();
    trades.map(|t| (t.symbol.clone(), t.symbol.replace(['-', '/'], ""))).collect()
}

/// The world at the start of a case; to be called in the runtime whose time it shares.
fn world(case: &Case) -> World {
    World {
        venue: venue(case.protocol, COUNT),
        started: Instant::now(),
        faults: Mutex::new(case.faults.clone().into()),
        handshakes: Mutex::new(case.handshakes.clone().into()),
        requests: Mutex::new(case.requests.clone().into()),
        lag: case.lag,
    }
}

fn feed(world: &World) -> Arc<dyn StreamFeed> {
    let settings = FeedSettings {
        symbols: symbols(world).into_keys().collect(),
        trades: true,
        url: Some("ws://venue".into()),
        rest_url: Some("http://venue".into()),
        credentials: [("APCA_API_KEY_ID", KEY), ("APCA_API_SECRET_KEY", SECRET)]
            .map(|(name, value)| (name, Secret(value.into())))
            .into(),
        ..FeedSettings::default()
    };
    find(world.venue.protocol.feed()).unwrap().stream(settings).unwrap()
}

/// Runs the worker against the world until everything can have been repaired, and returns what is stored then.
fn run(tables: &mut Tables, case: &Case) -> Stored {
    tables.rows(
        "delete from market.trades; delete from market.feed_gaps; delete from market.feed_cursors;
         delete from market.feed_sessions; delete from market.rejected_rows",
    );
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let world = Arc::new(runtime.block_on(async { world(case) }));
    let feed = feed(&world);
    // The position before the first trade: everything the venue publishes must arrive.
    let start = SYMBOLS.map(|symbol| CursorMove {
        channel: TRADES.to_owned(),
        symbol: symbol.to_owned(),
        sequence: 0,
        event_time: micros(START),
    });
    tables.store(&[Batch { cursors: start.into(), ..Batch::new(feed.name()) }]);
    for kill in &case.kills {
        let batches = runtime.block_on(live(&world, &feed, tables.resume(feed.name()), Some(*kill)));
        batches.chunks(case.at_once).for_each(|batches| tables.store(batches));
        assert_accounted(case.protocol, tables);
    }
    let batches = runtime.block_on(live(&world, &feed, tables.resume(feed.name()), None));
    batches.chunks(case.at_once).for_each(|batches| tables.store(batches));
    let stored = Stored::of(tables);
    batches.chunks(case.at_once).take(case.again).for_each(|batches| tables.store(batches));
    assert_eq!(Stored::of(tables), stored, "what is stored again takes nothing back");
    stored
}

fn is_dense(protocol: Protocol) -> bool {
    !matches!(protocol, Protocol::Alpaca | Protocol::AlpacaCrypto)
}

/// Up to its position a stream has every trade, or an open gap says which it lacks.
fn assert_accounted(protocol: Protocol, tables: &Tables) {
    if is_dense(protocol) {
        let lost = tables.rows(
            "select c.symbol, number from market.feed_cursors c, generate_series(1, c.sequence) as number
             where not exists (select from market.trades t where t.symbol = c.symbol and t.sequence = number)
               and not exists (select from market.feed_gaps g
                               where g.symbol = c.symbol and g.cause = 'id' and g.status = 'open'
                                 and number between g.from_seq and g.to_seq)",
        );
        assert!(lost.is_empty(), "lost without a trace: {lost:?}");
    }
}

fn assert_complete(protocol: Protocol, stored: &Stored) {
    let mut truth = Vec::new();
    let mut newest = BTreeMap::new();
    for t in venue(protocol, COUNT).trades {
        let symbol = t.symbol.replace(['-', '/'], "");
        // The stock stream does not tell.
        let side = match protocol {
            Protocol::Alpaca => "-",
            _ if t.is_buy => "buy",
            _ => "sell",
        };
        let id = protocol.trade_id(&t);
        truth.push((symbol.clone(), t.micros, format!("{id} {} {} {} {side}", t.micros, t.price, t.size)));
        newest.insert(symbol, if is_dense(protocol) { t.id } else { t.micros });
    }
    truth.sort();
    let truth: Vec<_> = truth.into_iter().map(|(symbol, _, rest)| format!("{symbol} {rest}")).collect();
    assert_eq!(stored.trades, truth);
    let unfilled: Vec<_> = stored.gaps.iter().filter(|gap| !gap.ends_with(" filled")).collect();
    assert!(unfilled.is_empty(), "{unfilled:?}");
    let newest: Vec<_> = newest.into_iter().map(|(symbol, place)| format!("{symbol} {place}")).collect();
    assert_eq!(stored.cursors, newest);
}

/// Runs worlds that proptest makes up.
fn assert_always_complete(test: &str, protocols: &'static [Protocol], number: u32) {
    let tables = Mutex::new(Tables::new(test));
    let config = ProptestConfig { cases: number, failure_persistence: None, ..ProptestConfig::default() };
    let runs = TestRunner::new(config).run(&cases(protocols), |case| {
        // A case that failed leaves nothing behind: each begins with empty tables.
        let mut tables = tables.lock().unwrap_or_else(PoisonError::into_inner);
        assert_complete(case.protocol, &run(&mut tables, &case));
        Ok(())
    });
    runs.unwrap();
}

#[test]
fn any_faults_and_kills_leave_the_tables_of_the_clean_feed_where_trades_are_numbered() {
    assert_always_complete("simulated_dense", &PROTOCOLS[..3], 230);
}

#[test]
fn any_faults_and_kills_leave_the_tables_of_the_clean_feed_where_trades_are_not_numbered() {
    assert_always_complete("simulated_sparse", &PROTOCOLS[3..], 154);
}

#[test]
fn a_clean_feed_is_stored_without_a_gap() {
    let mut tables = Tables::new("simulated_clean");
    for protocol in PROTOCOLS {
        let stored = run(&mut tables, &Case::clean(protocol));
        assert_complete(protocol, &stored);
        // The stretch from the resume position to the connection is always asked for.
        assert!(stored.has_gap_of("reconnect"), "{:?}", stored.gaps);
        assert!(stored.gaps.iter().all(|gap| gap.contains(" reconnect ")), "{:?}", stored.gaps);
    }
}

#[test]
fn a_stream_without_numbers_is_compared_with_rest() {
    let mut tables = Tables::new("simulated_compared");
    let mut faults = vec![Fault::None; 20];
    faults.extend([Fault::Drop; 5]);
    for protocol in [Protocol::Alpaca, Protocol::AlpacaCrypto] {
        let stored = run(&mut tables, &Case { faults: faults.clone(), ..Case::clean(protocol) });
        assert_complete(protocol, &stored);
        assert!(stored.has_gap_of("idle"), "{:?}", stored.gaps);
    }
}

#[test]
fn a_worker_that_resumes_asks_again_for_what_came_just_before_its_position() {
    // Without numbers nothing shows that five trades among the others were lost, and the worker dies before it compares.
    let mut tables = Tables::new("simulated_resumed");
    let mut faults = vec![Fault::None; 20];
    faults.extend([Fault::Drop; 5]);
    // The first question of a life is open when it ends: the next one asks it again.
    let kills = [100, 30_000].map(|after| Kill { after: Duration::from_millis(after), unsaved: 0 });
    let kills = Vec::from(kills);
    for protocol in [Protocol::Alpaca, Protocol::AlpacaCrypto] {
        let case = Case { faults: faults.clone(), kills: kills.clone(), ..Case::clean(protocol) };
        let stored = run(&mut tables, &case);
        assert_complete(protocol, &stored);
        // By the first question already, not by the comparison a minute later.
        assert!(!stored.has_gap_of("idle"), "{:?}", stored.gaps);
    }
}

#[test]
fn a_gap_is_not_given_up_while_rest_may_still_list_it() {
    let mut tables = Tables::new("simulated_late");
    let mut faults = vec![Fault::None; 20];
    faults.extend([Fault::Drop; 5]);
    for protocol in PROTOCOLS {
        let lag = Duration::from_secs(20);
        let stored = run(&mut tables, &Case { faults: faults.clone(), lag, ..Case::clean(protocol) });
        assert_complete(protocol, &stored);
    }
}

#[test]
fn a_gap_that_the_venue_never_lists_is_given_up_and_said_to_be() {
    let mut tables = Tables::new("simulated_given_up");
    let mut faults = vec![Fault::None; 20];
    faults.extend([Fault::Drop; 5]);
    let lag = Duration::from_secs(7_200);
    let stored = run(&mut tables, &Case { faults, lag, ..Case::clean(Protocol::Kraken) });
    assert_eq!(stored.trades.len(), 75);
    // Every third trade from the second on is in ETHUSD: the 23rd is its eighth, the four around it the others' 14th on.
    let given_up = "select symbol, from_seq, to_seq, filled_rows, note from market.feed_gaps
                    where status = 'unfillable' order by 1";
    let note = "the venue does not list these trades";
    assert_eq!(tables.rows(given_up), [format!("BTCUSD 14 17 0 {note}"), format!("ETHUSD 8 8 0 {note}")]);
}

#[test]
fn history_is_what_was_traded_in_the_asked_time_its_ends_included() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    for protocol in PROTOCOLS {
        let case = Case {
            requests: vec![Refusal::RateLimit, Refusal::Error, Refusal::Lost],
            ..Case::clean(protocol)
        };
        let world = runtime.block_on(async { Arc::new(world(&case)) });
        let feed = feed(&world);
        let trades = &world.venue.trades;
        let (first, last) = (10, 70);
        let work = Backfill {
            symbols: SYMBOLS.map(str::to_owned).into(),
            from: micros(trades[first].micros).unwrap(),
            to: micros(trades[last].micros).unwrap(),
            width_seconds: None,
        };
        let (counts, mut found) = runtime.block_on(async {
            tokio::time::sleep(EVERY * (1 + u32::try_from(COUNT).unwrap())).await;
            let (sink, mut queue) = Sink::channel(Limits::default());
            let mapping = symbols(&world);
            let network = Simulated(Arc::clone(&world));
            let counts = backfill(&*feed, &mapping, &work, &network, &sink).await.unwrap();
            drop(sink);
            let mut found = Vec::new();
            while let Some(batch) = queue.recv().await {
                found.extend(batch.records.into_iter().filter_map(|record| match record {
                    Record::Trade(trade) => Some(trade.event_time.timestamp_micros()),
                    _ => None,
                }));
            }
            (counts.loaded, found)
        });
        found.sort();
        let expected: Vec<_> = trades[first..=last].iter().map(|trade| trade.micros).collect();
        assert_eq!(found, expected, "{protocol:?}");
        assert_eq!((counts.rows, counts.rejected), (61, 0), "{protocol:?}");
    }
}

#[test]
fn an_acknowledged_subscription_that_stays_mute_is_noticed() {
    // The last trades are dropped while heartbeats go on: only a question to REST can tell.
    let mut tables = Tables::new("simulated_mute");
    let mut faults = vec![Fault::None; 70];
    faults.extend([Fault::Drop; 10]);
    let stored = run(&mut tables, &Case { faults, ..Case::clean(Protocol::Kraken) });
    assert_complete(Protocol::Kraken, &stored);
    assert!(stored.has_gap_of("idle"), "{:?}", stored.gaps);
    let renewed =
        "select count(*) > 0 from market.feed_sessions where close_reason like 'subscription is mute%'";
    assert_eq!(tables.rows(renewed), ["t"], "another connection may be better");
}

#[test]
fn a_server_that_accepts_and_drops_is_asked_ever_more_seldom() {
    let mut tables = Tables::new("simulated_dropping");
    let faults = vec![Fault::Close; 60];
    let stored = run(&mut tables, &Case { faults, ..Case::clean(Protocol::Kraken) });
    assert_complete(Protocol::Kraken, &stored);
    // A connection ends with its first trade. The waits between them double from a quarter of a second, so the seventh
    // begins 15.75 s after the first, and up to 0.55 s more for each before it, and the eighth when all trades are out.
    let dropped = "select count(*) from market.feed_sessions where close_code = 1006";
    assert_eq!(tables.rows(dropped), ["7"]);
}
