//! Credentials of the worker: a vendor that repeats what it was asked, in every kind of answer, gets them into nothing that is kept or shown.

use kronos_tests::worker::{self, migrated};
use kronos_tests::{Cluster, Database, Running, rows, until};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What every credential contains. The rest has signs that are written otherwise in addresses, forms and JSON.
const CANARY: &str = "KANARI";

const VARIABLES: [&str; 10] = [
    "APCA_API_KEY_ID",
    "APCA_API_SECRET_KEY",
    "CAPITOLTRADES_TOKEN",
    "FMP_API_KEY",
    "FRED_API_KEY",
    "PGPASSWORD",
    "QUIVER_API_KEY",
    "STOCKTWITS_TOKEN",
    "TRUTHSOCIAL_TOKEN",
    "VLLM_API_KEY",
];

fn with_secrets(mut command: Command) -> Command {
    for (i, variable) in VARIABLES.iter().enumerate() {
        command.env(variable, format!("{CANARY}-{i}+a/b=c'd-0123456789"));
    }
    command
}

/// Answers of a vendor that tells everything it was told: an error of each status, a page of HTML in which the quotation is cut, a list whose items
/// quote, and where to go on.
fn answer(number: usize, asked: &str) -> String {
    let quoted = serde_json::Value::from(asked).to_string();
    let (status, kind, body) = match number % 12 {
        0 => ("500 Oops", "application/json", format!(r#"{{"error":{quoted}}}"#)),
        1 => ("404 Not Found", "text/plain", asked.to_owned()),
        2 => ("429 Slow Down", "application/json", format!(r#"{{"message":{quoted}}}"#)),
        3 => ("302 Found", "text/plain", asked.to_owned()),
        4 => ("200 OK", "text/html", format!("<p>{}{asked}", "x".repeat(120))),
        5 => ("200 OK", "application/json", format!(r#"{{"Error Message":{quoted}}}"#)),
        6 => (
            "200 OK",
            "application/json",
            format!(r#"[{{"id":1,"date":"2026-11-20","symbol":"AAPL","url":{quoted}}}]"#),
        ),
        7 => ("200 OK", "application/json", format!(r#"[{quoted},{{"nothing":{quoted}}}]"#)),
        8 => (
            "200 OK",
            "application/json",
            format!(
                r#"{{"messages":[{{"id":1,"body":{quoted}}}],"news":[{{"id":1,"headline":{quoted},"symbols":["AAPL"]}}],"observations":[{{"date":"2026-11-20","realtime_start":"2026-11-20","value":{quoted}}}],"next_page_token":{quoted}}}"#
            ),
        ),
        9 => ("402 Pay", "text/plain", asked.to_owned()),
        10 => ("503 Later", "text/plain", format!("{}{asked}", "x".repeat(150))),
        // Not JSON at all.
        _ => ("200 OK", "application/json", format!("{{{asked}")),
    };
    let target = asked.split(' ').nth(1).unwrap_or("/");
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nLocation: http://127.0.0.1:9{target}\r\nX-Echo: {target}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// A server of such answers, until the test ends; its address, and how often it was asked.
fn echo() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            serve(stream, &counted);
        }
    });
    (address, count)
}

fn serve(mut stream: TcpStream, count: &AtomicUsize) {
    let mut asked = Vec::new();
    while !asked.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk) {
            Ok(read) if read > 0 => asked.extend_from_slice(&chunk[..read]),
            _ => return,
        }
    }
    let number = count.fetch_add(1, Ordering::Relaxed);
    drop(stream.write_all(answer(number, &String::from_utf8_lossy(&asked)).as_bytes()));
}

/// The feeds that are polled, of all that the example offers.
fn polled() -> Vec<String> {
    let example = kronos_tests::project_root().join("ingest-worker/kronos-ingest.example.toml");
    let program = kronos_tests::project_root().join("target/release/kronos-ingest");
    let plan = worker::succeed(Command::new(program).args(["--config", example.to_str().unwrap(), "plan"]));
    // Lines that are indented are about the one before.
    let named = |line: &str| Some(line.split_once(", ")?.0.to_owned()).filter(|_| !line.starts_with(' '));
    let mut feeds: Vec<String> = plan.lines().skip(1).filter_map(named).collect();
    feeds.dedup();
    assert!(feeds.len() > 5, "{plan}");
    feeds
}

/// Every feed that is polled, about several symbols.
fn configuration(folder: &Path, address: &str) -> std::path::PathBuf {
    let mut text = "[metrics]\nlisten = '127.0.0.1:0'\n[sink]\nmax_delay_ms = 20\n".to_owned();
    for feed in polled() {
        text.push_str(&format!(
            "[feeds.{feed}]\nenabled = true\nsymbols = ['AAPL', 'MSFT', 'SPY']\nrest_url = 'http://{address}'\n"
        ));
    }
    text = text.replace("[feeds.fmp]", "[feeds.fmp]\nplan = 'ultimate'");
    // For its history.
    text.push_str(&format!(
        "[feeds.alpaca]\nenabled = false\nsymbols = ['SPY']\nrest_url = 'http://{address}'\n"
    ));
    let path = folder.join("feeds.toml");
    std::fs::write(&path, text).unwrap();
    path
}

/// Every row of every table of the market that contains the canary.
fn kept(db: &Database) -> Vec<String> {
    let mut client = db.connect();
    let tables = "select c.oid::regclass::text from pg_class c where c.relkind in ('r', 'p', 'm') and c.relnamespace = 'market'::regnamespace";
    let tables: Vec<String> = rows(&mut client, tables).into_iter().flatten().flatten().collect();
    assert!(tables.len() > 20);
    let found = |table: &String| {
        let sql = format!(
            "select '{table} ' || left(t::text, 300) from {table} t where t::text ilike '%{CANARY}%'"
        );
        rows(&mut client, &sql).into_iter().flatten().flatten().collect::<Vec<_>>()
    };
    tables.iter().flat_map(found).collect()
}

fn scrape(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    page
}

#[track_caller]
fn assert_silent(what: &str, text: &str) {
    let at = text.to_uppercase().find(CANARY);
    assert!(
        at.is_none(),
        "{what}: {}",
        at.map_or("", |at| &text[at.saturating_sub(300)..(at + 60).min(text.len())])
    );
}

#[test]
fn what_a_vendor_repeats_is_neither_kept_nor_shown() {
    let db = migrated("secrets");
    let folder = tempfile::tempdir().unwrap();
    let (address, count) = echo();
    let configuration = configuration(folder.path(), &address);
    let log = folder.path().join("log");
    let connection = format!("{} password='{CANARY}-pg'", Cluster::get().connection_string(db.name()));
    let command = |arguments: &[&str]| {
        let mut command = with_secrets(worker::at(&connection));
        command.args(["--config", configuration.to_str().unwrap()]).args(arguments).env("RUST_LOG", "trace");
        command
    };
    let file = std::fs::File::create(&log).unwrap();
    let running = command(&["run"]).stdout(Stdio::null()).stderr(file).spawn().unwrap();
    let running = Running(running);
    // Each of the answers has come to several feeds: those of FMP alone are 25 endpoints of three symbols.
    until("the vendor has answered often", || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        count.load(Ordering::Relaxed) > 60
    });
    let process = format!("/proc/{}", running.0.id());
    assert_silent("the list of processes", &std::fs::read_to_string(format!("{process}/cmdline")).unwrap());
    let page = scrape(worker::listening_port(&running.0));
    assert!(page.contains("kronos_ingest_requests_total"), "{page}");
    assert_silent("metrics", &page);
    worker::terminate(running);
    let told = std::fs::read_to_string(&log).unwrap();
    assert!(
        told.contains("TRACE") && told.contains("question failed") && told.contains("(secret)"),
        "{told}"
    );
    assert_silent("the log", &told);
    let refused = "select count(*) > 0 from market.rejected_rows where payload like '%(secret)%'";
    assert_eq!(db.value(refused), "t", "what was quoted is kept without the key");
    let documents = "select count(*) > 0 from market.documents where payload::text like '%(secret)%'";
    assert_eq!(db.value(documents), "t");
    let kept = kept(&db);
    assert!(kept.is_empty(), "{kept:#?}");

    for arguments in [
        &["check"][..],
        &["status"],
        &["plan", "--endpoints"],
        &["retry"],
        &["backfill", "alpaca", "SPY", "--from", "2026-11-01", "--width", "1d"],
        &["--help"],
    ] {
        // Some fail, and say why.
        for _ in 0..3 {
            let output = command(arguments).output().unwrap();
            let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            assert!(!told.is_empty());
            assert_silent(&arguments.join(" "), &told);
        }
    }
    let kept = self::kept(&db);
    assert!(kept.is_empty(), "{kept:#?}");
}
