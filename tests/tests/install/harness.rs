//! What the harness promises all other tests: no cluster is left behind, and nothing that hangs stops the others.

use kronos_tests::{
    Client, Database, PrivateCluster, administer, cluster_folder, end_sessions, project_root, rows, until,
};
use postgres::error::SqlState;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

fn signal(pid: &str, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), pid]).status().unwrap().success());
}

fn value(client: &mut Client, sql: &str) -> String {
    rows(client, sql).into_iter().flatten().flatten().collect()
}

#[test]
fn a_test_that_hangs_is_ended() {
    let db = Database::within("test_that_hangs", Duration::from_millis(300));
    let mut client = db.connect();
    let error = client.simple_query("select pg_sleep(600)").unwrap_err();
    // The driver may see the end of the connection before it has read why.
    assert!(error.is_closed() || error.code() == Some(&SqlState::ADMIN_SHUTDOWN), "{error:?}");
}

#[test]
fn a_session_that_answers_nothing_is_named_and_killed_and_does_not_stop_the_others() {
    let cluster = PrivateCluster::start("test-harness");
    let _deadline = cluster.deadline();
    let mut server = cluster.config().clone();
    server.dbname("postgres");
    for name in ["hanging", "other"] {
        administer(&server, &format!("create database {name}"), Duration::from_secs(120)).unwrap();
    }
    let mut client = cluster.config().clone().dbname("hanging").connect(postgres::NoTls).unwrap();
    let pid = value(&mut client, "select pg_backend_pid()");
    let call = std::thread::spawn(move || client.simple_query("select pg_sleep(600)").unwrap_err());
    let mut watcher = cluster.connect();
    let asleep = format!("select 1 from pg_stat_activity where pid = {pid} and wait_event = 'PgSleep'");
    until("the session sleeps", || !rows(&mut watcher, &asleep).is_empty());
    signal(&pid, "STOP");
    let line = administer(&server, "drop database nowhere", Duration::from_secs(120)).unwrap_err();
    assert!(line.contains("3D000") && line.contains("does not exist"), "said at once: {line}");
    // Whoever drops a database waits until every session of the server has taken note of it.
    let line = administer(&server, "drop database other", Duration::from_secs(2)).unwrap_err();
    assert!(line.starts_with("drop database other: not done within 2s") && line.contains(&pid), "{line}");
    assert!(line.contains("pg_sleep(600)"), "{line}");
    end_sessions(&server, "hanging", Duration::ZERO, true);
    call.join().unwrap();
    // The server begins anew, and nobody stops it any more.
    until("the databases are gone", || {
        let drop =
            |name| administer(&server, &format!("drop database if exists {name}"), Duration::from_secs(120));
        drop("hanging").and(drop("other")).is_ok()
    });
}

fn lend(name: &str) -> Child {
    let script = project_root().join("tools/cluster");
    let mut lender = Command::new(script);
    lender.args(["lend", name]).stdin(Stdio::piped()).stdout(Stdio::piped());
    lender.spawn().unwrap()
}

/// What of a cluster is there: its folder, and the files beside it.
fn left(name: &str) -> Vec<String> {
    let folder = cluster_folder(name);
    let beside = std::fs::read_dir(folder.parent().unwrap()).unwrap();
    beside
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|file| file.starts_with(name))
        .collect()
}

#[test]
fn a_cluster_goes_with_whoever_asked_for_it_and_that_of_a_killed_lender_with_the_next() {
    let orphan = format!("test-orphan-{}", std::process::id());
    let mut lender = lend(&orphan);
    let mut uri = String::new();
    BufReader::new(lender.stdout.take().unwrap()).read_line(&mut uri).unwrap();
    assert!(uri.starts_with("postgresql://"), "{uri}");
    lender.kill().unwrap();
    lender.wait().unwrap();
    assert!(!left(&orphan).is_empty(), "a lender that is killed cannot tidy up");

    let (one, other) = (PrivateCluster::start("test-harness"), PrivateCluster::start("test-harness"));
    assert_eq!(left(&orphan), [""; 0]);
    let directory = |cluster: &PrivateCluster| value(&mut cluster.connect(), "show data_directory");
    assert_ne!(directory(&one), directory(&other));
    let name = one.home().file_name().unwrap().to_str().unwrap().to_owned();
    let processes = one.processes();
    assert!(!processes.is_empty() && !left(&name).is_empty());
    signal(&one.postmaster().to_string(), "STOP");
    drop(one);
    assert_eq!(left(&name), [""; 0]);
    assert!(processes.iter().all(|pid| !Path::new(&format!("/proc/{pid}/exe")).exists()));
    assert_eq!(value(&mut other.connect(), "select 1"), "1", "the other one runs on");
}
