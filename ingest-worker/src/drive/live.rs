//! `run`: feeds from the configuration onto the real network.

use std::{collections::BTreeMap, sync::Arc};

use chrono::Utc;
use tokio::{sync::watch, task::JoinSet};
use tokio_postgres::Client;

use super::{
    Anchor, Attention, Clock, KnownGap, KnownRefusal, Mark, Poller, Stream, TRADES, Tracker, stopped,
};
use crate::{
    config::{Config, FeedConfig, credentials},
    error::{Error, Result, database_message},
    feeds::{self, Feed, FeedEntry, PollFeed},
    postgres::Database,
    recording::unknown_feed,
    store::{GapRow, GapStatus, Sink, UsageRow},
    symbols::{Names, of_feed, write_down},
    wire::{Backoff, Transport},
};

/// Builds a feed from its section of the configuration and the environment.
///
/// # Errors
/// Missing credentials, or a section that does not fit.
pub fn build(entry: &'static FeedEntry, section: &FeedConfig) -> Result<Feed> {
    let wrong = |message| Error::Config { path: "feeds".into(), message };
    let given = [
        ("url", &section.url, entry.addresses.stream),
        ("rest_url", &section.rest_url, entry.addresses.rest),
    ];
    for (setting, _, _) in given.iter().filter(|(_, ours, theirs)| ours.is_some() && theirs.is_none()) {
        tracing::warn!(feed = entry.name, setting, "has no effect: the feed has no such address");
    }
    let settings = section.settings(entry, &credentials(entry)?).map_err(wrong)?;
    entry.build(settings).map_err(wrong)
}

/// Where the feed stood when its last transaction committed.
///
/// # Errors
/// The database's error.
pub async fn resume_state(client: &Client, feed: &str) -> Result<(Vec<Anchor>, Vec<KnownGap>)> {
    let cursors = client
        .query(
            "select symbol, sequence, event_time from market.feed_cursors where feed = $1 and channel = $2",
            &[&feed, &TRADES],
        )
        .await?;
    let anchors = cursors
        .iter()
        .map(|row| Anchor { symbol: row.get(0), sequence: row.get(1), event_time: row.get(2) })
        .collect();
    let rows = client
        .query(
            "select channel, symbol, cause, from_seq, to_seq, from_time, to_time, detected_at, note, \
                    status = 'open', filled_at, filled_rows \
             from market.feed_gaps \
             where feed = $1 and (status = 'open' or (status = 'unfillable' and cause = 'id')) order by detected_at",
            &[&feed],
        )
        .await?;
    let mut gaps = Vec::with_capacity(rows.len());
    for row in &rows {
        let gap = GapRow {
            channel: row.get(0),
            symbol: row.get(1),
            cause: row.get(2),
            from_seq: row.get(3),
            to_seq: row.get(4),
            from_time: row.get(5),
            to_time: row.get(6),
            detected_at: row.get(7),
            status: if row.get(9) { GapStatus::Open } else { GapStatus::Unfillable },
            filled_at: row.get(10),
            filled_rows: row.get(11),
            note: row.get(8),
        };
        let present = client
            .query(
                "select sequence from market.trades \
                 where feed = $1 and symbol = $2 and sequence between $3 and $4 \
                   and event_time >= coalesce($5::timestamptz, '-infinity') - interval '1 hour'",
                &[&feed, &gap.symbol, &gap.from_seq, &gap.to_seq, &gap.from_time],
            )
            .await?;
        let present =
            if gap.cause == "id" { present.iter().map(|row| row.get(0)).collect() } else { Vec::new() };
        gaps.push(KnownGap { row: gap, present });
    }
    Ok((anchors, gaps))
}

/// Where a feed that is polled stood when its last transaction committed, and what it is refused until later than now.
///
/// # Errors
/// The database's error.
pub async fn resume_polls(client: &Client, feed: &str) -> Result<(Vec<Mark>, Vec<KnownRefusal>)> {
    let statement = "select channel, symbol, sequence, position from market.feed_cursors \
                     where feed = $1 and position is not null";
    let mut marks = Vec::new();
    for row in client.query(statement, &[&feed]).await? {
        let (endpoint, symbol): (String, String) = (row.get(0), row.get(1));
        match serde_json::from_value(row.get(3)) {
            Ok(place) => marks.push(Mark { endpoint, symbol, sequence: row.get(2), place }),
            // What is read again is known, so a position that nobody understands costs time alone.
            Err(error) => tracing::warn!(feed, endpoint, symbol, %error, "reading from the beginning"),
        }
    }
    let statement = "select channel, symbol, until from market.feed_refusals \
                     where feed = $1 and lifted_at is null and coalesce(until > now(), true)";
    let refusals = client.query(statement, &[&feed]).await?;
    let refusals = refusals
        .iter()
        .map(|row| KnownRefusal { endpoint: row.get(0), symbol: row.get(1), until: row.get(2) })
        .collect();
    Ok((marks, refusals))
}

/// A feed that is polled, where its last transaction left it.
async fn resumed(
    client: &Client,
    (feed, section): (Arc<dyn PollFeed>, &FeedConfig),
    (names, symbols): (Names, &BTreeMap<String, String>),
    transport: Arc<dyn Transport>,
    sink: Sink,
) -> Result<Poller> {
    let name = feed.name();
    let (marks, refusals) = resume_polls(client, name).await?;
    let poller = Poller::new(feed, transport, symbols, marks, &refusals, sink, Arc::new(Utc::now));
    Ok(poller.naming(names).resume(resume_usage(client, name).await?, section.bandwidth()))
}

/// Sets up a reading of a feed that is polled, of `section`; of `symbols` (spelling of the feed or ours) alone where some are named.
///
/// # Errors
/// The database's error.
pub async fn poller(
    client: &Client,
    (entry, section): (&FeedEntry, &FeedConfig),
    feed: Arc<dyn PollFeed>,
    symbols: &[String],
    transport: Arc<dyn Transport>,
    sink: Sink,
) -> Result<Poller> {
    let names = Names::of_source(client, entry.name).await?;
    let configured = section.symbols.mapping_by(&names);
    let asked: BTreeMap<_, _> = symbols
        .iter()
        .map(|symbol| {
            let known = configured.iter().find(|(native, ours)| *native == symbol || *ours == symbol);
            let named = || (symbol.clone(), names.of_feed(symbol));
            known.map_or_else(named, |(native, ours)| (native.clone(), ours.clone()))
        })
        .collect();
    let mapping = if symbols.is_empty() { &configured } else { &asked };
    register(client, entry, feed.asks_about_instruments().then_some(mapping)).await?;
    let poller = resumed(client, (feed, section), (names, mapping), transport, sink).await?;
    Ok(if symbols.is_empty() { poller } else { poller.about_symbols() })
}

/// What a feed has taken of its vendor in the last days, longer than any vendor counts.
///
/// # Errors
/// The database's error.
pub async fn resume_usage(client: &Client, feed: &str) -> Result<Vec<UsageRow>> {
    let statement = "select day, requests, bytes, allowed_bytes from market.feed_usage where feed = $1 and day > current_date - 100";
    let rows = client.query(statement, &[&feed]).await?;
    let used = rows.iter().map(|row| UsageRow {
        day: row.get(0),
        requests: row.get(1),
        bytes: row.get(2),
        allowed: row.get(3),
    });
    Ok(used.collect())
}

/// Runs every enabled feed of the configuration until `shutdown`; a feed that cannot go on stops alone.
///
/// # Errors
/// When no feed is configured, one cannot be built, or all have stopped.
pub async fn run(
    config: &Config,
    database: &Database,
    transport: Arc<dyn Transport>,
    sink: Sink,
    shutdown: watch::Receiver<bool>,
) -> Result<()> {
    let clock: Clock = Arc::new(Utc::now);
    let client = connect_patiently(database, &shutdown).await;
    let Some(client) = client else { return Ok(()) };
    let mut streams = JoinSet::new();
    for (name, section) in &config.feeds {
        let entry = feeds::find(name).ok_or_else(|| Error::Usage(unknown_feed(name)))?;
        if !section.is_enabled(entry) {
            continue;
        }
        let feed = build(entry, section)?;
        if matches!(&feed, Feed::Stream(feed) if feed.plan(clock()).is_none()) {
            continue;
        }
        let names = Names::of_source(&client, entry.name).await?;
        let symbols = section.symbols.mapping_by(&names);
        let are_instruments = match &feed {
            Feed::Stream(_) => true,
            Feed::Poll(feed) => feed.asks_about_instruments(),
        };
        register(&client, entry, are_instruments.then_some(&symbols)).await?;
        let (name, shutdown, transport) = (name.clone(), shutdown.clone(), Arc::clone(&transport));
        match feed {
            Feed::Stream(feed) => {
                let (anchors, gaps) = resume_state(&client, feed.name()).await?;
                let known = gaps.iter().map(|gap| gap.row.clone()).collect();
                let tracker = Tracker::new(feed.name(), feed.trade_ids(), anchors, gaps);
                let mut stream = Stream::new(feed, transport, tracker, symbols, sink.clone(), clock.clone());
                stream.resume(known);
                streams.spawn(async move { (name, stream.run(shutdown).await) });
            }
            Feed::Poll(feed) => {
                let weights = section.weights.iter().map(|(native, weight)| {
                    (symbols.get(native).cloned().unwrap_or_else(|| of_feed(native)), *weight)
                });
                let attention = Arc::new(Attention::new(weights.collect()));
                if feed.heeds_attention() {
                    if let Err(error) = attention.read(&client).await {
                        tracing::warn!(
                            feed = name,
                            error = database_message(&error),
                            "positions and events are not read"
                        );
                    }
                    tokio::spawn(Arc::clone(&attention).follow(database.clone(), shutdown.clone()));
                }
                let poller =
                    resumed(&client, (feed, section), (names, &symbols), transport, sink.clone()).await?;
                let poller = poller.heeding(attention);
                streams.spawn(async move { (name, poller.run(shutdown).await) });
            }
        }
    }
    drop((client, sink));
    if streams.is_empty() {
        return Err(Error::Usage(
            "no feed with a stream, or one to poll, is configured and enabled".to_owned(),
        ));
    }
    let mut last_failure = None;
    while let Some(ended) = streams.join_next().await {
        match ended {
            Ok((name, Ok(()))) => tracing::info!(feed = name, "stopped"),
            Ok((name, Err(error))) => {
                tracing::error!(feed = name, %error, "feed stopped for good; the others go on");
                metrics::counter!("kronos_ingest_feeds_stopped_total").increment(1);
                last_failure = Some(Error::Feed { feed: name, error });
            }
            Err(error) => return Err(Error::Usage(format!("a feed failed: {error}"))),
        }
    }
    if *shutdown.borrow() { Ok(()) } else { last_failure.map_or(Ok(()), Err) }
}

/// Writes down the source, and which spelling of the feed means which symbol, where what it asks about are instruments.
async fn register(
    client: &Client,
    entry: &FeedEntry,
    mapping: Option<&BTreeMap<String, String>>,
) -> Result<()> {
    let feed = entry.name;
    // Who only ingests may not add sources, and has no need to where the set-up did.
    let is_there = "select from market.sources where source = $1";
    if client.query_opt(is_there, &[&feed]).await?.is_none() {
        let add = "insert into market.sources (source, kind, rank, description) values ($1, $2, $3, $4) \
                   on conflict do nothing";
        client.execute(add, &[&feed, &entry.source, &entry.rank, &entry.description]).await?;
    }
    let Some(mapping) = mapping else { return Ok(()) };
    let native: Vec<&String> = mapping.keys().collect();
    let ours: Vec<&String> = mapping.values().collect();
    client
        .execute(
            "insert into market.instruments (symbol, calendar) select unnest($1::text[]), $2 on conflict do nothing",
            &[&ours, &entry.calendar],
        )
        .await?;
    write_down(client, feed, &native, &ours).await?;
    Ok(())
}

/// A worker may start before its database does.
async fn connect_patiently(database: &Database, shutdown: &watch::Receiver<bool>) -> Option<Client> {
    let mut backoff = Backoff::default();
    let mut shutdown = shutdown.clone();
    loop {
        match database.connect().await {
            Ok(client) => return Some(client),
            Err(error) => tracing::warn!(%error, "database is away"),
        }
        tokio::select! {
            () = stopped(&mut shutdown) => return None,
            () = tokio::time::sleep(backoff.next_delay()) => {}
        }
    }
}
