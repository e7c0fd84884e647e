//! Inference on a physical standby while the primary goes on writing.

use crate::cluster::{Cluster, failure, text, until, value};
use kronos_tests::{Client, NoTls, rows};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

struct Standby<'a>(&'a Cluster);

impl Drop for Standby<'_> {
    fn drop(&mut self) {
        self.0.program("pg_ctl").args(["-D", "standby", "-m", "immediate", "stop"]).output().ok();
        std::fs::remove_dir_all(self.0.home.join("standby")).ok();
    }
}

#[test]
fn a_standby_forecasts_while_it_replays() {
    let cluster = Cluster::with(&[]);
    let mut primary = cluster.connect();
    let one = "select close from kronos_predict('bars', 4, series_col => 'symbol', only_series => '{A}', seed => 7)";
    let expected = rows(&mut primary, one);
    let socket = value(&mut primary, "show unix_socket_directories");
    let host = socket.trim_matches('"').to_owned();

    std::fs::remove_dir_all(cluster.home.join("standby")).ok();
    std::fs::create_dir(cluster.home.join("standby")).unwrap();
    std::fs::set_permissions(cluster.home.join("standby"), std::fs::Permissions::from_mode(0o700)).unwrap();
    let owner = std::fs::metadata(cluster.home.join("data")).unwrap();
    std::os::unix::fs::chown(cluster.home.join("standby"), Some(owner.uid()), Some(owner.gid())).unwrap();
    let backup = cluster
        .program("pg_basebackup")
        .args(["-h", &host, "-U", "postgres", "-D", "standby", "-R", "-X", "stream", "-c", "fast"])
        .output()
        .unwrap();
    assert!(backup.status.success(), "{}", text(&backup));
    assert!(!cluster.home.join("standby/kronos.sock").exists(), "the socket is no part of a backup");
    let standby = Standby(&cluster);
    let started = cluster
        .program("pg_ctl")
        .args([
            "-D",
            "standby",
            "-l",
            "standby/server.log",
            "-o",
            "-p 6543 -c wal_retrieve_retry_interval=100ms",
            "-w",
            "start",
        ])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(started.success());
    let mut replica = connect(Path::new(&host));
    assert_eq!(value(&mut replica, "select pg_is_in_recovery()"), "t");
    assert_eq!(rows(&mut replica, one), expected, "the same numbers as on the primary");

    rows(&mut primary, "create table written (n int)");
    for n in 0..20 {
        rows(&mut primary, &format!("insert into written select {n} from generate_series(1, 1000)"));
        assert_eq!(rows(&mut replica, one), expected);
    }
    until("the standby has replayed", || {
        failure(&mut replica, "select from written").is_none()
            && value(&mut replica, "select count(*) from written") == "20000"
    });
    rows(&mut primary, "drop table written");
    assert_eq!(value(&mut replica, "select running from kronos.stat_engine"), "0");
    drop(standby);
}

fn connect(host: &Path) -> Client {
    let mut config = postgres::Config::new();
    config.host_path(host).port(6543).user("postgres").dbname("kronos");
    config.connect(NoTls).unwrap()
}
