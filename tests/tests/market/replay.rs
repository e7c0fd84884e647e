//! Polled sources over real sockets: one command fills an empty database, whatever the vendors do and however often it is killed.

use kronos_tests::worker::{self, migrated, succeed};
use kronos_tests::{Database, Running};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const SYMBOLS: usize = 6;

/// An invented reply of the vendor whose path it is.
fn reply(target: &str) -> String {
    let path = target.split('?').next().unwrap_or_default();
    let asked =
        |name: &str| target.split(['?', '&']).find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    let symbol = asked("symbol").unwrap_or_default();
    match path {
        "/income-statement" if asked("period") == Some("quarter") => {
            let quarter = |n: usize| {
                format!(
                    r#"{{"symbol":"{symbol}","date":"2023-{:02}-28","period":"Q{n}","acceptedDate":"2023-{:02}-03 16:30:41","revenue":"{n}.50"}}"#,
                    3 * n - 2,
                    3 * n
                )
            };
            format!("[{}]", [3, 2, 1].map(quarter).join(","))
        }
        "/grades" => format!(
            r#"[{{"symbol":"{symbol}","date":"2023-11-01","gradingCompany":"A","newGrade":"Buy"}},{{"symbol":"{symbol}","date":"2023-10-02","gradingCompany":"B","newGrade":"Hold"}}]"#
        ),
        "/historical-price-eod/full" => {
            let (from, to) = (asked("from").unwrap_or_default(), asked("to").unwrap_or_default());
            let days = ["2023-11-10", "2023-11-13", "2023-11-14"].into_iter().filter(|day| (from..=to).contains(day));
            let bars: Vec<_> = days
                .map(|day| format!(r#"{{"symbol":"{symbol}","date":"{day}","open":1,"high":3,"low":1,"close":2,"volume":10}}"#))
                .collect();
            format!("[{}]", bars.join(","))
        }
        "/fred/series/observations" => r#"{"observations":[
            {"realtime_start":"2023-09-13","realtime_end":"2023-10-31","date":"2023-08-01","value":"306.2"},
            {"realtime_start":"2023-11-01","realtime_end":"9999-12-31","date":"2023-08-01","value":"306.3"},
            {"realtime_start":"2023-10-12","realtime_end":"9999-12-31","date":"2023-09-01","value":"."}]}"#
            .to_owned(),
        "/fred/releases/dates" => {
            r#"{"release_dates":[{"release_id":10,"release_name":"CPI","date":"2023-11-14"}]}"#.to_owned()
        }
        "/v1beta1/news" if asked("page_token").is_none() => {
            r#"{"news":[{"id":1,"headline":"one","created_at":"2023-11-14T10:00:00Z","updated_at":"2023-11-14T10:00:00Z","symbols":["S1","S2"]}],"next_page_token":"two"}"#
                .to_owned()
        }
        "/v1beta1/news" => {
            r#"{"news":[{"id":2,"headline":"two","created_at":"2023-11-14T11:00:00Z","updated_at":"2023-11-14T12:00:00Z","symbols":["S3"]}],"next_page_token":null}"#
                .to_owned()
        }
        _ => "[]".to_owned(),
    }
}

/// What a vendor does instead of answering, one after the other.
fn fault(number: usize, whole: &str) -> String {
    let answer = |head: &str, body: &str| {
        format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
    };
    match number % 6 {
        0 => answer("429 Too Many Requests\r\nRetry-After: 0", "slow down"),
        1 => answer("500 Internal Server Error", "oops"),
        2 => answer("200 OK\r\nContent-Type: text/html", "<html>maintenance</html>"),
        3 => answer("200 OK\r\nContent-Type: application/json", &whole[..whole.len() / 2]),
        // The connection ends amid the body.
        4 => {
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n[", whole.len() + 100)
        }
        _ => answer("429 Too Many Requests", "slow down"),
    }
}

/// What a vendor does beside answering.
#[derive(Clone, Copy, Default)]
struct Faults {
    /// Every so many questions one meets a fault.
    every: Option<usize>,
    /// Paths on which the account is refused.
    refused: Option<&'static str>,
}

/// A server of invented replies until the test ends.
fn vendor(faults: Faults) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let count = Arc::new(AtomicUsize::new(1));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let count = Arc::clone(&count);
            std::thread::spawn(move || serve(stream, &count, faults));
        }
    });
    address
}

fn serve(mut stream: TcpStream, count: &AtomicUsize, faults: Faults) {
    let mut asked = Vec::new();
    while !asked.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk) {
            Ok(read) if read > 0 => asked.extend_from_slice(&chunk[..read]),
            _ => return,
        }
    }
    let asked = String::from_utf8_lossy(&asked);
    let target = asked.split(' ').nth(1).unwrap_or("/");
    let body = reply(target);
    let number = count.fetch_add(1, Ordering::Relaxed);
    let answer = match faults.every {
        _ if faults.refused.is_some_and(|path| target.starts_with(path)) => {
            "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned()
        }
        Some(every) if number.is_multiple_of(every) => fault(number / every, &body),
        _ => format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ),
    };
    // In two parts, as slow ones do. Who was killed does not take it.
    let (first, second) = answer.split_at(answer.len() / 2);
    drop(stream.write_all(first.as_bytes()).and_then(|()| stream.flush()));
    drop(stream.write_all(second.as_bytes()));
}

fn configuration(folder: &Path, address: &str) -> PathBuf {
    let symbols: Vec<_> = (1..=SYMBOLS).map(|i| format!("'S{i}'")).collect();
    let symbols = symbols.join(", ");
    let path = folder.join("feeds.toml");
    let text = format!(
        "[metrics]\nenabled = false\n[sink]\nmax_rows = 5\nmax_delay_ms = 5\n\
         [feeds.fmp]\nsymbols = [{symbols}]\nplan = 'ultimate'\nrest_url = 'http://{address}'\n\
         [feeds.fred]\nsymbols = ['CPIAUCSL']\nrest_url = 'http://{address}'\n\
         [feeds.alpaca_news]\nsymbols = [{symbols}]\nrest_url = 'http://{address}'\n"
    );
    std::fs::write(&path, text).unwrap();
    path
}

/// The command that reads everything, with keys that nobody checks.
fn backfill(db: &Database, configuration: &Path) -> std::process::Command {
    let mut command = worker::of(db);
    command.arg("--config").arg(configuration).arg("backfill");
    for key in ["FMP_API_KEY", "FRED_API_KEY", "APCA_API_KEY_ID", "APCA_API_SECRET_KEY"] {
        command.env(key, "invented-key");
    }
    command
}

/// Every version of every document with the time from which it was known, and every bar.
fn facts(db: &Database) -> Vec<Vec<Option<String>>> {
    db.rows(
        "select source, kind, key, symbol, payload::text, known_at from market.documents
         union all
         select source, 'bar', symbol, symbol, jsonb_build_array(time, open, high, low, close, volume)::text, known_at from market.bars
         order by 1, 2, 3, 6, 5",
    )
}

#[test]
fn a_list_of_everybody_names_each_as_it_was_called_then() {
    let db = migrated("replay_names");
    let folder = tempfile::tempdir().unwrap();
    // In 2023 the ticker was another company's.
    for feed in ["alpaca_news", "fmp"] {
        db.run(&format!(
            "insert into market.sources (source, kind, rank) values ('{feed}', 'vendor', 40) on conflict do nothing;
             insert into market.instruments (symbol) values ('S3'), ('OLD') on conflict do nothing;
             insert into market.instrument_symbols (feed, native_symbol, symbol, since)
             values ('{feed}', 'S3', 'OLD', '-infinity'), ('{feed}', 'S3', 'S3', '2024-01-01')"
        ));
    }
    succeed(&mut backfill(&db, &configuration(folder.path(), &vendor(Faults::default()))));
    let named = |source: &str| {
        db.value(&format!("select string_agg(distinct symbol, ' ' order by symbol) from market.documents where source = '{source}'"))
    };
    assert_eq!(named("alpaca_news"), "OLD S1 S2");
    assert_eq!(named("fmp"), "S1 S2 S3 S4 S5 S6", "whom a question is about is known");
}

#[test]
fn what_is_read_of_one_name_is_left_to_be_read_of_the_others_and_a_refused_vendor_stops_alone() {
    let db = migrated("replay_parts");
    let folder = tempfile::tempdir().unwrap();
    let path = configuration(folder.path(), &vendor(Faults::default()));
    let said = succeed(backfill(&db, &path).args(["fmp", "S2"]));
    assert!(said.contains("given up"), "{said}");
    let read = "select concat_ws(' ', string_agg(distinct c.symbol, ' ' order by c.symbol),
                                 (select string_agg(distinct d.symbol, ' ' order by d.symbol) from market.documents d))
                from market.feed_cursors c where c.feed = 'fmp'";
    assert_eq!(
        db.value(read),
        "S2 S2",
        "calendars are of everybody: read for one name they would count as read for all"
    );
    let refused = vendor(Faults { refused: Some("/fred"), ..Faults::default() });
    let output = backfill(&db, &configuration(folder.path(), &refused)).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success() && said.contains("fred") && said.contains("401"), "{said}");
    assert!(said.contains("alpaca_news: 1 questions answered"), "{said}");
    assert_eq!(db.value(read), "* S1 S2 S3 S4 S5 S6 S1 S2 S3 S4 S5 S6");
}

#[test]
fn one_command_fills_an_empty_database_whatever_vendors_do_and_however_often_it_is_killed() {
    let clean = migrated("replay_clean");
    let folder = tempfile::tempdir().unwrap();
    let said = succeed(&mut backfill(&clean, &configuration(folder.path(), &vendor(Faults::default()))));
    assert!(said.contains("fred: 2 questions answered, 0 not in the plan, 0 given up"), "{said}");
    assert!(said.contains("alpaca_news: 1 questions answered"), "{said}");
    // Of six names three statements and two grades each; three vintages, a release, three pieces of news.
    let counts = "select concat_ws(' ', count(*), count(*) filter (where source = 'fmp'), (select count(*) from market.bars)) from market.documents";
    assert_eq!(clean.value(counts), format!("{} {} {}", 5 * SYMBOLS + 7, 5 * SYMBOLS, 3 * SYMBOLS));
    let expected = facts(&clean);

    let db = migrated("replay_killed");
    let path = configuration(folder.path(), &vendor(Faults { every: Some(4), ..Faults::default() }));
    for kill in 1..=5 {
        let child = backfill(&db, &path).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let child = Running(child);
        let fatal = kill * expected.len() / 7;
        worker::wait_for(
            &db,
            &format!(
                "select (select count(*) from market.documents) + (select count(*) from market.bars) > {fatal}"
            ),
            "t",
        );
        drop(child);
    }
    // What was given up is read by the next call.
    let is_read = (0..4).any(|_| backfill(&db, &path).output().unwrap().status.success());
    assert!(is_read && facts(&db) == expected);
    assert_ne!(
        db.value("select count(*) from market.rejected_rows"),
        "0",
        "what nobody could read is kept with the reason"
    );
}
