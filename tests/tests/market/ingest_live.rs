//! The worker against a live venue that misbehaves, while the worker or PostgreSQL is killed with signal 9.

use kronos_tests::worker::{self, succeed};
use kronos_tests::{Cluster, Database, Running, cluster_folder, until};
use kronos_venue::server::{Faults, Pace, Server};
use kronos_venue::{Protocol, Trade, Venue};
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// 2023-11-14 22:13:20 UTC.
const START: i64 = 1_700_000_000_000_000;

/// Trades of three products, one each tenth of a millisecond.
fn trades() -> impl Iterator<Item = Trade> {
    let mut next = [0i64; 3];
    let symbols = ["BTC-USD", "ETH-USD", "SOL-USD"];
    (0..).map(move |i: i64| {
        let which = (i * 7 % 11 % 3).unsigned_abs() as usize;
        next[which] += 1;
        Trade {
            symbol: symbols[which].to_owned(),
            id: next[which],
            micros: START + i * 100,
            price: format!("{}.{:02}", 100 + i % 900, i % 100),
            size: format!("0.{:08}", 1 + i),
            is_buy: i % 2 == 0,
        }
    })
}

fn venue(count: usize) -> Venue {
    let trades = trades().take(count).collect();
    Venue { protocol: Protocol::CoinbaseExchange, trades, has_quotes: false }
}

fn configuration(folder: &Path, server: &Server) -> std::path::PathBuf {
    let path = folder.join("feeds.toml");
    let text = format!(
        "[sink]\nspill_dir = '{}'\n[metrics]\nenabled = false\n[feeds.coinbase_exchange]\n\
         symbols = ['BTC-USD', 'ETH-USD', 'SOL-USD']\nurl = 'ws://{1}'\nrest_url = 'http://{1}'\n",
        folder.join("spill").display(),
        server.address
    );
    std::fs::write(&path, text).unwrap();
    path
}

fn start(connection: &str, configuration: &Path) -> Running {
    let child = worker::at(connection)
        .arg("--config")
        .arg(configuration)
        .arg("run")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Running(child)
}

/// The venue's trades against the table, and gaps that could still be filled.
fn difference(db: &Database, venue: &Venue) -> String {
    worker::load_source(db, venue);
    let open = db.value("select count(*) from market.feed_gaps where status = 'open'");
    format!("{}, {open} open gaps", db.value(worker::DIFFERENCE))
}

#[test]
fn a_live_feed_with_faults_and_a_worker_killed_again_and_again_loses_and_doubles_nothing() {
    const TRADES: usize = 20_000;
    let db = Database::new("ingest_live");
    let connection = Cluster::get().connection_string(db.name());
    assert!(worker::at(&connection).arg("migrate").stdout(Stdio::null()).status().unwrap().success());
    // The position before the first trade: everything the venue publishes must arrive.
    db.run(
        "insert into market.feed_cursors
         select 'coinbase_exchange', 'trades', s, 0, timestamptz '2023-11-14 22:13:19+00', now()
         from unnest(array['BTCUSD', 'ETHUSD', 'SOLUSD']) as s",
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let faults = Faults {
        drop_every: 2_503,
        duplicate_every: 997,
        swap_every: 1_009,
        garbage_every: 3_501,
        disconnect_every: 6_007,
        refuse_every: 7,
        ..Faults::default()
    };
    let pace = Pace { trades: 50, tick: Duration::from_millis(10) };
    let server = runtime.block_on(Server::start(venue(TRADES), faults, pace)).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let configuration = configuration(scratch.path(), &server);
    let mut state = 7u64;
    for kill in 0..6 {
        let child = start(&connection, &configuration);
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // It dies amid its work, somewhere between one tenth of the trades and the next.
        let tenth = TRADES / 10;
        let fatal = kill * tenth + (state >> 33) as usize % tenth;
        worker::wait_for(&db, &format!("select count(*) > {fatal} from market.trades"), "t");
        drop(child);
    }
    let child = start(&connection, &configuration);
    let stored = "select format('%s %s', (select count(*) from market.trades),
                                         (select count(*) from market.feed_gaps where status = 'open'))";
    worker::wait_for(&db, stored, &format!("{TRADES} 0"));
    worker::terminate(child);
    assert_eq!(difference(&db, &venue(TRADES)), "0 missing, 0 surplus, 0 open gaps");
    assert_eq!(db.value("select count(*) from market.feed_gaps where status = 'unfillable'"), "0");
    assert_ne!(db.value("select count(*) from market.feed_gaps where cause = 'id'"), "0", "faults were felt");
    assert_eq!(
        db.value("select count(distinct reason) from market.rejected_rows"),
        "1",
        "garbage is quarantined"
    );
}

/// Greetings of two symbols, five of each, that change and change.
fn greetings(count: i64) -> Venue {
    let trade = |i: i64| Trade {
        symbol: ["AAA", "BBB"][(i % 2).unsigned_abs() as usize].to_owned(),
        id: i / 2 + 1,
        micros: START + i * 1_000_000,
        price: i.to_string(),
        size: "1".to_owned(),
        is_buy: true,
    };
    Venue { protocol: Protocol::Hello, trades: (0..count).map(trade).collect(), has_quotes: false }
}

#[test]
fn a_polled_feed_with_faults_and_a_worker_killed_again_and_again_loses_and_doubles_nothing() {
    const GREETINGS: i64 = 1_000;
    let db = Database::new("ingest_polled");
    let connection = Cluster::get().connection_string(db.name());
    assert!(worker::at(&connection).arg("migrate").stdout(Stdio::null()).status().unwrap().success());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let faults = Faults { refuse_every: 23, ..Faults::default() };
    let pace = Pace { trades: GREETINGS.unsigned_abs() as usize, tick: Duration::from_millis(1) };
    let mut server = runtime.block_on(Server::start(greetings(GREETINGS), faults, pace)).unwrap();
    server.begin();
    runtime.block_on(server.finished());
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("feeds.toml");
    let text = format!(
        "[sink]\nspill_dir = '{}'\nmax_rows = 20\nmax_delay_ms = 10\n[metrics]\nenabled = false\n[feeds.hello]\n\
         symbols = ['AAA', 'BBB']\nrest_url = 'http://{}'\n",
        scratch.path().join("spill").display(),
        server.address
    );
    std::fs::write(&path, text).unwrap();
    for kill in 1..6 {
        let child = start(&connection, &path);
        let fatal = kill * GREETINGS / 8;
        worker::wait_for(&db, &format!("select count(*) > {fatal} from market.documents"), "t");
        drop(child);
    }
    let child = start(&connection, &path);
    let read = "select string_agg(concat(symbol, ' ', position ->> 'position', ' ', position ->> 'has_more'), ', ' order by symbol)
                from market.feed_cursors";
    worker::wait_for(&db, read, "AAA 500 false, BBB 500 false");
    worker::terminate(child);
    let different = format!(
        "select count(*) from (select (payload ->> 'text')::bigint as i, symbol, known_at from market.documents) d
         full join (select i, (array['AAA', 'BBB'])[i % 2 + 1] as symbol,
                           timestamptz '2023-11-14 22:13:20+00' + i * interval '1 second' as known_at
                    from generate_series(0, {GREETINGS} - 1) as i) g using (i, symbol, known_at)
         where d is null or g is null"
    );
    assert_eq!(db.value(&different), "0");
    assert_eq!(db.value("select count(*) from market.documents"), GREETINGS.to_string());
    assert_eq!(db.value("select kind from market.sources where source = 'hello'"), "vendor");
}

#[test]
fn a_reading_of_polled_feeds_ends_when_all_that_was_due_is_read() {
    let db = Database::new("ingest_reading");
    let connection = Cluster::get().connection_string(db.name());
    assert!(worker::at(&connection).arg("migrate").stdout(Stdio::null()).status().unwrap().success());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let faults = Faults { refuse_every: 7, ..Faults::default() };
    let pace = Pace { trades: 40, tick: Duration::from_millis(1) };
    let mut server = runtime.block_on(Server::start(greetings(40), faults, pace)).unwrap();
    server.begin();
    runtime.block_on(server.finished());
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("feeds.toml");
    let text = format!("[feeds.hello]\nsymbols = ['AAA', 'BBB']\nrest_url = 'http://{}'\n", server.address);
    std::fs::write(&path, text).unwrap();
    let backfill = |arguments: &[&str]| {
        succeed(worker::of(&db).arg("--config").arg(&path).arg("backfill").args(arguments))
    };
    let said = backfill(&["--dry-run"]);
    assert!(said.contains("hello, account: 2 questions are due, 2 requests at most, 1 min"), "{said}");
    assert_eq!(db.value("select count(*) from market.documents"), "0");
    let said = backfill(&[]);
    assert!(said.contains("hello: 2 questions answered, 0 not in the plan, 0 given up"), "{said}");
    assert!(said.contains("40 rows stored"), "{said}");
    // What was read a moment ago is not due.
    assert!(backfill(&["hello", "--dry-run"]).contains("hello, account: nothing is due"));
    assert!(backfill(&["hello"]).contains("hello: 0 questions answered"));
    // A symbol that was not read before.
    let said = backfill(&["hello", "CCC"]);
    assert!(said.contains("hello: 1 questions answered"), "{said}");
    let refused =
        worker::of(&db).args(["backfill", "hello", "AAA", "--from", "2024-01-01"]).output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--width are of feeds with history by time"));
    server.stop();
}

/// A cluster of its own, because it is killed; gone at the end of the test, unless that failed: its log may say why.
struct Victim {
    name: String,
    connection: String,
}

impl Victim {
    fn up() -> Self {
        // Beside another run of the tests, which has its own.
        let name = format!("crash-{}", std::process::id());
        worker::cluster("up", &name);
        Victim { connection: worker::cluster("uri", &name), name }
    }

    fn kill(&self) {
        let file = cluster_folder(&self.name).join("data/postmaster.pid");
        let pid = std::fs::read_to_string(file).unwrap().lines().next().unwrap().to_owned();
        assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    }

    fn client(&self) -> postgres::Client {
        self.connection.parse::<postgres::Config>().unwrap().connect(postgres::NoTls).unwrap()
    }

    fn value(&self, sql: &str) -> String {
        let rows = kronos_tests::rows(&mut self.client(), sql);
        rows[0][0].clone().unwrap_or_default()
    }

    /// A session that computes and waits for nothing: it outlives its postmaster by seconds.
    fn outliving_session(&self) -> std::thread::JoinHandle<()> {
        let mut client = self.client();
        let busy = std::thread::spawn(move || {
            let _ = client.simple_query("select count(*) from generate_series(1, 20000000) outliving");
        });
        let running =
            "select count(*) from pg_stat_activity where state = 'active' and query like '%) outliving'";
        while self.value(running) != "1" && !busy.is_finished() {
            std::thread::yield_now();
        }
        busy
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        worker::remove_cluster(&self.name);
    }
}

/// Writes a recording that goes on until it is told to end; returns how many trades were in it.
fn record(pipe: ChildStdin, is_over: &AtomicBool) -> usize {
    let venue = venue(0);
    let mut file = BufWriter::new(pipe);
    writeln!(file, "wss://ws-feed.exchange.coinbase.com <-> 1700000000.0").unwrap();
    let mut count = 0;
    for trade in trades() {
        let (second, micro) = (trade.micros / 1_000_000, trade.micros % 1_000_000);
        writeln!(file, "{second}.{micro:06}: {}", venue.frame(&[trade], 0)).unwrap();
        count += 1;
        if count % 50 == 0 {
            if is_over.load(Ordering::Relaxed) {
                break;
            }
            file.flush().unwrap();
            // The pace of the recording: 5,000 trades in a second.
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    file.flush().unwrap();
    count
}

#[test]
fn postgres_killed_five_times_under_a_replay_loses_and_doubles_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let victim = Victim::up();
    // Nobody pulls the plug: what a killed process has written stays written, and each start saves seconds.
    let mut client = victim.client();
    client.batch_execute("alter system set fsync = off").unwrap();
    client.batch_execute("select pg_reload_conf()").unwrap();
    assert!(worker::at(&victim.connection).arg("migrate").stdout(Stdio::null()).status().unwrap().success());
    let configuration = scratch.path().join("sink.toml");
    std::fs::write(&configuration, format!("[sink]\nspill_dir = '{}'\n", scratch.path().display())).unwrap();
    let is_over = AtomicBool::new(false);
    let trades = std::thread::scope(|scope| {
        // The kills decide how long the recording is: a replay that began again would bring back what was lost.
        let child = worker::at(&victim.connection)
            .arg("--config")
            .arg(&configuration)
            .args(["replay", "/dev/stdin"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut child = Running(child);
        let pipe = child.0.stdin.take().unwrap();
        let recording = scope.spawn(|| record(pipe, &is_over));
        for kill in 0..5 {
            // Rows are stored since the server came back: each kill meets the worker amid its work.
            let moved = "select coalesce(max(updated_at)::text, 'never') from market.feed_cursors";
            let mut client = victim.client();
            let mut newest = || kronos_tests::rows(&mut client, moved).remove(0).remove(0);
            let before = newest();
            until("rows are stored", || newest() != before);
            let busy = (kill == 0).then(|| victim.outliving_session());
            victim.kill();
            worker::cluster("up", &victim.name);
            if let Some(busy) = busy {
                busy.join().unwrap();
            }
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(child.0.wait().unwrap().success());
        recording.join().unwrap()
    });
    let counts = "select format('%s %s %s', count(*), count(distinct (symbol, trade_id)), sum(size)) from market.trades";
    let size: usize = (1..=trades).sum();
    let expected = format!("{trades} {trades} {}.{:08}", size / 100_000_000, size % 100_000_000);
    assert_eq!(victim.value(counts), expected);
}
