//! Every feed of the worker against a venue that speaks its frames and its REST interface.

use kronos_tests::worker::{self, migrated, succeed};
use kronos_tests::{Cluster, Database, Running, rows};
use kronos_venue::server::{Faults, Pace, Server};
use kronos_venue::{KEY, Protocol, SECRET, Trade, Venue};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// 2023-11-13 00:00:00 UTC, a Monday.
const START: i64 = 1_699_833_600_000_000;

/// Trades every 30 seconds: a bit more than two days of them.
fn venue(protocol: Protocol, trades: i64) -> Venue {
    let symbols = match protocol {
        Protocol::Kraken | Protocol::AlpacaCrypto => ["BTC/USD", "ETH/USD"],
        Protocol::Alpaca | Protocol::Hello => ["SPY", "QQQ"],
        Protocol::Yahoo => ["SPY", "^VIX"],
        Protocol::Coinbase | Protocol::CoinbaseExchange => ["BTC-USD", "ETH-USD"],
    };
    let mut next = [0i64; 2];
    let trade = |i: i64| {
        let which = usize::from(i % 5 > 2);
        next[which] += 1;
        Trade {
            symbol: symbols[which].to_owned(),
            id: next[which],
            micros: START + i * 30_000_000 + i % 7,
            price: format!("{}.{:02}", 100 + i * 31 % 900, i % 100),
            size: format!("{}.{:08}", i % 3, 1 + i),
            is_buy: i % 2 == 0,
        }
    };
    Venue { protocol, trades: (0..trades).map(trade).collect(), has_quotes: true }
}

fn configuration(folder: &Path, venue: &Venue, server: &Server, more: &str) -> PathBuf {
    let mut symbols: Vec<_> = venue.trades.iter().map(|trade| trade.symbol.clone()).collect();
    symbols.sort();
    symbols.dedup();
    let path = folder.join("feeds.toml");
    let text = format!(
        "{more}\n[feeds.{}]\nsymbols = {symbols:?}\nquotes = true\nurl = 'ws://{1}'\nrest_url = 'http://{1}'\n",
        venue.protocol.feed(),
        server.address
    );
    std::fs::write(&path, text).unwrap();
    path
}

fn with_account(mut command: Command) -> Command {
    command.env("APCA_API_KEY_ID", KEY).env("APCA_API_SECRET_KEY", SECRET);
    command
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// A venue all of whose trades are out.
fn closed_venue(runtime: &tokio::runtime::Runtime, venue: &Venue, faults: Faults) -> Server {
    let pace = Pace { trades: usize::MAX / 2, tick: Duration::from_millis(1) };
    let mut server = runtime.block_on(Server::start(venue.clone(), faults, pace)).unwrap();
    server.begin();
    runtime.block_on(server.finished());
    server
}

/// Bars of the venue's trades, computed by the database, against those that were stored.
fn bar_difference(db: &Database, feed: &str, width: &str) -> String {
    db.value(&format!(
        "with made as (
           select symbol, date_bin('{width}', event_time, timestamptz '2000-01-01 00:00+00') as time,
                  (array_agg(price order by number))[1]::float8 as open, max(price)::float8 as high,
                  min(price)::float8 as low, (array_agg(price order by number desc))[1]::float8 as close,
                  sum(size)::float8 as volume
           from source group by 1, 2),
         stored as (
           select symbol, time, open, high, low, close, volume from market.bars
           where source = '{feed}' and bar_width = '{width}')
         select format('%s missing, %s surplus, %s stored',
           (select count(*) from (table made except all table stored) as a),
           (select count(*) from (table stored except all table made) as b),
           case when exists (table stored) then 'some' else 'none' end)"
    ))
}

#[test]
fn history_of_every_feed_is_what_the_venue_published() {
    let runtime = runtime();
    let feeds = [
        (Protocol::Coinbase, true, &[("1m", "1 minute"), ("1d", "1 day")][..]),
        (Protocol::CoinbaseExchange, true, &[("1m", "1 minute"), ("1d", "1 day")]),
        (Protocol::Kraken, true, &[("1h", "1 hour")]),
        (Protocol::Alpaca, true, &[("1m", "1 minute"), ("1d", "1 day")]),
        (Protocol::AlpacaCrypto, true, &[("1h", "1 hour")]),
        (Protocol::Yahoo, false, &[("1d", "1 day")]),
    ];
    worker::at_once(feeds, |(protocol, has_trades, widths)| {
        let (venue, feed) = (venue(protocol, 6_000), protocol.feed());
        let is_alpaca = feed.starts_with("alpaca");
        // A refusal now and then, or an account with a small allowance.
        let faults = Faults {
            refuse_every: if is_alpaca || protocol == Protocol::Yahoo { 0 } else { 5 },
            quota: if is_alpaca { 3 } else { 0 },
            ..Faults::default()
        };
        let server = closed_venue(&runtime, &venue, faults);
        let db = migrated(&format!("feeds_{feed}"));
        worker::load_source(&db, &venue);
        let scratch = tempfile::tempdir().unwrap();
        let configuration = configuration(scratch.path(), &venue, &server, "");
        let backfill = |width: Option<&str>| {
            let mut command = with_account(worker::of(&db));
            command.arg("--config").arg(&configuration).args(["backfill", feed]);
            command.args(["--from", "2023-11-13", "--to", "2023-11-16"]);
            command.args(width.map(|width| format!("--width={width}")));
            succeed(&mut command)
        };
        if has_trades {
            for _ in 0..2 {
                let text = backfill(None);
                assert!(text.contains(" 0 rejected"), "{feed}: {text}");
                assert_eq!(db.value(worker::DIFFERENCE), "0 missing, 0 surplus", "{feed}");
            }
        }
        for (width, interval) in widths {
            backfill(Some(width));
            let found = bar_difference(&db, feed, interval);
            assert_eq!(found, "0 missing, 0 surplus, some stored", "{feed} {width}");
        }
        assert_eq!(server.violations(), 0, "{feed}: the announced limit is kept");
        server.stop();
    });
}

/// The value of a metric of one feed.
fn metric(text: &str, name: &str, feed: &str) -> f64 {
    let line = text.lines().find(|line| line.starts_with(name) && line.contains(&format!("feed=\"{feed}\"")));
    let line = line.unwrap_or_else(|| panic!("{name} of {feed} is not in:\n{text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn scrape(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

#[test]
fn live_trades_and_quotes_of_every_feed_are_stored_and_counted() {
    let runtime = runtime();
    let feeds = [
        Protocol::Coinbase,
        Protocol::CoinbaseExchange,
        Protocol::Kraken,
        Protocol::Alpaca,
        Protocol::AlpacaCrypto,
    ];
    worker::at_once(feeds, |protocol| {
        let (venue, feed) = (venue(protocol, 4_000), protocol.feed());
        let is_alpaca = feed.starts_with("alpaca");
        let faults = Faults {
            duplicate_every: 17,
            // A frame that is held back is lost with its connection; without numbers that is noticed a minute later.
            swap_every: if is_alpaca { 0 } else { 61 },
            garbage_every: 97,
            disconnect_every: 301,
            ..Faults::default()
        };
        let pace = Pace { trades: 16, tick: Duration::from_millis(10) };
        let server = runtime.block_on(Server::start(venue.clone(), faults, pace)).unwrap();
        let db = migrated(&format!("live_{feed}"));
        worker::load_source(&db, &venue);
        // The position before the first trade: everything the venue publishes must arrive.
        db.run(&format!(
            "insert into market.feed_cursors
             select distinct '{feed}', 'trades', symbol, 0, timestamptz '2023-11-12 23:59:59+00', now() from source"
        ));
        let scratch = tempfile::tempdir().unwrap();
        let metrics = "[metrics]\nlisten = '127.0.0.1:0'";
        let configuration = configuration(scratch.path(), &venue, &server, metrics);
        let log = std::fs::File::create(scratch.path().join("log")).unwrap();
        let child = with_account(worker::of(&db))
            .env("RUST_LOG", "debug")
            .arg("--config")
            .arg(&configuration)
            .arg("run")
            .stderr(log)
            .spawn()
            .unwrap();
        let child = Running(child);
        let state = "select format('%s %s', (select count(*) from market.trades),
                                            (select count(*) from market.feed_gaps where status = 'open'))";
        worker::wait_for(&db, state, "4000 0");
        let page = scrape(worker::listening_port(&child.0)).expect("the metrics are served");
        worker::terminate(child);

        assert_eq!(db.value(worker::DIFFERENCE), "0 missing, 0 surplus", "{feed}");
        // A quote is a cent around the trade that it follows; lost ones are lost, for quotes have no history.
        let quotes = db.rows(
            "select count(*), count(*) filter (where exists (
                      select from source s where s.symbol = q.symbol and s.event_time = q.event_time
                        and q.bid = s.price - 0.01 and q.ask = s.price + 0.01 and q.bid_size = 1 and q.ask_size = 2))
             from market.quotes q",
        );
        let [count, exact] = [0, 1].map(|i| quotes[0][i].as_deref().unwrap().parse::<u64>().unwrap());
        assert!(count > 100 && exact == count, "{feed}: {exact} of {count} quotes are exact");
        assert!(metric(&page, "kronos_ingest_frames_total", feed) >= 500.0, "{feed}");
        assert!(metric(&page, "kronos_ingest_rejected_total", feed) >= 1.0, "{feed}");
        assert!(metric(&page, "kronos_ingest_reconnects_total", feed) >= 1.0, "{feed}");
        assert_eq!(metric(&page, "kronos_ingest_open_gaps", feed), 0.0, "{feed}");
        let log = std::fs::read_to_string(scratch.path().join("log")).unwrap();
        assert!(log.contains("connected") && !log.contains(SECRET) && !page.contains(SECRET), "{feed}");
        server.stop();
    });
}

#[test]
fn check_asks_each_feed_with_its_credentials() {
    let runtime = runtime();
    let venue = venue(Protocol::Alpaca, 100);
    let server = closed_venue(&runtime, &venue, Faults::default());
    let db = migrated("feeds_check");
    let scratch = tempfile::tempdir().unwrap();
    let configuration = configuration(scratch.path(), &venue, &server, "");
    let mut check = with_account(worker::of(&db));
    let text = succeed(check.arg("--config").arg(&configuration).arg("check"));
    assert!(
        text.contains("ok      feed alpaca: 2 symbols; it answers for QQQ: newest of 2023-11-13"),
        "{text}"
    );
    let output = check.env("APCA_API_SECRET_KEY", "hunter2").output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success() && text.contains("FAILED  feed alpaca: refused: HTTP 403"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    server.stop();
}

#[test]
fn an_account_that_is_refused_stops_its_feed() {
    let runtime = runtime();
    let venue = venue(Protocol::Alpaca, 100);
    let pace = Pace { trades: 1, tick: Duration::from_millis(10) };
    let server = runtime.block_on(Server::start(venue.clone(), Faults::default(), pace)).unwrap();
    let db = migrated("feeds_refused");
    let scratch = tempfile::tempdir().unwrap();
    let configuration = configuration(scratch.path(), &venue, &server, "[metrics]\nenabled = false");
    let output = with_account(worker::of(&db))
        .env("APCA_API_SECRET_KEY", "hunter2")
        .arg("--config")
        .arg(&configuration)
        .arg("run")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && text.contains("402 auth failed") && !text.contains("hunter2"),
        "{text}"
    );
    let mut client = Cluster::get().config(db.name()).connect(kronos_tests::NoTls).unwrap();
    assert_eq!(rows(&mut client, "select 1 from market.feed_sessions").len(), 1, "one attempt is enough");
    server.stop();
}
