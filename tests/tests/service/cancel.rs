//! A forecast can always be stopped, and what stopped it leaves the session usable.
//!
//! That a call was stopped, and did not just come to its end, is shown by an engine that answers nothing meanwhile, and by
//! the counter of calls, which counts those that were answered. The timeouts are set in the message that calls:
//! PostgreSQL forgets that it was a timeout when that ends while the statement is still being parsed.

use crate::cluster::{Cluster, failure, freeze, signal, until, value};
use kronos_tests::rows;
use postgres::error::SqlState;
use std::path::Path;

const ONE: &str =
    "select close from kronos_predict('bars', 4, series_col => 'symbol', only_series => '{A}', seed => 7)";
/// Much work in one request to the engine.
const LONG: &str = "select count(*) from kronos_predict('bars', 480, series_col => 'symbol', samples => 150, options => '{\"slide\": true}')";

/// Calls answered so far, as the session sees them.
const ANSWERED: &str = "select calls from kronos.stat_models where model_version ~ 'fixture'";

#[test]
fn a_session_can_be_stopped_while_the_engine_answers_nothing() {
    // Nobody replaces the engine or gives it up.
    let cluster = Cluster::with(&[("kronos.engine_timeout", "'1h'")]);
    let (mut client, mut doomed, mut watcher) = (cluster.connect(), cluster.connect(), cluster.connect());
    let expected = rows(&mut client, ONE);
    let pid = value(&mut client, "select pg_backend_pid()");
    let doomed_pid = value(&mut doomed, "select pg_backend_pid()");
    let engine = cluster.engine();
    freeze(engine);
    let waiting =
        |pid: &str| format!("select wait_event_type = 'Extension' from pg_stat_activity where pid = {pid}");
    std::thread::scope(|scope| {
        let call = scope.spawn(|| failure(&mut client, ONE));
        until("the session waits for the engine", || {
            call.is_finished() || value(&mut watcher, &waiting(&pid)) == "t"
        });
        rows(&mut watcher, &format!("select pg_cancel_backend({pid})"));
        call.join().unwrap().unwrap().is("57014", "canceling statement due to user request");
    });
    failure(&mut client, &format!("set statement_timeout = 100; {ONE}"))
        .unwrap()
        .is("57014", "canceling statement due to statement timeout");
    failure(&mut client, &format!("set kronos.request_timeout = 100; {ONE}"))
        .unwrap()
        .is("57014", "kronos.request_timeout");
    std::thread::scope(|scope| {
        let call = scope.spawn(|| doomed.batch_execute(ONE).unwrap_err());
        until("the session waits for the engine", || {
            call.is_finished() || value(&mut watcher, &waiting(&doomed_pid)) == "t"
        });
        rows(&mut watcher, &format!("select pg_terminate_backend({doomed_pid})"));
        // The driver may see the end of the connection before it has read why.
        let error = call.join().unwrap();
        assert!(error.is_closed() || error.code() == Some(&SqlState::ADMIN_SHUTDOWN), "{error:?}");
    });
    // Not only from the list of sessions: its connection to the engine ends with the process.
    until("the terminated session is gone", || !Path::new(&format!("/proc/{doomed_pid}")).exists());
    let left = format!("select count(*) from pg_stat_activity where pid = {doomed_pid}");
    assert_eq!(value(&mut watcher, &left), "0");
    signal(engine, "CONT");
    assert_eq!(rows(&mut client, ONE), expected, "the session works as before");
    assert_eq!(cluster.engine(), engine, "nothing happened to the engine");
    assert_eq!(value(&mut client, ANSWERED), "2", "only the first and the last call were answered");
}

#[test]
fn a_running_call_shows_its_progress_and_its_wait_and_is_cancelled_before_its_end() {
    let cluster = Cluster::with(&[]);
    let mut client = cluster.connect();
    let pid = value(&mut client, "select pg_backend_pid()");
    let mut watcher = cluster.connect();
    let activity = "select pid, usename, series, state, steps_done, steps_total from kronos.stat_activity where steps_done > 0";
    std::thread::scope(|scope| {
        let call = scope.spawn(|| failure(&mut client, LONG));
        until("progress", || call.is_finished() || !rows(&mut watcher, activity).is_empty());
        let row: Vec<String> = rows(&mut watcher, activity).concat().into_iter().flatten().collect();
        let waits = format!("select wait_event_type from pg_stat_activity where pid = {pid}");
        let waits = value(&mut watcher, &waits);
        rows(&mut watcher, &format!("select pg_cancel_backend({pid})"));
        call.join().unwrap().unwrap().is("57014", "canceling statement due to user request");
        assert_eq!(row[..4], [&pid, "postgres", "8", "running"]);
        assert!(row[4].parse::<u64>().unwrap() < row[5].parse().unwrap());
        assert_eq!(waits, "Extension");
    });
    until("the slot is free", || rows(&mut watcher, "select from kronos.stat_activity").is_empty());
    until("its memory is free", || {
        value(
            &mut watcher,
            "select d.mem_used = sum(m.mem_bytes) from kronos.stat_devices d, kronos.stat_models m group by d.mem_used",
        ) == "t"
    });
    assert_eq!(value(&mut watcher, ANSWERED), "0", "the call was given up, not done");
}

#[test]
fn inside_a_session_a_forecast_is_stopped_before_its_end() {
    let cluster = Cluster::with(&[("kronos.service", "off")]);
    let (mut client, mut watcher) = (cluster.connect(), cluster.connect());
    let expected = rows(&mut client, ONE);
    let pid = value(&mut client, "select pg_backend_pid()");
    std::thread::scope(|scope| {
        let call = scope.spawn(|| failure(&mut client, LONG));
        let waits = format!("select wait_event_type = 'Extension' from pg_stat_activity where pid = {pid}");
        until("the session waits for its thread", || {
            call.is_finished() || value(&mut watcher, &waits) == "t"
        });
        rows(&mut watcher, &format!("select pg_cancel_backend({pid})"));
        call.join().unwrap().unwrap().is("57014", "canceling statement due to user request");
    });
    failure(&mut client, &format!("set statement_timeout = 100; {LONG}"))
        .unwrap()
        .is("57014", "canceling statement due to statement timeout");
    failure(&mut client, &format!("set kronos.request_timeout = 100; {LONG}"))
        .unwrap()
        .is("57014", "kronos.request_timeout");
    assert_eq!(rows(&mut client, ONE), expected, "the session works as before");
    assert_eq!(value(&mut client, ANSWERED), "2", "only the first and the last call were answered");
    assert_eq!(value(&mut client, "select queued + running from kronos.stat_engine"), "0");
}

/// PostgreSQL delivers its signals to any thread that has them unblocked, and its handlers are for the main one alone.
#[test]
fn a_session_has_threads_only_without_the_service_as_many_as_set_and_deaf_to_signals() {
    let masks = |pid: &str| -> Vec<u64> {
        let mut masks = Vec::new();
        for thread in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
            let thread = thread.unwrap();
            if thread.file_name().to_str() == Some(pid) {
                continue;
            }
            let status = std::fs::read_to_string(thread.path().join("status")).unwrap();
            let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
            masks.push(u64::from_str_radix(blocked.trim(), 16).unwrap());
        }
        masks
    };
    {
        let cluster = Cluster::with(&[]);
        let mut client = cluster.connect();
        rows(&mut client, ONE);
        let masks = masks(&value(&mut client, "select pg_backend_pid()"));
        assert!(masks.is_empty(), "the engine is another process: {masks:x?}");
    }
    let cluster = Cluster::with(&[("kronos.service", "off")]);
    let mut client = cluster.connect();
    let pid = value(&mut client, "select pg_backend_pid()");
    assert!(masks(&pid).is_empty(), "threads before the first call");
    for threads in [1, 3] {
        rows(&mut client, &format!("set kronos.threads = {threads}; {ONE}"));
        // That of the model beside those that compute; those that loaded it, or were too many, are leaving.
        until("as many threads as set", || masks(&pid).len() == 1 + threads);
        for blocked in masks(&pid) {
            // HUP, INT, QUIT, USR1, USR2, ALRM, TERM, CHLD: what the server and its timeouts send.
            for signal in [1, 2, 3, 10, 12, 14, 15, 17] {
                assert!(blocked >> (signal - 1) & 1 == 1, "signal {signal} reaches a thread: {blocked:x}");
            }
        }
    }
}
