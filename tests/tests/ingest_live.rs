//! The worker against a live venue that misbehaves, while the worker or PostgreSQL is killed with signal 9.

mod worker;

use kronos_tests::{Cluster, Database, Running, cluster_folder, project_root};
use kronos_venue::server::{Faults, Pace, Server};
use kronos_venue::{Protocol, Trade, Venue};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// 2023-11-14 22:13:20 UTC.
const START: i64 = 1_700_000_000_000_000;

fn venue(trades: i64) -> Venue {
    let mut next = [0i64; 3];
    let symbols = ["BTC-USD", "ETH-USD", "SOL-USD"];
    let trade = |i: i64| {
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
    };
    Venue {
        protocol: Protocol::CoinbaseExchange,
        trades: (0..trades).map(trade).collect(),
        has_quotes: false,
    }
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

fn terminate(mut worker: Running) {
    Command::new("kill").arg(worker.0.id().to_string()).status().unwrap();
    assert!(worker.0.wait().unwrap().success(), "the worker drains and exits cleanly");
}

/// The venue's trades against the table, and gaps that could still be filled.
fn difference(db: &Database, venue: &Venue) -> String {
    worker::load_source(db, venue);
    let open = db.value("select count(*) from market.feed_gaps where status = 'open'");
    format!("{}, {open} open gaps", db.value(worker::DIFFERENCE))
}

#[test]
fn a_live_feed_with_faults_and_a_worker_killed_again_and_again_loses_and_doubles_nothing() {
    const TRADES: i64 = 60_000;
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
        drop_every: 5_001,
        duplicate_every: 997,
        swap_every: 1_009,
        garbage_every: 7_001,
        disconnect_every: 20_011,
        refuse_every: 7,
        ..Faults::default()
    };
    let pace = Pace { trades: 50, tick: Duration::from_millis(10) };
    let mut server = runtime.block_on(Server::start(venue(TRADES), faults, pace)).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let configuration = configuration(scratch.path(), &server);
    let mut state = 7u64;
    for _ in 0..6 {
        let child = start(&connection, &configuration);
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // The wait is the experiment: the worker dies at an arbitrary point of its work.
        std::thread::sleep(Duration::from_millis(500 + (state >> 33) % 1_500));
        drop(child);
    }
    let child = start(&connection, &configuration);
    runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(60), server.finished()).await })
        .unwrap();
    let stored = "select format('%s %s', (select count(*) from market.trades),
                                         (select count(*) from market.feed_gaps where status = 'open'))";
    let deadline = Instant::now() + Duration::from_secs(120);
    while db.value(stored) != format!("{TRADES} 0") && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(200));
    }
    terminate(child);
    assert_eq!(difference(&db, &venue(TRADES)), "0 missing, 0 surplus, 0 open gaps");
    assert_eq!(db.value("select count(*) from market.feed_gaps where status = 'unfillable'"), "0");
    assert_ne!(db.value("select count(*) from market.feed_gaps where cause = 'id'"), "0", "faults were felt");
    assert_eq!(
        db.value("select count(distinct reason) from market.rejected_rows"),
        "1",
        "garbage is quarantined"
    );
}

/// A cluster of its own, because it is killed.
struct Victim {
    connection: String,
}

impl Victim {
    const NAME: &str = "crash-cluster";

    fn script(action: &str) -> String {
        let mut command = Command::new(project_root().join(".ci/cluster"));
        let output = command.args([action, Self::NAME]).current_dir(project_root()).output().unwrap();
        assert!(output.status.success(), "{action}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn up() -> Self {
        Self::script("up");
        Victim { connection: Self::script("uri") }
    }

    fn kill(&self) {
        let file = cluster_folder(Self::NAME).join("data/postmaster.pid");
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
        if !std::thread::panicking() {
            Self::script("down");
        }
    }
}

#[test]
fn postgres_killed_five_times_under_a_replay_loses_and_doubles_nothing() {
    const TRADES: i64 = 500_000;
    let venue = venue(TRADES);
    let scratch = tempfile::tempdir().unwrap();
    let frames = scratch.path().join("frames.txt");
    {
        use std::io::Write as _;
        let mut file = std::io::BufWriter::new(std::fs::File::create(&frames).unwrap());
        writeln!(file, "wss://ws-feed.exchange.coinbase.com <-> 1700000000.0").unwrap();
        for trade in venue.trades.chunks(1) {
            let (second, micro) = (trade[0].micros / 1_000_000, trade[0].micros % 1_000_000);
            writeln!(file, "{second}.{micro:06}: {}", venue.frame(trade, 0)).unwrap();
        }
    }
    let victim = Victim::up();
    victim.value("drop schema if exists market, market_internal, trading cascade; select 1");
    assert!(worker::at(&victim.connection).arg("migrate").stdout(Stdio::null()).status().unwrap().success());
    let configuration = scratch.path().join("sink.toml");
    std::fs::write(&configuration, format!("[sink]\nspill_dir = '{}'\n", scratch.path().display())).unwrap();
    let replay = || {
        let child = worker::at(&victim.connection)
            .arg("--config")
            .arg(&configuration)
            // 50 s of trades in about 12 s, so that every kill meets a busy writer.
            .args(["replay", "--from-start", "--speed", "4"])
            .arg(&frames)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Running(child)
    };
    let mut child = replay();
    let mut kills = 0u64;
    while kills < 5 {
        std::thread::sleep(Duration::from_millis(900 + kills * 170));
        if let Some(status) = child.0.try_wait().unwrap() {
            // A slow machine was still starting the server when the replay ended: begin again, nothing must change.
            assert!(status.success());
            child = replay();
            continue;
        }
        let busy = (kills == 0).then(|| victim.outliving_session());
        victim.kill();
        kills += 1;
        Victim::script("up");
        if let Some(busy) = busy {
            busy.join().unwrap();
        }
    }
    assert!(child.0.wait().unwrap().success());
    let counts = "select format('%s %s %s', count(*), count(distinct (symbol, trade_id)), sum(size)) from market.trades";
    let size: i64 = (1..=TRADES).sum();
    let expected = format!("{TRADES} {TRADES} {}.{:08}", size / 100_000_000, size % 100_000_000);
    assert_eq!(victim.value(counts), expected);
}
