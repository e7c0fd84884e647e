//! Files as other programs write them, and the names that they give to instruments.

use kronos_tests::Database;
use kronos_tests::worker::{self, migrated, succeed};
use kronos_venue::server::{Faults, Pace, Server};
use kronos_venue::{Protocol, Trade, Venue};
use std::path::{Path, PathBuf};
use std::time::Duration;

fn file(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("bars.csv");
    std::fs::write(&path, text).unwrap();
    path
}

/// Three bars at `times`.
fn three(times: [&str; 3]) -> String {
    let rows = times.map(|time| format!("TT,\"{time}\",1,2,1,2\n"));
    format!("symbol,time,open,high,low,close\n{}", rows.concat())
}

/// Whether the load passed, and what it said.
fn load(db: &Database, file: &Path, arguments: &[&str]) -> (bool, String) {
    let output = worker::of(db).arg("load").arg(file).args(arguments).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn the_times_of_a_file_are_read_as_they_are_meant() {
    let db = migrated("ingest_times");
    let folder = tempfile::tempdir().unwrap();
    for (times, arguments, expected) in [
        (
            ["2024-01-02 00:00:00 UTC", "2024-01-03 00:00:00 UTC", "2024-01-04 00:00:00 UTC"],
            &[][..],
            "1 day 2024-01-02",
        ),
        (["1704153600000000000", "1704240000000000000", "1704326400000000000"], &[], "1 day 2024-01-02"),
        (["1704153600.0", "1704240000.0", "1704326400.0"], &[], "1 day 2024-01-02"),
        (["20240102 093000", "20240103 093000", "20240104 093000"], &[], "1 day 2024-01-02 09:30"),
        (
            ["20240102 093000", "20240102 093100", "20240102 093200"],
            &["--timezone", "America/New_York"],
            "00:01:00 2024-01-02 14:30",
        ),
        (["2024.01.02", "2024.01.03", "2024.01.04"], &[], "1 day 2024-01-02"),
        (["20240102", "20240103", "20240104"], &[], "1 day 2024-01-02"),
        (["45293", "45294", "45295"], &[], "1 day 2024-01-02"),
        (["2024-Q1", "2024-Q2", "2024-Q3"], &[], "3 mons 2024-01-01"),
        (["2024-01", "2024-02", "2024-03"], &[], "1 mon 2024-01-01"),
        (["1992", "1993", "1994"], &[], "1 year 1992-01-01"),
        (["2024-03-31", "2024-06-30", "2024-09-30"], &["--width", "1q"], "3 mons 2024-03-31"),
        (["25/01/2024", "01/02/2024", "08/02/2024"], &[], "7 days 2024-01-25"),
        (["01/02/2024", "01/03/2024", "01/04/2024"], &["--time-format", "month-first"], "1 day 2024-01-02"),
        (["-86400", "0", "86400"], &["--time-format", "unix"], "1 day 1969-12-31"),
        (["02-Jan-24", "03-Jan-24", "04-Jan-24"], &["--time-format", "%d-%b-%y"], "1 day 2024-01-02"),
    ] {
        let (passed, said) = load(&db, &file(folder.path(), &three(times)), arguments);
        assert!(passed && said.contains("3 rows stored, 0 known before, 0 rejected"), "{times:?}: {said}");
        let first = "select bar_width || ' ' || regexp_replace(to_char(time at time zone 'UTC', 'YYYY-MM-DD HH24:MI'), ' 00:00', '')
                     from market.bars order by time limit 1";
        assert_eq!(db.value(first), expected, "{times:?}");
        db.run("truncate market.bars");
    }
}

#[test]
fn times_that_could_be_several_are_refused_with_the_way_out() {
    let db = migrated("ingest_unclear_times");
    let folder = tempfile::tempdir().unwrap();
    for (times, part) in [
        (["01/02/2024", "01/03/2024", "01/04/2024"], "2024-02-01 (day-first), 2024-01-02 (month-first)"),
        (["-86400", "0", "86400"], "1969-12-31 (unix)"),
        (["93000", "93100", "93200"], "a time without its day"),
        (["01/02/24", "01/03/24", "01/04/24"], "\"01/02/24\" is not a time"),
    ] {
        let (passed, said) = load(&db, &file(folder.path(), &three(times)), &["--width", "1d"]);
        assert!(!passed && said.contains("0 rows stored, 0 known before, 3 rejected"), "{times:?}: {said}");
        let reason = db.value("select min(reason) from market.rejected_rows");
        assert!(reason.starts_with("line 2: ") && reason.contains(part), "{times:?}: {reason}");
        db.run("truncate market.rejected_rows");
        // Without the times nobody can tell the width either, and they are what is wrong.
        let (passed, said) = load(&db, &file(folder.path(), &three(times)), &[]);
        assert!(!passed && said.contains(part), "{times:?}: {said}");
    }
    assert_eq!(db.value("select count(*) from market.bars"), "0");
}

#[test]
fn files_of_spreadsheets_and_terminals_are_read_without_a_word() {
    let db = migrated("ingest_dialects");
    let folder = tempfile::tempdir().unwrap();
    for text in [
        "\u{feff}symbol;time;open;high;low;close;volume\r\nA;30.01.2024;1;2.000,5;1;1.234,5;1.500\r\nA;31.01.2024;1;2.000,5;1;1.234,5;1.500\r\n",
        "<TICKER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>\nA,20240130,000000,1,2000.5,1,1234.5,1500\nA,20240131,000000,1,2000.5,1,1234.5,1500\n",
        "\"symbol\"\t\"date\"\t\"time\"\t\"open\"\t\"high\"\t\"low\"\t\"close\"\t\"volume\"\nA\t2024.01.30\t0:00\t1\t2,000.5\t1\t1,234.5\t1,500\nA\t2024.01.31\t0:00\t1\t2,000.5\t1\t1,234.5\t1,500\n",
    ] {
        succeed(worker::of(&db).arg("load").arg(file(folder.path(), text)).arg("--strict"));
        let bars = "select string_agg(format('%s %s %s %s %s', symbol, time::date, high, close, volume), ', ' order by time) from market.bars";
        assert_eq!(
            db.value(bars),
            "A 2024-01-30 2000.5 1234.5 1500, A 2024-01-31 2000.5 1234.5 1500",
            "{text}"
        );
        db.run("truncate market.bars");
    }
}

/// A venue of Kraken's kind, all of whose trades are out.
fn kraken(runtime: &tokio::runtime::Runtime) -> Server {
    // 2023-11-13 00:00:00 UTC and every half hour after it.
    let trade = |i: i64| Trade {
        symbol: ["BTC/USD", "WBTC/USD"][usize::from(i % 2 == 1)].to_owned(),
        id: i / 2 + 1,
        micros: (1_699_833_600 + i * 1_800) * 1_000_000,
        price: format!("{}.00", 100 + i),
        size: "1.0".to_owned(),
        is_buy: true,
    };
    let venue = Venue { protocol: Protocol::Kraken, trades: (0..48).map(trade).collect(), has_quotes: false };
    let pace = Pace { trades: usize::MAX / 2, tick: Duration::from_millis(1) };
    let mut server = runtime.block_on(Server::start(venue, Faults::default(), pace)).unwrap();
    server.begin();
    runtime.block_on(server.finished());
    server
}

#[test]
fn a_pair_that_a_venue_refuses_keeps_no_other_one_back_and_files_meet_its_history() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = kraken(&runtime);
    let db = migrated("ingest_names");
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("feeds.toml");
    let text = format!(
        "[feeds.kraken]\nsymbols = ['BTC/USD', 'NONE/USD', 'WBTC/USD']\nrest_url = 'http://{}'\n",
        server.address
    );
    std::fs::write(&config, text).unwrap();
    let output = worker::of(&db)
        .arg("--config")
        .arg(&config)
        .args(["backfill", "kraken", "--from", "2023-11-13", "--to", "2023-11-14", "--width", "1h"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success(), "{said}");
    assert!(
        said.contains("48 rows stored")
            && said.contains("feed \"kraken\" refused 1 of 3 symbols: NONE/USD (EQuery:Unknown asset pair)"),
        "{said}"
    );
    // The same hour from a file, under the names of three other sources; and a day of a class of shares.
    let rows =
        ["BTC-USD", "XBT/USD", "btc_usd"].map(|name| format!("{name},2023-11-13 00:00,1,2,1,2\n")).concat();
    let text = format!(
        "symbol,time,open,high,low,close\n{rows}BRK-B,2023-11-13,1,2,1,2\nVOD.L,2023-11-13,1,2,1,2\n"
    );
    let path = file(folder.path(), &text);
    let said = succeed(worker::of(&db).arg("load").arg(&path).args(["--width", "1h"]));
    assert!(said.contains("renamed: BRK-B to BRK.B, BTC-USD to BTCUSD, XBT/USD to BTCUSD, btc_usd to BTCUSD (--symbols as-is"), "{said}");
    let symbols = "select string_agg(distinct symbol || ' ' || source, ', ' order by symbol || ' ' || source) from market.bars";
    assert_eq!(db.value(symbols), "BRK.B file, BTCUSD file, BTCUSD kraken, VOD.L file, WBTCUSD kraken");
    let shown = "select count(*) from market.bars_1h where symbol = 'BTCUSD'";
    assert_eq!(db.value(shown), "24", "the hour of the file is the venue's");
    // What the database says of a name comes first.
    db.run("update market.instrument_symbols set symbol = 'WBTCUSD' where feed = 'file' and native_symbol = 'BTC-USD'");
    succeed(
        worker::of(&db)
            .arg("load")
            .arg(file(folder.path(), "symbol,time,open,high,low,close\nBTC-USD,2023-11-13,1,2,1,2\n"))
            .args(["--width", "1d"]),
    );
    assert_eq!(db.value("select symbol from market.bars where bar_width = '1 day'"), "WBTCUSD");
    // Names stay as they are where they are told to, and from then on: a series is not cut in two.
    let pair =
        |day: &str| file(folder.path(), &format!("symbol,time,open,high,low,close\nETH-USD,{day},1,2,1,2\n"));
    succeed(worker::of(&db).arg("load").arg(pair("2023-11-13")).args([
        "--width",
        "1d",
        "--symbols",
        "as-is",
    ]));
    let said = succeed(worker::of(&db).arg("load").arg(pair("2023-11-14")).args(["--width", "1d"]));
    assert!(said.contains("the database has these instruments: ETH-USD not to ETHUSD"), "{said}");
    assert_eq!(db.value("select count(*) from market.bars where symbol = 'ETH-USD'"), "2");
    server.stop();
}

#[test]
fn a_ticker_that_was_handed_on_is_two_series() {
    let db = migrated("ingest_handed_on");
    let folder = tempfile::tempdir().unwrap();
    // A fund had the ticker, and gave it to a company that was called otherwise before.
    db.run(
        "insert into market.sources (source, kind, rank) values ('file', 'file', 50) on conflict do nothing;
         insert into market.instruments (symbol) values ('META'), ('METV');
         insert into market.instrument_symbols (feed, native_symbol, symbol, since)
         values ('file', 'META', 'METV', '-infinity'), ('file', 'META', 'META', '2022-06-09'), ('file', 'FB', 'META', '-infinity')",
    );
    let rows = ["META,2022-06-07", "META,2022-06-09", "FB,2022-06-07", "FB,2022-06-08", "META,2022-06-10"];
    let rows = rows.map(|row| format!("{row},1,2,1,2\n")).concat();
    let text = format!("symbol,time,open,high,low,close\n{rows}");
    succeed(worker::of(&db).arg("load").arg(file(folder.path(), &text)).args(["--width", "1d"]));
    let days = "select string_agg(symbol || ' ' || to_char(time at time zone 'UTC', 'DD'), ', ' order by symbol, time) from market.bars";
    assert_eq!(db.value(days), "META 07, META 08, META 09, META 10, METV 07");
    let asked = "select concat_ws(' ', market.symbol_of('file', 'META', '2022-06-08 23:59+00'), market.symbol_of('file', 'META'),
                                  market.symbol_of('file', 'FB'), coalesce(market.symbol_of('file', 'none'), '-'))";
    assert_eq!(db.value(asked), "METV META META -");
    assert_eq!(
        db.value("select count(*) from market.instrument_symbols"),
        "3",
        "what is dated is not written down anew"
    );
}

#[test]
fn what_was_refused_is_stored_once_its_cause_is_mended() {
    let db = migrated("ingest_retry");
    let folder = tempfile::tempdir().unwrap();
    db.run("alter table market.bars add constraint narrow check (close < 100)");
    let rows = [99, 100, 101].map(|close| format!("A,2024-01-{},1,200,1,{close}\n", close - 89)).concat();
    let (passed, said) =
        load(&db, &file(folder.path(), &format!("symbol,date,open,high,low,close\n{rows}")), &[]);
    assert!(passed && said.contains("1 rows stored, 0 known before, 2 rejected"), "{said}");
    // A frame that an older worker could not read, one that nobody can, and a row of a file.
    let frame = r#"{"type":"match","trade_id":5,"side":"buy","size":"1","price":"2","product_id":"BTC-USD","sequence":9,"time":"2023-11-14T22:13:20Z"}"#;
    for (feed, payload) in
        [("coinbase_exchange", frame), ("coinbase_exchange", r#"{"type":"#), ("file", "A,soon,1")]
    {
        db.run(&format!(
            "insert into market.rejected_rows (feed, received_at, reason, payload, digest)
             values ('{feed}', '2023-11-14 22:13:21+00', 'unreadable', '{payload}', sha256(convert_to('{payload}', 'UTF8')))"
        ));
    }
    let retry = || succeed(worker::of(&db).arg("retry"));
    let said = retry();
    assert!(said.starts_with("1 taken, 3 refused as before, 1 left"), "{said}");
    let trades = "select symbol || ' ' || trade_id || ' ' || extract(epoch from known_at - event_time)::int from market.trades";
    assert_eq!(db.value(trades), "BTCUSD 5 1", "known when it came");
    db.run("alter table market.bars drop constraint narrow");
    let said = retry();
    assert!(said.starts_with("2 taken, 1 refused as before, 1 left"), "{said}");
    let bars = "select string_agg(close::text, ' ' order by time) from market.bars";
    assert_eq!(db.value(bars), "99 100 101");
    assert_eq!(db.value("select count(*) from market.rejected_rows"), "2");
}
