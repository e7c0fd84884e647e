//! How fast: frames decoded per second on one core, and rows stored per second beside `\copy` of the same rows: trades of a
//! feed, and daily bars of a file.
//!
//! `KRONOS_DATABASE_URL` names a throw-away database whose schema `market` is emptied; without it only decoding runs.

use std::{
    fmt::Write as _,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::Utc;
use futures_util::SinkExt;
use kronos_ingest::{
    config::Config,
    exact::micros,
    feeds::{FeedSettings, find},
    kinds::{Record, Timestamp, Trade},
    load::load_table,
    migrate::migrate,
    postgres::Database,
    store::{Batch, Limits, Sink, Writer},
    symbols::Names,
    table::{Options, Table},
};
use kronos_venue::{Protocol, Venue};

/// Rows of one store run.
const ROWS: i64 = 300_000;
/// Trades per second of the latency run, and how long it lasts.
const RATE: i64 = 20_000;
const SECONDS: i64 = 10;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    decode()?;
    let Ok(database) = Database::new(None, None) else {
        println!("store: skipped, KRONOS_DATABASE_URL is not set");
        return Ok(());
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        migrate(&database).await?;
        store(&database).await?;
        load(&database).await?;
        latency(&database).await
    })
}

fn decode() -> Result<(), Failure> {
    let trade = |i: i64| kronos_venue::Trade {
        symbol: "BTC-USD".to_owned(),
        id: i,
        micros: 1_700_000_000_000_000 + i,
        price: format!("91234.{:02}", i % 100),
        size: format!("0.{i:08}"),
        is_buy: i % 2 == 0,
    };
    for (name, protocol, packed) in [
        ("coinbase", Protocol::Coinbase, 8),
        ("coinbase_exchange", Protocol::CoinbaseExchange, 1),
        ("kraken", Protocol::Kraken, 4),
    ] {
        let venue = Venue { protocol, trades: (1..=4_000).map(trade).collect(), has_quotes: false };
        let frames: Vec<String> = venue.trades.chunks(packed).map(|trades| venue.frame(trades, 1)).collect();
        let feed = find(name).ok_or("feed")?.stream(FeedSettings::default())?;
        let now = micros(1_700_000_000_000_000).ok_or("time")?;
        let (started, mut messages, mut rows) = (Instant::now(), 0u64, 0usize);
        while started.elapsed() < Duration::from_secs(2) {
            for frame in &frames {
                rows += black_box(feed.parse(frame.as_bytes(), now)?).len();
                messages += 1;
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        println!(
            "decode {name}: {:.0} messages/s, {:.0} rows/s",
            messages as f64 / seconds,
            rows as f64 / seconds
        );
    }
    Ok(())
}

fn trade(id: i64) -> Trade {
    let event_time = micros(1_700_000_000_000_000 + id * 137).unwrap_or_default();
    Trade {
        symbol: ["BTCUSD", "ETHUSD", "SOLUSD"][(id % 3) as usize].to_owned(),
        trade_id: id.to_string(),
        sequence: id,
        event_time,
        price: rust_decimal::Decimal::new(9_123_456 + id % 1_000, 2),
        size: rust_decimal::Decimal::new(1 + id, 8),
        side: Some("buy".to_owned()),
        aggressor: None,
        venue: None,
        conditions: None,
        received_at: event_time,
        known_at: event_time,
        corrects: None,
    }
}

/// The writer and `\copy`, in turn, three times each, into the same emptied table.
async fn store(database: &Database) -> Result<(), Failure> {
    let client = database.connect().await?;
    let mut text = String::new();
    for id in 0..ROWS {
        let t = trade(id);
        let time = t.event_time.to_rfc3339();
        writeln!(
            text,
            "{},coinbase,{time},{},{},{},{},buy,{time},{time}",
            t.symbol, t.trade_id, t.sequence, t.price, t.size
        )?;
    }
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..3 {
        client.batch_execute("truncate market.trades; checkpoint").await?;
        let started = Instant::now();
        let columns =
            "symbol, feed, event_time, trade_id, sequence, price, size, side, received_at, known_at";
        let copy = client.copy_in(&format!("copy market.trades ({columns}) from stdin csv")).await?;
        let mut copy = std::pin::pin!(copy);
        for chunk in text.as_bytes().chunks(1 << 16) {
            copy.send(bytes::Bytes::copy_from_slice(chunk)).await?;
        }
        copy.finish().await?;
        rates[0].push(ROWS as f64 / started.elapsed().as_secs_f64());

        client.batch_execute("truncate market.trades; checkpoint").await?;
        let batches: Vec<Batch> = (0..ROWS / 100)
            .map(|n| {
                let mut batch = Batch::new("coinbase");
                batch.records = (n * 100..(n + 1) * 100).map(|id| Record::Trade(trade(id))).collect();
                batch
            })
            .collect();
        let limits = Limits::default();
        let (sink, receiver) = Sink::channel(limits);
        let writing = tokio::spawn(Writer::new(database.clone(), limits).run(receiver));
        let started = Instant::now();
        for batch in batches {
            sink.send(batch).await?;
        }
        drop(sink);
        writing.await??;
        rates[1].push(ROWS as f64 / started.elapsed().as_secs_f64());
    }
    let stored: i64 = client.query_one("select count(*) from market.trades", &[]).await?.get(0);
    assert_eq!(stored, ROWS);
    let best = rates.map(|rates| rates.into_iter().fold(0.0, f64::max));
    println!("store \\copy: {:.0} rows/s", best[0]);
    println!("store writer: {:.0} rows/s, {:.0} % of \\copy", best[1], 100.0 * best[1] / best[0]);
    Ok(())
}

/// Names and days of the file of daily bars.
const BARS: (i64, i64) = (143, 2_500);

/// A file of daily bars by `load` and by `\copy`, in turn, three times each, into the same emptied table; then by `load` again,
/// which finds them all.
async fn load(database: &Database) -> Result<(), Failure> {
    let client = database.connect().await?;
    let (mut file, mut text) = (String::from("symbol,date,open,high,low,close,volume\n"), String::new());
    for symbol in 0..BARS.0 {
        for day in 0..BARS.1 {
            let date = |day: i64| Timestamp::from_timestamp(day * 86_400, 0).map(|time| time.date_naive());
            let (from, to) = (date(12_000 + day).ok_or("date")?, date(12_001 + day).ok_or("date")?);
            let price = 100.0 + ((symbol * 7 + day * 13) % 997) as f64 / 16.0;
            let prices = format!("{price},{},{},{price}", price + 1.5, price - 1.5);
            let volume = 1_000_000 + day * 37;
            writeln!(file, "S{symbol:04},{from},{prices},{volume}")?;
            writeln!(text, "S{symbol:04},1 day,{from} 00:00+00,file,{prices},{volume},1,{to} 00:00+00")?;
        }
    }
    let path = std::env::temp_dir().join(format!("kronos-bench-{}.csv", std::process::id()));
    std::fs::write(&path, &file)?;
    let by_copy = async || -> Result<f64, Failure> {
        let started = Instant::now();
        let columns = "symbol, bar_width, time, source, open, high, low, close, volume, sequence, known_at";
        let copy = client.copy_in(&format!("copy market.bars ({columns}) from stdin csv")).await?;
        let mut copy = std::pin::pin!(copy);
        for chunk in text.as_bytes().chunks(1 << 16) {
            copy.send(bytes::Bytes::copy_from_slice(chunk)).await?;
        }
        copy.finish().await?;
        Ok(started.elapsed().as_secs_f64())
    };
    let by_load = async || -> Result<f64, Failure> {
        let started = Instant::now();
        let limits = Config::default().limits_of_files();
        let (sink, receiver) = Sink::channel(limits);
        let writing = tokio::spawn(Writer::new(database.clone(), limits).run(receiver));
        let mut table = Table::open(&path, Options::default(), Utc::now())?;
        load_table(&path, &mut table, "file", &mut Names::literal(), &sink).await?;
        drop(sink);
        writing.await??;
        Ok(started.elapsed().as_secs_f64())
    };
    let (mut copied, mut loaded, mut known) = (f64::INFINITY, f64::INFINITY, f64::INFINITY);
    for _ in 0..3 {
        client.batch_execute("truncate market.bars; checkpoint").await?;
        copied = copied.min(by_copy().await?);
        client.batch_execute("truncate market.bars; checkpoint").await?;
        loaded = loaded.min(by_load().await?);
        known = known.min(by_load().await?);
    }
    std::fs::remove_file(&path)?;
    let stored: i64 = client.query_one("select count(*) from market.bars", &[]).await?.get(0);
    assert_eq!(stored, BARS.0 * BARS.1);
    let [copied, loaded, known] = [copied, loaded, known].map(|seconds| stored as f64 / seconds);
    println!("bars \\copy: {copied:.0} rows/s");
    println!(
        "bars load: {loaded:.0} rows/s, {:.0} % of \\copy; again, all known: {known:.0} rows/s",
        100.0 * loaded / copied
    );
    Ok(())
}

/// Time from handing a frame's rows to the sink until another connection sees them.
async fn latency(database: &Database) -> Result<(), Failure> {
    let client = database.connect().await?;
    client.batch_execute("truncate market.trades").await?;
    let limits = Limits::default();
    let (sink, receiver) = Sink::channel(limits);
    let writing = tokio::spawn(Writer::new(database.clone(), limits).run(receiver));
    let started = Instant::now();
    let sent = Arc::new(std::sync::Mutex::new(Vec::<(i64, Duration)>::new()));
    let sending = {
        let sent = Arc::clone(&sent);
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(10));
            for n in 0..SECONDS * 100 {
                ticks.tick().await;
                let first = n * RATE / 100;
                let mut batch = Batch::new("coinbase");
                batch.records = (first..first + RATE / 100).map(|id| Record::Trade(trade(id))).collect();
                if let Ok(mut sent) = sent.lock() {
                    sent.push((first, started.elapsed()));
                }
                if sink.send(batch).await.is_err() {
                    return;
                }
            }
        })
    };
    let total = RATE * SECONDS;
    let mut seen: Vec<Duration> = Vec::new();
    // Newest id of one symbol: its rows become visible in the order they were sent.
    let statement = "select coalesce(max(sequence), -1) from (select sequence from market.trades \
         where symbol = 'BTCUSD' and feed = 'coinbase' order by symbol desc, feed desc, event_time desc limit 1) as t";
    let mut next = 0;
    while next < (SECONDS * 100) as usize && started.elapsed() < Duration::from_secs(60) {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let visible: i64 = client.query_one(statement, &[]).await?.get(0);
        let now = started.elapsed();
        let Ok(sent) = sent.lock() else { break };
        while next < sent.len() && sent[next].0 + RATE / 100 - 3 <= visible {
            seen.push(now - sent[next].1);
            next += 1;
        }
    }
    sending.await?;
    writing.await??;
    seen.sort();
    let at = |share: f64| seen[((seen.len() - 1) as f64 * share) as usize].as_millis();
    println!("latency at {RATE} trades/s, {total} trades: p50 {} ms, p99 {} ms", at(0.5), at(0.99));
    Ok(())
}
