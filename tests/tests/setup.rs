//! The private cluster of `make up`, and the set-up before it.

use kronos_tests::{cluster_folder, project_root};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// A private cluster that is gone at the end of the test.
struct Private(&'static str);

impl Private {
    fn call(&self, action: &str) -> Output {
        script("cluster", &[action, self.0])
    }

    #[track_caller]
    fn succeed(&self, action: &str) -> String {
        let output = self.call(action);
        assert!(output.status.success(), "{action}: {}", text(&output));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn folder(&self) -> PathBuf {
        cluster_folder(self.0).canonicalize().expect("the cluster has a folder")
    }

    /// What psql of the cluster prints for a query through the printed URI.
    fn query(&self, sql: &str) -> String {
        let uri = self.succeed("uri");
        let output =
            Command::new(self.folder().join("bin/psql")).args([&uri, "-XAtc", sql]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        self.call("down");
        if let Ok(folder) = cluster_folder(self.0).canonicalize() {
            std::fs::remove_dir_all(folder).ok();
        }
    }
}

fn script(name: &str, arguments: &[&str]) -> Output {
    Command::new(project_root().join(".ci").join(name))
        .args(arguments)
        .output()
        .expect("the script can be run")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_cluster_starts_once_and_again_after_a_crash() {
    // What an interrupted run of the test has left.
    drop(Private("test-private"));
    let cluster = Private("test-private");
    cluster.succeed("up");
    assert_eq!(cluster.query("select extname from pg_extension where extname = 'kronos'"), "kronos");
    assert_eq!(cluster.query("show search_path"), r#""$user", public, kronos, market, trading"#);
    assert_eq!(
        cluster.query("select name from kronos.models where 'kronos-default' = any(aliases)"),
        "kronos-fixture"
    );
    assert_eq!(cluster.query("show listen_addresses"), "", "nobody reaches it through the network");
    let folder = cluster.folder().display().to_string();
    assert!(cluster.query("show data_directory").starts_with(&folder), "its data lie in its folder");

    let started = "select pg_postmaster_start_time()";
    let first = cluster.query(started);
    cluster.query("create table kept as select 1");
    cluster.succeed("up");
    assert_eq!(cluster.query(started), first, "a second 'up' leaves a current server alone");

    let file = std::fs::read_to_string(cluster.folder().join("data/postmaster.pid")).unwrap();
    let pid = file.lines().next().unwrap();
    assert!(Command::new("kill").args(["-KILL", pid]).status().unwrap().success());
    cluster.succeed("up");
    assert_ne!(cluster.query(started), first);
    assert_eq!(cluster.query("select count(*) from kept"), "1");

    cluster.succeed("down");
    cluster.succeed("down");
    let stopped = cluster.call("uri");
    assert!(!stopped.status.success());
    assert!(text(&stopped).contains("make up"), "{}", text(&stopped));
}

#[test]
fn set_up_with_nothing_to_do_is_quick() {
    let start = Instant::now();
    let output = script("setup", &[]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(start.elapsed() < Duration::from_secs(20), "took {:?}", start.elapsed());
}

#[test]
fn a_wrong_pg_config_is_named() {
    for (given, said) in
        [("/nowhere/pg_config", "does not exist"), ("/bin/true", "has no server with its headers")]
    {
        let output = Command::new(project_root().join(".ci/setup"))
            .env("PG_CONFIG", given)
            .output()
            .expect("set-up can be run");
        assert!(!output.status.success());
        assert!(text(&output).contains(&format!("PG_CONFIG={given} {said}")), "{}", text(&output));
    }
}
