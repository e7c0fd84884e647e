//! Everything that can happen to an engine, and sessions that go on.

use crate::cluster::{Cluster, failure, freeze, kib, signal, until, value};
use crate::model::{SMALL, install};
use kronos_tests::{Client, rows};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const ONE: &str =
    "select close from kronos_predict('bars', 4, series_col => 'symbol', only_series => '{A}', seed => 7)";
const LONG: &str =
    "select count(*) from kronos_predict('bars', 100, series_col => 'symbol', samples => 1000)";

/// How long storms go on beyond what each of them does at least.
fn storm() -> Duration {
    let seconds = std::env::var("KRONOS_STORM_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(0))
}

#[test]
fn killing_the_engine_under_load_loses_no_session() {
    let cluster = Cluster::with(&[]);
    let kills = if storm().is_zero() { 6 } else { 21 };
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
        // The last one as a defect in native code would end it. From the fourth on the supervisor takes its time.
        for kill in 1..=kills {
            let before = answered.load(Ordering::Relaxed);
            until("the load goes on", || answered.load(Ordering::Relaxed) >= before + 8);
            let engines = cluster.engines();
            assert_eq!(engines.len(), 1);
            let killed = Instant::now();
            signal(engines[0], if kill < kills { "KILL" } else { "SEGV" });
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
    assert_eq!(cluster.value("select restarts from kronos.stat_engine"), kills.to_string());
    assert_eq!(
        log.matches("engine started with process ID").count(),
        kills + 1,
        "one engine for each that died"
    );
    let (answered, refused) = (answered.into_inner(), refused.into_inner());
    println!("{kills} kills: {answered} answers, {refused} errors, next answer after at most {slowest:?}");
}

#[test]
fn after_a_kill_the_next_call_succeeds() {
    let cluster = Cluster::with(&[]);
    let mut client = cluster.connect();
    let expected = rows(&mut client, ONE);
    let engine = cluster.engine();
    signal(engine, "KILL");
    assert_eq!(rows(&mut client, ONE), expected);
    assert_ne!(cluster.engine(), engine);
}

#[test]
fn a_stopped_engine_is_replaced_under_the_call_that_waits_for_it() {
    let cluster = Cluster::with(&[("kronos.engine_timeout", "'2s'")]);
    let mut client = cluster.connect();
    let expected = rows(&mut client, ONE);
    let stopped = cluster.engine();
    freeze(stopped);
    // The request in flight when the supervisor replaces the engine succeeds on its second attempt.
    assert_eq!(rows(&mut client, ONE), expected);
    assert_ne!(cluster.engine(), stopped);
    assert!(!cluster.engines().contains(&stopped));
    assert!(cluster.log().contains("has not answered for"));
}

#[test]
fn a_request_outlives_several_engines() {
    let cluster = Cluster::with(&[]);
    let mut client = cluster.connect();
    let expected = rows(&mut client, LONG);
    let title = std::fs::read_to_string(format!("/proc/{}/cmdline", cluster.engine())).unwrap();
    assert!(title.starts_with("postgres: kronos engine"), "{title}");
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| rows(&mut client, LONG));
        let mut watch = cluster.connect();
        for _ in 0..3 {
            let mut engine = None;
            until("an engine has the request", || {
                let at_work = "select pid from kronos.stat_engine where running + queued > 0";
                engine = rows(&mut watch, at_work).first().and_then(|row| row[0].clone());
                engine.is_some()
            });
            signal(engine.unwrap().parse().unwrap(), "KILL");
        }
        assert_eq!(asked.join().unwrap(), expected);
    });
    assert_eq!(cluster.value("select restarts from kronos.stat_engine"), "3");
}

/// The engine of a request that has been at work for longer than `kronos.engine_timeout` and the grace of the session.
#[test]
fn a_request_that_took_long_is_sent_again_all_the_same() {
    let cluster = Cluster::with(&[("kronos.engine_timeout", "'500ms'")]);
    cluster.run("drop table bars");
    let names: Vec<String> = (0..200).map(|number| format!("S{number}")).collect();
    cluster.run(&kronos_tests::bars("bars", &names.iter().map(String::as_str).collect::<Vec<_>>(), 120));
    let mut client = cluster.connect();
    let session = value(&mut client, "select pg_backend_pid()");
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| failure(&mut client, LONG).unwrap());
        let mut watch = cluster.connect();
        let old =
            "select 1 from kronos.stat_activity where started_at < clock_timestamp() - interval '5.6 s'";
        until("the request has run for long", || !rows(&mut watch, old).is_empty());
        let engine = cluster.engine();
        signal(engine, "KILL");
        let again =
            format!("select 1 from kronos.stat_engine where pid <> {engine} and running + queued > 0");
        until("the next engine has the request", || !rows(&mut watch, &again).is_empty());
        rows(&mut watch, &format!("select pg_cancel_backend({session})"));
        asked.join().unwrap().is("57014", "canceling statement due to user request");
    });
}

#[test]
fn an_engine_that_nobody_replaces_is_an_error_in_the_end() {
    let cluster = Cluster::with(&[]);
    let mut client = cluster.connect();
    let expected = rows(&mut client, ONE);
    let engine = cluster.engine();
    let supervisor = cluster.supervisor(engine);
    freeze(supervisor);
    freeze(engine);
    // The least that can be set, so that the session waits little longer than its own grace of five seconds.
    rows(&mut client, "alter system set kronos.engine_timeout = '100ms'");
    rows(&mut client, "select pg_reload_conf()");
    until("the session has the setting", || value(&mut client, "show kronos.engine_timeout") == "100ms");
    // Whichever of the two times is over first ends the call.
    rows(&mut client, "set kronos.request_timeout = '300ms'");
    failure(&mut client, ONE).unwrap().is("57014", "canceling forecast after 300 ms");
    rows(&mut client, "reset kronos.request_timeout");
    let given_up = failure(&mut client, ONE).unwrap();
    given_up.is("55000", "has not responded for").hint("server log");
    let silent: u64 = given_up.message.split_whitespace().rev().nth(1).unwrap().parse().unwrap();
    assert!(silent >= 5100, "{}", given_up.message);
    signal(engine, "CONT");
    signal(supervisor, "CONT");
    assert_eq!(rows(&mut client, ONE), expected, "the session works as before");
}

#[test]
fn memory_that_the_system_refuses_is_an_error_of_the_request() {
    // Little shared memory, so that sessions need no more address space than the engine.
    let cluster = Cluster::with(&[("shared_buffers", "'1MB'")]);
    install(&cluster, "kronos-small", SMALL);
    // An engine that has had the model in memory keeps the addresses.
    cluster.control(&["restart", "-m", "fast"]);
    let mut client = cluster.connect();
    let expected = rows(&mut client, ONE);
    let session = value(&mut client, "select pg_backend_pid()").parse().unwrap();
    let space = |pid| kib(pid, "status", "VmSize:") << 10;
    // Room for what small requests allocate, none for the weights of 114 MB while they are read and packed.
    let limit = space(cluster.engine()).max(space(session)) + (64 << 20);
    cluster.control(&["stop", "-m", "fast"]);
    cluster.start_within(limit);
    let mut client = cluster.connect();
    let engine = cluster.engine();
    let load = "select kronos.load_model('kronos-small')";
    failure(&mut client, load).unwrap().is("53200", "could not allocate").hint("kronos.max_cpu_memory");
    assert_eq!(rows(&mut client, ONE), expected, "the engine serves on");
    assert_eq!(cluster.engine(), engine);
}

#[test]
fn the_log_collector_gets_what_the_service_says_and_ends_with_the_server() {
    let cluster = Cluster::with(&[
        ("logging_collector", "on"),
        ("log_directory", "'collected'"),
        ("log_filename", "'server.log'"),
    ]);
    let mut client = cluster.connect();
    let expected = rows(&mut client, ONE);
    signal(cluster.engine(), "KILL");
    assert_eq!(rows(&mut client, ONE), expected);
    let collected = cluster.home.join("data/collected/server.log");
    until("the collector has it", || {
        std::fs::read_to_string(&collected).is_ok_and(|log| log.contains("was ended by signal 9"))
    });
    cluster.control(&["stop", "-m", "fast"]);
    // The collector ends when nobody holds its pipe any more: an engine left behind would.
    until("no process is left", || cluster.processes().is_empty());
    std::fs::remove_dir_all(cluster.home.join("data/collected")).unwrap();
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
    let busy = |cluster: &Cluster| -> JoinHandle<bool> {
        let mut client = cluster.connect();
        let pid = value(&mut client, "select pg_backend_pid()");
        let call = std::thread::spawn(move || client.simple_query(LONG).is_ok());
        let mut watcher = cluster.connect();
        let running = format!("select count(*) from kronos.stat_activity where pid = {pid}");
        until("a call runs", || value(&mut watcher, &running) == "1");
        call
    };
    for mode in ["fast", "immediate"] {
        let call = busy(&cluster);
        cluster.control(&["stop", "-m", mode]);
        until("no engine is left", || cluster.engines().is_empty());
        assert!(!call.join().unwrap(), "the server did not wait for the end of a call");
        cluster.control(&["start"]);
        assert_eq!(cluster.rows(ONE).len(), 4);
    }

    // A crash of the whole server, and one in which nobody could even tidy up.
    for untidy in [false, true] {
        let call = busy(&cluster);
        let (postmaster, old) = (cluster.postmaster(), cluster.engine());
        let supervisor = cluster.supervisor(old);
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
        assert!(!call.join().unwrap());
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

/// A linear congruential generator: the same in every run.
struct Draws(u64);

impl Draws {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % limit
    }
}

/// What must hold when everybody has gone: an empty queue, no leaked slot, memory as before.
fn assert_calm(cluster: &Cluster, baseline: u64) -> u64 {
    let mut client = cluster.connect();
    until("an empty queue", || rows(&mut client, "select from kronos.stat_activity").is_empty());
    until("no leaked slot", || {
        let used = "select d.mem_used - sum(m.mem_bytes) from kronos.stat_devices d, kronos.stat_models m group by d.mem_used";
        value(&mut client, used) == "0"
    });
    // Free memory goes back to the system in the first lull.
    until("memory as before", || resident(&mut client) < baseline + (8 << 20));
    assert_eq!(value(&mut client, "select restarts from kronos.stat_engine"), "0");
    assert_eq!(rows(&mut client, ONE).len(), 4);
    resident(&mut client)
}

fn resident(client: &mut Client) -> u64 {
    value(client, "select mem_bytes from kronos.stat_engine").parse().unwrap()
}

#[test]
fn timeouts_of_many_leak_nothing_and_are_told_as_such() {
    const EACH: u32 = 25;
    let cluster = Cluster::with(&[]);
    cluster.rows(ONE);
    let until_then = Instant::now() + storm();
    let baseline = resident(&mut cluster.connect());
    let cancelled = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for number in 0..32u64 {
            let (cluster, cancelled) = (&cluster, &cancelled);
            scope.spawn(move || {
                let mut client = cluster.connect();
                let mut draws = Draws(number + 1);
                let mut timed_out = 0;
                while timed_out < EACH || Instant::now() < until_then {
                    // In the message that calls: PostgreSQL says "user request" of a statement whose timeout ends while it
                    // is still being parsed. The setting goes with the statement that fails.
                    let limited = format!("set statement_timeout = {}; {LONG}", 1 + draws.below(100));
                    if let Some(error) = failure(&mut client, &limited) {
                        error.is("57014", "statement timeout");
                        timed_out += 1;
                    }
                }
                cancelled.fetch_add(timed_out, Ordering::Relaxed);
            });
        }
    });
    let after = assert_calm(&cluster, baseline);
    println!("{} timeouts; resident {baseline} bytes before, {after} after", cancelled.into_inner());
}

#[test]
fn cancels_and_terminations_of_many_leak_nothing() {
    const CANCELS: u32 = 500;
    const TERMINATIONS: u32 = 50;
    let cluster = Cluster::with(&[]);
    cluster.rows(ONE);
    let until_then = Instant::now() + storm();
    let baseline = resident(&mut cluster.connect());
    let (cancelled, terminated) = (AtomicU32::new(0), AtomicU32::new(0));
    let over = AtomicBool::new(false);
    let pids = Mutex::new(vec![0u32; 32]);
    std::thread::scope(|scope| {
        for number in 0..32 {
            let (cluster, cancelled, terminated) = (&cluster, &cancelled, &terminated);
            let (over, pids) = (&over, &pids);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let mut client = cluster.connect();
                    let Ok(row) = client.query_one("select pg_backend_pid()", &[]) else { continue };
                    pids.lock().unwrap()[number] = u32::try_from(row.get::<_, i32>(0)).unwrap();
                    while !over.load(Ordering::Relaxed) {
                        // A server that ends a session says so, or is gone before it could.
                        match client.simple_query(LONG).map_err(|error| error.code().cloned()) {
                            Ok(_) => {}
                            Err(Some(code)) if code.code() == "57014" => {
                                cancelled.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(code) => {
                                assert!(code.is_none_or(|code| code.code() == "57P01"));
                                terminated.fetch_add(1, Ordering::Relaxed);
                                break;
                            }
                        }
                    }
                }
            });
        }
        let mut client = cluster.connect();
        let mut draws = Draws(7);
        until("enough of both", || {
            let pid = pids.lock().unwrap()[usize::try_from(draws.below(32)).unwrap()];
            let how = if draws.below(8) == 0 { "pg_terminate_backend" } else { "pg_cancel_backend" };
            // Whoever has gone meanwhile is only warned about.
            rows(&mut client, &format!("select {how}({pid}) from pg_stat_activity where pid = {pid}"));
            cancelled.load(Ordering::Relaxed) >= CANCELS
                && terminated.load(Ordering::Relaxed) >= TERMINATIONS
                && Instant::now() >= until_then
        });
        over.store(true, Ordering::Relaxed);
        // Calls that nobody struck are struck now.
        until("everybody has gone", || {
            rows(&mut client, "select pg_terminate_backend(pid) from pg_stat_activity where state = 'active' and pid <> pg_backend_pid()")
                .is_empty()
        });
    });
    let after = assert_calm(&cluster, baseline);
    let (cancelled, terminated) = (cancelled.into_inner(), terminated.into_inner());
    println!(
        "{cancelled} cancels and {terminated} terminations; resident {baseline} bytes before, {after} after"
    );
}
