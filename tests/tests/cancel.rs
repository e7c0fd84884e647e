//! A forecast can always be stopped, and what stopped it leaves the connection usable.

use kronos_tests::{Database, bars, rows};
use postgres::error::SqlState;
use std::time::{Duration, Instant};

/// What a cancel may take at most, beside one decode step of the fixture model, which is far shorter.
const PROMPT: Duration = Duration::from_millis(200);

/// Signals that Postgres acts upon: INT, ALRM, TERM, USR1, as bits of the masks in /proc.
const SIGNALS: u64 = 1 << 1 | 1 << 13 | 1 << 14 | 1 << 9;

/// A call that would run for minutes.
const LONG: &str = "select count(*) from kronos_predict('bars', 400, samples => 1000)";

fn many_series(db: &Database) {
    let symbols: Vec<String> = (0..200).map(|number| format!("S{number}")).collect();
    let symbols: Vec<&str> = symbols.iter().map(String::as_str).collect();
    db.run(&bars("bars", &symbols, 120));
}

#[test]
fn a_cancelled_call_returns_at_once_and_the_next_one_works() {
    let db = Database::new("a_cancelled_call_returns");
    many_series(&db);
    let mut client = db.connect();
    let pid = rows(&mut client, "select pg_backend_pid()")[0][0].clone().unwrap();
    let mut watcher = db.connect();
    let (ended, cancelled) = std::thread::scope(|scope| {
        let call = scope.spawn(|| {
            let failure = db.error_in(&mut client, LONG);
            (Instant::now(), failure)
        });
        // The helper is at work when the backend waits for it.
        let waiting = format!("select wait_event_type from pg_stat_activity where pid = {pid}");
        while rows(&mut watcher, &waiting)[0][0].as_deref() != Some("Extension") {
            std::thread::yield_now();
        }
        let cancelled = Instant::now();
        rows(&mut watcher, &format!("select pg_cancel_backend({pid})"));
        let (ended, failure) = call.join().unwrap();
        failure.is("57014", "canceling statement due to user request");
        (ended, cancelled)
    });
    assert!(ended - cancelled < PROMPT, "{:?}", ended - cancelled);
    let started = Instant::now();
    assert_eq!(rows(&mut client, "select * from kronos_predict('bars', 1, only_series => '{S1}')").len(), 1);
    assert!(started.elapsed() < Duration::from_secs(5), "the cancelled work still runs");
}

#[test]
fn statement_timeout_holds() {
    let db = Database::new("statement_timeout_holds");
    many_series(&db);
    let mut client = db.connect();
    rows(&mut client, "select kronos.load_model('kronos-default'); set statement_timeout = 300");
    let started = Instant::now();
    db.error_in(&mut client, LONG).is("57014", "canceling statement due to statement timeout");
    assert!(started.elapsed() < Duration::from_millis(300) + PROMPT, "{:?}", started.elapsed());
}

#[test]
fn request_timeout_holds() {
    let db = Database::new("request_timeout_holds");
    many_series(&db);
    let mut client = db.connect();
    rows(&mut client, "select kronos.load_model('kronos-default'); set kronos.request_timeout = 300");
    let started = Instant::now();
    db.error_in(&mut client, LONG).is("57014", "kronos.request_timeout");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

#[test]
fn a_terminated_backend_leaves_the_server_alone() {
    let db = Database::new("a_terminated_backend");
    many_series(&db);
    let mut client = db.connect();
    let pid = rows(&mut client, "select pg_backend_pid()")[0][0].clone().unwrap();
    let mut watcher = db.connect();
    std::thread::scope(|scope| {
        let call = scope.spawn(|| client.batch_execute(LONG).unwrap_err());
        let waiting = format!("select wait_event_type from pg_stat_activity where pid = {pid}");
        while rows(&mut watcher, &waiting)[0][0].as_deref() != Some("Extension") {
            std::thread::yield_now();
        }
        rows(&mut watcher, &format!("select pg_terminate_backend({pid}, 5000)"));
        // The driver may see the end of the connection before it has read why.
        let error = call.join().unwrap();
        assert!(error.is_closed() || error.code() == Some(&SqlState::ADMIN_SHUTDOWN), "{error:?}");
    });
    // A crash would have ended this session too.
    let left = format!("select count(*) from pg_stat_activity where pid = {pid}");
    assert_eq!(rows(&mut watcher, &left)[0][0].as_deref(), Some("0"));
}

#[test]
fn threads_are_as_many_as_set_and_leave_signals_to_the_backend() {
    let db = Database::new("threads_are_as_many");
    many_series(&db);
    let mut client = db.connect();
    let pid = rows(&mut client, "select pg_backend_pid()")[0][0].clone().unwrap();
    let masks = || -> Vec<u64> {
        let mut masks = Vec::new();
        for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
            let task = task.unwrap();
            if task.file_name().to_str() == Some(&pid) {
                continue;
            }
            let status = std::fs::read_to_string(task.path().join("status")).unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
            masks.push(u64::from_str_radix(line.trim(), 16).unwrap());
        }
        masks
    };
    assert!(masks().is_empty(), "threads before the first call");
    if db.value("show kronos.service") == "on" {
        rows(&mut client, "select * from kronos_predict('bars', 2, samples => 2)");
        assert!(
            masks().is_empty(),
            "the engine is another process, so a session has no thread beside its own"
        );
        return;
    }
    for threads in [1, 3] {
        rows(
            &mut client,
            &format!("set kronos.threads = {threads}; select * from kronos_predict('bars', 2, samples => 2)"),
        );
        let masks = masks();
        // The helper beside its pool.
        assert_eq!(masks.len(), 1 + threads, "{masks:x?}");
        assert!(masks.iter().all(|mask| mask & SIGNALS == SIGNALS), "{masks:x?}");
    }
}
