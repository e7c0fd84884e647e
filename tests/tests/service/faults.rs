//! Everything that can happen to an engine, and sessions that go on.

use crate::cluster::{Cluster, failure, kib, signal, until, value};
use kronos_tests::{Client, rows};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

const ONE: &str =
    "select close from kronos_predict('bars', 4, series_col => 'symbol', only_series => '{A}', seed => 7)";
const LONG: &str =
    "select count(*) from kronos_predict('bars', 100, series_col => 'symbol', samples => 1000)";

fn storm() -> Duration {
    let seconds = std::env::var("KRONOS_STORM_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(5))
}

#[test]
fn killing_the_engine_under_load_loses_no_session() {
    let cluster = Cluster::with(&[]);
    let expected = cluster.rows(ONE);
    let stop = AtomicBool::new(false);
    let (answered, refused) = (AtomicU32::new(0), AtomicU32::new(0));
    let slowest = std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = cluster.connect();
                while !stop.load(Ordering::Relaxed) {
                    match failure(&mut client, ONE) {
                        None => answered.fetch_add(1, Ordering::Relaxed),
                        Some(error) => {
                            error.is("XX000", "the engine that runs models failed");
                            refused.fetch_add(1, Ordering::Relaxed)
                        }
                    };
                }
                assert_eq!(rows(&mut client, ONE), expected, "the session works as before");
            });
        }
        let mut client = cluster.connect();
        let mut slowest = Duration::ZERO;
        for kill in 1..=20 {
            let before = answered.load(Ordering::Relaxed);
            until("the load goes on", || answered.load(Ordering::Relaxed) >= before + 8);
            let engines = cluster.engines();
            assert_eq!(engines.len(), 1);
            signal(engines[0], if kill % 2 == 0 { "KILL" } else { "SEGV" });
            let killed = Instant::now();
            until("the next engine", || cluster.engines().iter().any(|pid| *pid != engines[0]));
            rows(&mut client, ONE);
            slowest = slowest.max(killed.elapsed());
        }
        stop.store(true, Ordering::Relaxed);
        slowest
    });
    let log = cluster.log();
    assert!(!log.contains("terminating any other active server processes"), "no session was restarted");
    assert!(log.contains("was ended by signal 9") && log.contains("was ended by signal 11"));
    assert_eq!(cluster.value("select restarts from kronos.stat_engine"), "20");
    let (answered, refused) = (answered.into_inner(), refused.into_inner());
    println!("20 kills: {answered} answers, {refused} errors, next answer after at most {slowest:?}");
}

#[test]
fn after_a_kill_the_next_call_succeeds_within_two_seconds() {
    let cluster = Cluster::with(&[]);
    let mut client = cluster.connect();
    rows(&mut client, ONE);
    signal(cluster.engine(), "KILL");
    let killed = Instant::now();
    rows(&mut client, ONE);
    assert!(killed.elapsed() < Duration::from_secs(2), "{:?}", killed.elapsed());
}

#[test]
fn a_stopped_engine_times_out_clearly_and_is_replaced() {
    let cluster = Cluster::with(&[("kronos.engine_timeout", "'4s'")]);
    let mut client = cluster.connect();
    rows(&mut client, ONE);
    let stopped = cluster.engine();
    signal(stopped, "STOP");
    rows(&mut client, "set kronos.request_timeout = '300ms'");
    failure(&mut client, ONE).unwrap().is("57014", "kronos.request_timeout");
    rows(&mut client, "set kronos.request_timeout = 0; set statement_timeout = '300ms'");
    let asked = Instant::now();
    failure(&mut client, ONE).unwrap().is("57014", "statement timeout");
    assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());
    rows(&mut client, "set statement_timeout = 0");
    // The request in flight when the supervisor replaces the engine succeeds on its second attempt.
    rows(&mut client, ONE);
    assert_ne!(cluster.engine(), stopped);
    assert!(cluster.log().contains("has not answered for"));
}

#[test]
fn model_files_may_change_while_the_model_is_loaded() {
    let cluster = Cluster::with(&[]);
    let mut client = cluster.connect();
    let expected = rows(&mut client, ONE);
    let weights = cluster.home.join("models/kronos-fixture/predictor/model.safetensors");
    let kept = std::fs::read(&weights).unwrap();
    let write = |bytes: &[u8]| std::fs::write(&weights, bytes).unwrap();

    std::fs::remove_file(&weights).unwrap();
    assert_eq!(rows(&mut client, ONE), expected, "the loaded copy answers");
    rows(&mut client, "select kronos.unload_model('kronos-default')");
    failure(&mut client, ONE).unwrap().is("58P01", "model.safetensors").hint("sha256");
    let mut changed = kept.clone();
    *changed.last_mut().unwrap() ^= 1;
    write(&changed);
    failure(&mut client, ONE).unwrap().is("XX001", "does not match its checksum");
    assert_eq!(
        value(&mut client, "select state from kronos.stat_models where model_version ~ 'fixture'"),
        "failed"
    );
    write(&kept[..kept.len() / 2]);
    failure(&mut client, ONE).unwrap().is("XX001", "does not match its checksum");
    write(&kept);
    assert_eq!(rows(&mut client, ONE), expected);
    // Truncated in place while loaded: nothing is mapped, so nothing can fault.
    write(&[]);
    assert_eq!(rows(&mut client, ONE), expected);
    write(&kept);
    assert_eq!(value(&mut client, "select restarts from kronos.stat_engine"), "0");
}

#[test]
fn no_engine_outlives_its_server() {
    let cluster = Cluster::with(&[]);
    let busy = |cluster: &Cluster| -> Client {
        let mut client = cluster.connect();
        let pid = value(&mut client, "select pg_backend_pid()");
        // Ends with the server, by an error of the connection.
        std::thread::spawn(move || client.simple_query(LONG).is_ok());
        let mut watcher = cluster.connect();
        let running = format!("select count(*) from kronos.stat_activity where pid = {pid}");
        until("a call runs", || value(&mut watcher, &running) == "1");
        watcher
    };
    for mode in ["fast", "immediate"] {
        let _watcher = busy(&cluster);
        let asked = Instant::now();
        cluster.control(&["stop", "-m", mode]);
        println!("{mode} stop took {:?}", asked.elapsed());
        assert!(asked.elapsed() < Duration::from_secs(2), "{mode}: {:?}", asked.elapsed());
        until("no engine is left", || cluster.engines().is_empty());
        cluster.control(&["start"]);
        assert_eq!(cluster.rows(ONE).len(), 4);
    }

    // A crash of the whole server, and one in which nobody could even tidy up.
    for untidy in [false, true] {
        let _watcher = busy(&cluster);
        let (postmaster, old) = (cluster.postmaster(), cluster.engine());
        let supervisor = u32::try_from(kib(old, "status", "PPid:")).unwrap();
        if untidy {
            signal(supervisor, "STOP");
        }
        signal(postmaster, "KILL");
        if untidy {
            signal(supervisor, "KILL");
        }
        until("no engine is left", || cluster.engines().is_empty());
        let socket = cluster.home.join("data/kronos.sock");
        if untidy {
            assert!(socket.exists(), "a stale socket was left");
        } else {
            until("no socket is left", || !socket.exists());
        }
        start_again(&cluster);
        assert_eq!(cluster.rows(ONE).len(), 4);
        assert_ne!(cluster.engine(), old);
        assert_eq!(cluster.engines().len(), 1);
    }
}

/// Starts a server that was killed, as soon as its last process has gone.
fn start_again(cluster: &Cluster) {
    until("the server starts again", || {
        let mut start = cluster.program("pg_ctl");
        let quiet = std::process::Stdio::null;
        start.args(["-D", "data", "-l", "data/server.log", "-w", "start"]).stdout(quiet()).stderr(quiet());
        start.status().unwrap().success()
    });
}

#[test]
fn a_crash_of_a_session_restarts_the_service_too() {
    let cluster = Cluster::with(&[]);
    let mut client = cluster.connect();
    rows(&mut client, ONE);
    let engine = cluster.engine();
    signal(value(&mut client, "select pg_backend_pid()").parse().unwrap(), "SEGV");
    until("the old engine is gone", || !cluster.engines().contains(&engine));
    until("the server recovers", || {
        cluster.try_connect().is_ok_and(|mut client| failure(&mut client, ONE).is_none())
    });
    assert_eq!(cluster.engines().len(), 1);
}

#[test]
fn a_log_that_cannot_be_written_stops_nobody() {
    let cluster = Cluster::with(&[]);
    cluster.control(&["stop", "-m", "fast"]);
    cluster.control_with_log(&["start"], "/dev/full");
    let mut client = cluster.connect();
    let expected = rows(&mut client, ONE);
    for _ in 0..3 {
        signal(cluster.engine(), "KILL");
        assert_eq!(rows(&mut client, ONE), expected);
    }
}

#[test]
fn cancel_storms_leak_nothing() {
    let cluster = Cluster::with(&[]);
    cluster.rows(ONE);
    let until_then = Instant::now() + storm();
    let baseline = cluster.value("select mem_bytes from kronos.stat_engine").parse::<u64>().unwrap();
    let cancelled = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for number in 0..32u64 {
            let (cluster, cancelled) = (&cluster, &cancelled);
            scope.spawn(move || {
                let mut client = cluster.connect();
                let mut state = number + 1;
                while Instant::now() < until_then {
                    // A linear congruential generator: 1 to 100 ms, the same in every run.
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    // The statement itself runs under the timeout before it.
                    let timeout = format!("set statement_timeout = {}", 1 + (state >> 33) % 100);
                    until("a timeout is set", || failure(&mut client, &timeout).is_none());
                    if let Some(error) = failure(&mut client, LONG) {
                        error.is("57014", "statement timeout");
                        cancelled.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let mut client = cluster.connect();
    until("an empty queue", || rows(&mut client, "select from kronos.stat_activity").is_empty());
    until("no leaked slot", || {
        let used = "select d.mem_used - sum(m.mem_bytes) from kronos.stat_devices d, kronos.stat_models m group by d.mem_used";
        value(&mut client, used) == "0"
    });
    let resident = |client: &mut Client| {
        value(client, "select mem_bytes from kronos.stat_engine").parse::<u64>().unwrap()
    };
    // Free memory goes back to the system in the first lull.
    until("memory as before", || resident(&mut client) < baseline + (8 << 20));
    let after = resident(&mut client);
    let cancelled = cancelled.into_inner();
    println!("{cancelled} cancelled in {:?}; resident {baseline} bytes before, {after} after", storm());
    assert!(cancelled > 32, "the storm was a breeze: {cancelled}");
    assert_eq!(value(&mut client, "select restarts from kronos.stat_engine"), "0");
    assert_eq!(rows(&mut client, ONE).len(), 4);
}
