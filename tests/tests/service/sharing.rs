//! One engine: one copy of a model, shared batches, bounded queue and memory, what the views show.

use crate::cluster::{Cluster, failure, kib, until, value};
use crate::model::{MINI, SMALL, install, install_chronos};
use kronos_tests::rows;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::time::Duration;

const ONE: &str =
    "select close from kronos_predict('bars', 4, series_col => 'symbol', only_series => '{A}', seed => 7)";
const LONG: &str = "select count(*) from kronos_predict('bars', 400, series_col => 'symbol', samples => 100, options => '{\"slide\": true}')";

#[test]
fn a_hundred_connections_share_one_copy() {
    let cluster = Cluster::with(&[]);
    install(&cluster, "kronos-mini", MINI);
    let ask = format!(
        "{}; select mem_bytes from kronos.stat_engine",
        ONE.replace("seed", "model => 'kronos-mini', samples => 1, seed")
    );
    let mut clients = vec![cluster.connect()];
    // The first calls fill the heaps; a few more show what one connection takes for good.
    for _ in 0..20 {
        rows(&mut clients[0], &ask);
    }
    let alone: f64 = value(&mut clients[0], &ask).parse().unwrap();
    while clients.len() < 100 {
        let mut client = cluster.connect();
        rows(&mut client, &ask);
        clients.push(client);
    }
    assert!(
        value(&mut clients[0], "select connections from kronos.stat_engine").parse::<u32>().unwrap() >= 100
    );
    let shared: f64 = value(&mut clients[0], &ask).parse().unwrap();
    assert!(shared < alone * 1.05, "{alone} bytes grew to {shared}");
    for client in &mut clients {
        let pid = value(client, "select pg_backend_pid()").parse().unwrap();
        let private = kib(pid, "smaps_rollup", "Private_Dirty:") + kib(pid, "smaps_rollup", "Private_Clean:");
        assert!(private < 20 << 10, "a backend holds {private} KiB of its own");
    }
    println!("engine: {alone} bytes with 1 connection, {shared} with 100");
}

#[test]
fn the_engine_is_cut_off_from_the_server_and_the_network() {
    let cluster = Cluster::with(&[]);
    rows(&mut cluster.connect(), ONE);
    let socket = std::fs::metadata(cluster.home.join("data/kronos.sock")).unwrap();
    assert!(socket.file_type().is_socket());
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
    let engine = cluster.engine();
    let maps = std::fs::read_to_string(format!("/proc/{engine}/maps")).unwrap();
    for shared in ["SYSV", "/dev/zero", "/dev/shm", "PostgreSQL."] {
        assert!(!maps.contains(shared), "the engine still maps {shared}");
    }
    let unix = std::fs::read_to_string("/proc/net/unix").unwrap();
    for entry in std::fs::read_dir(format!("/proc/{engine}/fd")).unwrap().flatten() {
        let Ok(target) = std::fs::read_link(entry.path()) else { continue };
        let target = target.display().to_string();
        if let Some(inode) = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')) {
            assert!(unix.split_whitespace().any(|word| word == inode), "{target} is no Unix-domain socket");
        }
        assert!(!target.contains("/data/base/") && !target.contains("pg_wal"), "the engine holds {target}");
    }
    // The mode of the socket stops everybody but root, and the engine looks at who that is.
    if std::fs::metadata("/proc/self").unwrap().uid() != socket.uid() {
        let mut stranger = UnixStream::connect(format!("/proc/{engine}/cwd/kronos.sock")).unwrap();
        stranger.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        assert_eq!(stranger.read(&mut [0]).unwrap(), 0, "a stranger finds the connection closed");
    }
}

#[test]
fn counters_count_and_begin_anew() {
    let cluster = Cluster::with(&[]);
    cluster.rows("select from kronos_predict('bars', 4, series_col => 'symbol', samples => 3)");
    let counted = "select calls, series, rows, errors, state, avg_batch from kronos.stat_models where model_version ~ 'fixture'";
    let row: Vec<String> = cluster.rows(counted)[0].iter().flatten().cloned().collect();
    assert_eq!(row[..5], ["1", "8", "32", "0", "loaded"]);
    assert!(row[5].parse::<f64>().unwrap() > 3.0, "series share their steps: {row:?}");
    cluster.run("select kronos.stat_reset()");
    assert_eq!(cluster.value("select sum(calls) from kronos.stat_models"), "0");
}

#[test]
fn too_little_memory_and_a_full_queue_are_refused_with_their_codes() {
    let cluster = Cluster::with(&[("kronos.max_queue", "1")]);
    install(&cluster, "kronos-mini", MINI);
    let mut client = cluster.connect();
    rows(&mut client, "select kronos.unload_model('kronos-mini')");
    let limit = |client: &mut kronos_tests::Client, megabytes: u32| {
        rows(client, &format!("alter system set kronos.max_cpu_memory = '{megabytes}MB'"));
        rows(client, "select pg_reload_conf()");
        let bytes = (megabytes << 20).to_string();
        until("the limit has changed", || {
            value(client, "select mem_limit from kronos.stat_devices") == bytes
        });
    };
    limit(&mut client, 20);
    failure(&mut client, "select kronos.load_model('kronos-mini')").unwrap().is("53200", "the model needs");
    assert_eq!(
        value(&mut client, "select state from kronos.stat_models where model_version ~ '^kronos-mini@'"),
        "failed"
    );
    rows(&mut client, ONE);

    // The model fits, but not beside a call that is using the memory: it waits, and whoever comes then is refused.
    limit(&mut client, 45);
    let (mut busy, mut waiting) = (cluster.connect(), cluster.connect());
    let mut watcher = cluster.connect();
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| failure(&mut busy, LONG));
        until("a call runs", || value(&mut watcher, "select running from kronos.stat_engine") == "1");
        let waiting = scope.spawn(|| failure(&mut waiting, "select kronos.load_model('kronos-mini')"));
        until("a model waits", || value(&mut watcher, "select queued from kronos.stat_engine") == "1");
        failure(&mut client, ONE).unwrap().is("53300", "already waiting").hint("kronos.max_queue");
        rows(&mut watcher, "select pg_cancel_backend(pid) from kronos.stat_activity where state = 'running'");
        busy.join().unwrap().unwrap().is("57014", "");
        assert!(waiting.join().unwrap().is_none(), "the model is loaded when the memory is free");
    });
    rows(&mut client, ONE);
}

#[test]
fn unloading_gives_the_memory_back() {
    let cluster = Cluster::with(&[]);
    install(&cluster, "kronos-small", SMALL);
    let mut client = cluster.connect();
    rows(&mut client, ONE);
    let unload = "select kronos.unload_model('kronos-small')";
    rows(&mut client, unload);
    let engine = cluster.engine();
    let before = kib(engine, "status", "VmRSS:");
    rows(&mut client, "select kronos.load_model('kronos-small')");
    let weights: u64 =
        value(&mut client, "select mem_bytes from kronos.stat_models where model_version ~ 'small'")
            .parse()
            .unwrap();
    let loaded = kib(engine, "status", "VmRSS:");
    assert!(weights > 80 << 20 && loaded > before + (weights >> 10) * 9 / 10, "{before} {loaded} {weights}");
    // What the files were read into has gone back: the packed weights are all that stays.
    assert!(loaded < before + (weights >> 10) * 5 / 4, "{before} KiB before, {loaded} with {weights} bytes");
    assert_eq!(value(&mut client, unload), "t");
    let after = kib(engine, "status", "VmRSS:");
    assert!(after < before + (weights >> 10) / 20, "{before} KiB before, {loaded} loaded, {after} after");
    println!("resident: {before} KiB before, {loaded} with {weights} bytes of weights, {after} after unload");
}

#[test]
fn a_reload_changes_settings_under_load_without_losing_a_request() {
    let cluster = Cluster::with(&[]);
    let expected = cluster.rows(ONE);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = cluster.connect();
                    let mut calls = 0;
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        assert_eq!(rows(&mut client, ONE), expected);
                        calls += 1;
                    }
                    calls
                })
            })
            .collect();
        let mut client = cluster.connect();
        for (threads, memory) in [(2, "512MB"), (1, "300MB"), (3, "400MB")] {
            for change in [
                format!("alter system set kronos.threads = {threads}"),
                format!("alter system set kronos.max_cpu_memory = '{memory}'"),
                format!("alter system set kronos.batch_window = {threads}"),
                "select pg_reload_conf()".into(),
            ] {
                rows(&mut client, &change);
            }
            let shown = format!("{threads} threads");
            until("the engine has the settings", || {
                value(&mut client, "select name from kronos.stat_devices") == shown
            });
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(workers.into_iter().map(|worker| worker.join().unwrap()).sum::<u32>() > 0);
    });
    assert_eq!(cluster.value("select restarts from kronos.stat_engine"), "0");
}

#[test]
fn without_preloading_the_first_call_starts_the_service() {
    let libraries = Cluster::with(&[]).value("show shared_preload_libraries");
    // Other extensions of the database may insist on theirs.
    let others: Vec<_> = libraries.split(',').filter(|name| name.trim() != "kronos").collect();
    let cluster = Cluster::with(&[("shared_preload_libraries", &format!("'{}'", others.join(",")))]);
    assert!(cluster.engines().is_empty());
    let clients: Vec<_> = (0..8).map(|_| cluster.connect()).collect();
    let answers: Vec<_> = std::thread::scope(|scope| {
        let calls: Vec<_> =
            clients.into_iter().map(|mut client| scope.spawn(move || rows(&mut client, ONE))).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
    until("one engine", || cluster.engines().len() == 1);
}

#[test]
fn inside_the_session_the_numbers_are_the_same() {
    let paths = "select * from kronos_paths('bars', 24, paths => 9, series_col => 'symbol', seed => 3) order by series, path, step";
    let quantiles = "select * from chronos_predict('bars', '{close,volume}', 40, series_col => 'symbol', model => 'tiny-b', \
         past_covariates => '{high}', quantile_levels => '{0.1,0.5,0.9}') order by series, target, step";
    let both = |cluster: &Cluster| (cluster.rows(paths), cluster.rows(quantiles));
    let shared = {
        let cluster = Cluster::with(&[]);
        install_chronos(&cluster, "tiny-b");
        let shared = both(&cluster);
        assert_eq!(cluster.engines().len(), 1);
        shared
    };
    let cluster = Cluster::with(&[("kronos.service", "off")]);
    // Every bit: the server writes as many digits as tell two numbers apart.
    assert_eq!(both(&cluster), shared);
    assert!(cluster.engines().is_empty());
    assert_eq!((shared.0.len(), shared.1.len()), (8 * 9 * 24, 8 * 2 * 40));
    assert!(
        cluster
            .value("select detail from kronos.diagnostics() where \"check\" = 'service'")
            .contains("inside the calling session")
    );
}
