//! The worker on a real database: files, recordings, and kill -9.

use kronos_tests::worker::{self, migrated, succeed};
use kronos_tests::{Cluster, Database, NoTls, Running, rows, shared_folder, until};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[test]
fn a_quickstart_from_a_csv_file_ends_in_a_forecast() {
    let Some(folder) = shared_folder("data/daily") else { return };
    let db = migrated("ingest_quickstart");
    let text = succeed(worker::of(&db).arg("load").arg(folder.join("leaders_daily.csv.gz")));
    assert!(text.contains("58449 rows stored, 0 known before, 0 rejected"), "{text}");
    let forecast = |options: &str, symbol: &str| -> Vec<String> {
        let rows = db.rows(&format!(
            "select (ts at time zone 'UTC')::date || coalesce(' ' || status, '')
             from kronos_predict('market.bars_1d', 3, only_series => '{{{symbol}}}', options => '{options}') order by step"
        ));
        rows.into_iter().map(|row| row[0].clone().unwrap()).collect()
    };
    assert_eq!(forecast("{}", "BTCUSD"), ["2023-03-02", "2023-03-03", "2023-03-04"]);
    // 2 April 2021 was Good Friday.
    for options in ["{}", r#"{"calendar": "XNYS"}"#] {
        assert_eq!(forecast(options, "SPY"), ["2021-04-01", "2021-04-05", "2021-04-06"], "{options}");
    }
    // Days of foreign exchange that are those of UTC, Sundays too, are of no market listed.
    let calendar = |symbol: &str| {
        db.value(&format!("select calendar from market.instruments where symbol = '{symbol}'"))
    };
    assert_eq!(["SPY", "BTCUSD", "EURUSD"].map(calendar), ["XNYS", "24x7", ""]);
    // Loading again changes nothing, and says so.
    let text = succeed(worker::of(&db).arg("load").arg(folder.join("leaders_daily.csv.gz")));
    assert!(text.contains("0 rows stored, 58449 known before, 0 rejected"), "{text}");
    assert_eq!(db.value("select count(*) from market.bars"), "58449");
}

/// Stocks and coins in one file, loaded by a role that only ingests.
#[test]
fn a_load_tells_the_calendars_of_its_instruments_by_their_bars() {
    let db = migrated("ingest_calendars");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bars.csv");
    let of = |symbol: &str, calendar: &str| {
        let rows = db.rows(&format!(
            "select distinct day from kronos.calendar_days('{calendar}', '2023-06-01', '2024-05-31') order by day"
        ));
        rows.iter()
            .map(|row| format!("{symbol},{},1,2,1,2\n", row[0].as_deref().unwrap()))
            .collect::<String>()
    };
    let mut text = "symbol,date,open,high,low,close\n".to_owned();
    // Bars that are there already decide nothing: what somebody has set stays.
    for (symbol, calendar) in [("AAA", "XNYS"), ("BBB", "XLON"), ("CCC", "24x7"), ("DDD", "XNYS")] {
        text.push_str(&of(symbol, calendar));
    }
    std::fs::write(&path, text).unwrap();
    db.run("insert into market.instruments (symbol, calendar) values ('DDD', 'FX')");
    succeed(worker::of(&db).arg("load").arg(&path));
    let calendars =
        "select string_agg(symbol || ' ' || calendar, ', ' order by symbol) from market.instruments";
    assert_eq!(db.value(calendars), "AAA XNYS, BBB XLON, CCC 24x7, DDD FX");
    assert_eq!(
        db.value("select count(*) from market.validate() v where v.check_name = 'missing_session'"),
        "0"
    );
    // Each steps along its own: Friday 31 May is followed by Monday, but for the coin.
    let next = db.rows(
        "select to_char(ts at time zone 'UTC', 'Dy DD') from kronos_predict('market.bars_1d', 1, samples => 2, only_series => '{AAA,BBB,CCC}') order by series",
    );
    assert_eq!(
        next.into_iter().map(|row| row[0].clone().unwrap()).collect::<Vec<_>>(),
        ["Mon 03", "Mon 03", "Sat 01"]
    );
    // Whoever ingests lets bars tell, and changes no instrument by hand.
    let ingestor = db.role("ingestor");
    db.run(&format!("grant market_ingestor to {ingestor}; update market.instruments set calendar = null where symbol = 'AAA'"));
    let mut client = db.connect_as(&ingestor);
    assert!(client.batch_execute("update market.instruments set calendar = 'FX'").is_err());
    client.batch_execute("select market.learn_calendars('{AAA,BBB}')").unwrap();
    assert_eq!(db.value(calendars), "AAA XNYS, BBB XLON, CCC 24x7, DDD FX");
}

#[test]
fn recorded_frames_become_the_expected_rows_and_foreign_ones_are_quarantined() {
    let Some(folder) = shared_folder("data/ws_frames") else { return };
    let db = migrated("ingest_frames");
    let files =
        ["COINBASE.ws.28.0.gz", "KRAKEN.ws.48.0.gz", "BINANCE.ws.1.0.gz"].map(|name| folder.join(name));
    succeed(worker::of(&db).arg("replay").args(&files));
    succeed(worker::of(&db).arg("replay").arg("--from-start").args(&files));
    let expected = std::fs::read_to_string(folder.join("decoded_trades.csv")).unwrap();
    let mut expected: Vec<Vec<&str>> =
        expected.lines().skip(1).map(|line| line.split(',').collect()).collect();
    expected.sort();
    let rows = db.rows("select feed, symbol, price, size, side, trade_id from market.trades");
    assert_eq!(rows.len(), expected.len());
    for e in expected {
        let symbol = e[1].replace(['-', '/'], "");
        let fits = |row: &&kronos_tests::Row| {
            let text = |i: usize| row[i].as_deref().unwrap_or_default();
            text(0).starts_with(e[0])
                && text(1) == symbol
                && (text(2), text(3), text(4)) == (e[3], e[4], e[5])
                && (e[6].is_empty() || text(5) == e[6])
        };
        assert!(rows.iter().any(|row| fits(&row)), "{e:?}");
    }
    let reasons = db.rows("select distinct feed, reason from market.rejected_rows");
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    assert!(reasons[0][1].as_deref().unwrap().contains("stream.binance.com"), "{reasons:?}");
}

#[test]
fn mistakes_are_one_clear_line() {
    let db = Database::new("ingest_mistakes");
    let fail = |arguments: &[&str], part: &str| {
        let output = worker::of(&db).args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(!output.status.success() && text.contains(part), "{arguments:?}: {text}");
        assert!(!text.contains("panicked"), "{text}");
    };
    fail(&["replay", "absent.gz"], "could not read \"absent.gz\"");
    fail(&["backfill", "yahooo", "SPY", "--from", "2020-01-01"], "the feeds are");
    fail(&["load", "Cargo.toml"], "--column");
    fail(&["simulate", "--width", "1x"], "not a width");
    fail(&["status"], "42P01");
    fail(&["check"], "run kronos-ingest migrate");
    fail(&["run"], "no feed");
}

/// Trades of a recording made for the test.
const TRADES: usize = 200_000;

/// A recording of Coinbase Exchange matches, every hundredth of them sent twice, and the same trades as CSV.
fn recording(folder: &Path) -> (PathBuf, PathBuf) {
    let (frames, rows) = (folder.join("frames.txt"), folder.join("rows.csv"));
    let mut frame_file = std::io::BufWriter::new(std::fs::File::create(&frames).unwrap());
    let mut row_file = std::io::BufWriter::new(std::fs::File::create(&rows).unwrap());
    writeln!(frame_file, "wss://ws-feed.exchange.coinbase.com <-> 1700000000.0").unwrap();
    let mut state = 1u64;
    for id in 0..TRADES {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let product = ["BTC-USD", "ETH-USD", "SOL-USD"][(state >> 60) as usize % 3];
        let price = format!("{}.{:02}", 100 + (state >> 33) % 900, (state >> 20) % 100);
        let size = format!("0.{:08}", (state >> 10) % 100_000_000);
        let (second, micro) = (id / 100, (id % 100) * 10_000);
        let (hour, minute) = (second / 3_600, second / 60 % 60);
        let time = format!("2023-11-14T{:02}:{minute:02}:{:02}.{micro:06}Z", hour, second % 60);
        let side = if state >> 63 == 0 { "buy" } else { "sell" };
        for _ in 0..1 + usize::from(id % 100 == 0) {
            writeln!(
                frame_file,
                "{}.{micro:06}: {{\"type\":\"match\",\"trade_id\":{id},\"maker_order_id\":\"m\",\"taker_order_id\":\"t\",\"side\":\"{side}\",\"size\":\"{size}\",\"price\":\"{price}\",\"product_id\":\"{product}\",\"sequence\":{id},\"time\":\"{time}\"}}",
                1_700_000_000 + second
            )
            .unwrap();
        }
        writeln!(row_file, "{},{id},{time},{price},{size},{side}", product.replace('-', "")).unwrap();
    }
    (frames, rows)
}

/// Rows that are in the source and not in the table, or the reverse, or twice.
fn difference(db: &Database, rows: &Path) -> String {
    db.run("create table if not exists source (symbol text, trade_id text, event_time timestamptz, price numeric, size numeric, side text)");
    db.run("truncate source");
    let mut client = db.connect();
    let mut copy = client.copy_in("copy source from stdin csv").unwrap();
    std::io::copy(&mut std::fs::File::open(rows).unwrap(), &mut copy).unwrap();
    copy.finish().unwrap();
    db.value(
        "select format('%s missing, %s surplus',
           (select count(*) from (select symbol, trade_id, event_time, price::text, size::text, side from source
              except all select symbol, trade_id, event_time, price::text, size::text, side from market.trades) as a),
           (select count(*) from (select symbol, trade_id, event_time, price::text, size::text, side from market.trades
              except all select symbol, trade_id, event_time, price::text, size::text, side from source) as b))",
    )
}

#[test]
fn a_replay_killed_twenty_times_leaves_the_source_row_for_row() {
    const KILLS: usize = 20;
    let scratch = tempfile::tempdir().unwrap();
    let (frames, source) = recording(scratch.path());
    let db = migrated("ingest_kill");
    let mut watch = db.connect();
    let mut place = || {
        let found = rows(&mut watch, "select coalesce(max(sequence), 0) from market.feed_cursors").remove(0);
        found[0].as_deref().unwrap().parse::<usize>().unwrap()
    };
    let mut state = 42u64;
    for kill in 0..KILLS {
        let child = worker::of(&db)
            .arg("replay")
            .arg(&frames)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut child = Running(child);
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // It dies while it stores what follows an arbitrary place in its part of the recording.
        let stretch = TRADES / KILLS;
        let fatal = kill * stretch + (state >> 33) as usize % stretch;
        until("the replay comes to where it is killed", || {
            place() >= fatal || child.0.try_wait().unwrap().is_some()
        });
        child.0.kill().unwrap();
        child.0.wait().unwrap();
    }
    succeed(worker::of(&db).arg("replay").arg(&frames));
    assert_eq!(difference(&db, &source), "0 missing, 0 surplus");
    assert_eq!(db.value("select count(*) from market.feed_gaps where status = 'open'"), "0");
}

/// A CSV file of trades of one symbol.
fn trades_file(folder: &Path, count: usize) -> PathBuf {
    let path = folder.join("trades.csv");
    let mut text = String::from("time,symbol,price,size,trade_id\n");
    for id in 0..count {
        text.push_str(&format!("{},AAA,{}.5,1,{id}\n", 1_700_000_000 + id, 100 + id % 7));
    }
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_full_disk_makes_the_worker_wait_and_costs_no_row() {
    const ROWS: usize = 20_000;
    let scratch = tempfile::tempdir().unwrap();
    let db = migrated("ingest_full_disk");
    let file = trades_file(scratch.path(), ROWS);
    let (config, log) = (scratch.path().join("worker.toml"), scratch.path().join("log"));
    std::fs::write(
        &config,
        format!("sink.spill_dir = {:?}\nsink.max_rows = 500\n", scratch.path().join("spill")),
    )
    .unwrap();
    let admit = |admitted: bool| {
        let mut server = Cluster::get().config("postgres").connect(NoTls).unwrap();
        server.batch_execute(&format!("alter database {} allow_connections {admitted}", db.name())).unwrap();
    };
    admit(false);
    // A limit on the size of files refuses like a full disk: a part of what is written fits.
    let worker = worker::of(&db);
    let mut limited = Command::new("bash");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 256; exec \"$@\"", "limited"]).arg(worker.get_program());
    for (name, value) in worker.get_envs() {
        limited.env(name, value.unwrap_or_default());
    }
    let child = limited
        .arg("--config")
        .arg(&config)
        .args(["load", "--source", "file"])
        .arg(&file)
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let mut child = Running(child);
    until("the disk is full", || std::fs::read_to_string(&log).unwrap().contains("no room for rows"));
    let spill = scratch.path().join("spill/kronos-ingest.spill").metadata().unwrap();
    assert_eq!(spill.permissions().mode() & 0o777, 0o600, "rows of a venue are nobody else's");
    admit(true);
    let mut printed = String::new();
    child.0.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
    assert!(child.0.wait().unwrap().success(), "{}", std::fs::read_to_string(&log).unwrap());
    assert!(printed.contains(&format!("{ROWS} rows stored, 0 known before, 0 rejected")), "{printed}");
    assert_eq!(
        db.value("select count(distinct trade_id) || ' of ' || count(*) from market.trades"),
        format!("{ROWS} of {ROWS}")
    );
}

#[test]
fn a_file_that_unpacks_to_one_endless_row_ends_with_a_line() {
    let scratch = tempfile::tempdir().unwrap();
    let db = migrated("ingest_endless");
    let gzipped = |name: &str, head: &str, filler: &[u8]| {
        let path = scratch.path().join(name);
        let mut file =
            flate2::write::GzEncoder::new(std::fs::File::create(&path).unwrap(), flate2::Compression::fast());
        file.write_all(head.as_bytes()).unwrap();
        for _ in 0..40 {
            file.write_all(&filler.repeat((1 << 20) / filler.len())).unwrap();
        }
        file.finish().unwrap();
        path
    };
    let rows = "time,symbol,price,size,trade_id\n1700000000,AAA,1,1,a\n";
    // Without an end of line; within quotes; and a message that never ends.
    for (command, path, line) in [
        ("load", gzipped("line.csv.gz", rows, b"x"), Some(3)),
        ("load", gzipped("quoted.csv.gz", &format!("{rows}\"\n"), b"x\n"), Some(3)),
        (
            "replay",
            gzipped(
                "frames.gz",
                "wss://ws-feed.exchange.coinbase.com <-> 1700000000.0\n1700000001.0: {\n",
                b"{\n",
            ),
            None,
        ),
    ] {
        let output = worker::of(&db).arg(command).arg(&path).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{path:?}: {told}");
        assert!(told.contains("longer than 16 MB"), "{path:?}: {told}");
        if let Some(line) = line {
            assert!(told.contains(&format!("line {line}")), "{told}");
        }
    }
    assert_eq!(db.value("select count(*) from market.trades"), "1", "what stands before it is stored");
}

/// A script that loads a file must not go on as if it had been read.
#[test]
fn a_file_whose_rows_are_refused_is_a_failure() {
    let db = migrated("ingest_refused");
    let folder = tempfile::tempdir().unwrap();
    let load = |text: &str, arguments: &[&str]| {
        let path = folder.path().join("bars.csv");
        std::fs::write(&path, text).unwrap();
        let output =
            worker::of(&db).arg("load").arg(&path).args(["--width", "1d"]).args(arguments).output().unwrap();
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.success(), said)
    };
    let good = "A;2024-01-02;1;1;1;1\n";
    let (header, bad) = ("symbol;time;open;high;low;close\n", "A;2024-01-03;1;1;1;oops\n");
    let semicolon = ["--delimiter", ";"];
    let (passed, said) = load(&format!("{header}{good}{bad}"), &semicolon);
    assert!(
        passed && said.contains("1 rows stored, 0 known before, 1 rejected; market.rejected_rows has them"),
        "{said}"
    );
    let (passed, said) = load(&format!("{header}{good}{bad}"), &[&semicolon[..], &["--strict"]].concat());
    assert!(!passed && said.contains("1 rows were rejected; market.rejected_rows"), "{said}");
    let (passed, said) = load(&format!("{header}{bad}"), &semicolon);
    assert!(!passed && said.contains("0 rows stored, 0 known before, 1 rejected"), "{said}");
    let (passed, said) = load(&format!("{header}{good}"), &[&semicolon[..], &["--strict"]].concat());
    assert!(passed && said.contains("0 rows stored, 1 known before, 0 rejected\n"), "{said}");
    assert!(!said.contains("ansi"), "{said}");
}
