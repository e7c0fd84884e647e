//! The private cluster of `make up`, and the set-up before it.

use kronos_tests::{PrivateCluster, project_root};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

/// What psql of the cluster prints for a query through the printed URI.
#[track_caller]
fn query(cluster: &PrivateCluster, sql: &str) -> String {
    let uri = cluster.succeed("uri");
    let output = Command::new(cluster.home().join("bin/psql")).args([&uri, "-XAtc", sql]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn script(name: &str, arguments: &[&str]) -> Output {
    Command::new(project_root().join("tools").join(name))
        .args(arguments)
        .output()
        .expect("the script can be run")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_cluster_starts_once_and_again_after_a_crash() {
    let cluster = PrivateCluster::start("test-setup");
    let value = |sql: &str| query(&cluster, sql);
    assert_eq!(value("select extname from pg_extension where extname = 'kronos'"), "kronos");
    assert_eq!(value("show search_path"), r#""$user", public, kronos, market, trading"#);
    assert_eq!(
        value("select name from kronos.models where 'kronos-default' = any(aliases)"),
        "kronos-fixture"
    );
    assert_eq!(value("show listen_addresses"), "", "nobody reaches it through the network");
    let folder = cluster.home().display().to_string();
    assert!(value("show data_directory").starts_with(&folder), "its data lie in its folder");

    let started = "select pg_postmaster_start_time()";
    let first = value(started);
    value("create table kept as select 1");
    cluster.succeed("up");
    assert_eq!(value(started), first, "a second 'up' leaves a current server alone");

    let pid = cluster.postmaster().to_string();
    assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    cluster.succeed("up");
    assert_ne!(value(started), first);
    assert_eq!(value("select count(*) from kept"), "1");

    // The folder of models is missed by models whose files are to be in it, not by those that come with the extension.
    let models = value("show kronos.model_dir");
    std::fs::rename(&models, format!("{models}.away")).unwrap();
    let missed = "select count(*) from kronos.diagnostics() where \"check\" = 'model_dir' and not ok";
    assert_eq!(value(missed), "1");
    value(
        "select kronos.set_alias(alias, null) from kronos.models, unnest(aliases) alias where not built_in",
    );
    value("select kronos.drop_model(version) from kronos.models where not built_in");
    assert_eq!(value(missed), "0");

    cluster.succeed("down");
    cluster.succeed("down");
    let stopped = cluster.call("uri");
    assert!(!stopped.status.success());
    assert!(text(&stopped).contains("make up"), "{}", text(&stopped));
}

/// The second time nothing is installed, and nothing changes that pgrx would rebuild its bindings for.
#[test]
fn set_up_again_does_nothing() {
    let first = script("setup", &[]);
    assert!(first.status.success(), "{}", text(&first));
    if text(&first).contains("could not install") {
        kronos_skip::skipped("this machine lacks what tools/setup wants to install", "make setup as root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let called = folder.path().join("called");
    for name in ["apt-get", "sudo", "curl", "cargo"] {
        let program = folder.path().join(name);
        std::fs::write(
            &program,
            format!("#!/bin/sh\necho \"{name} $*\" >> '{}'\nexit 1\n", called.display()),
        )
        .unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let configuration = std::env::var_os("PGRX_HOME")
        .map_or_else(|| project_root().join("target/pgrx"), PathBuf::from)
        .join("config.toml");
    let state = || {
        let written = std::fs::metadata(&configuration).and_then(|metadata| metadata.modified());
        (std::fs::read_to_string(&configuration).unwrap(), written.unwrap())
    };
    let before = state();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let again = Command::new(project_root().join("tools/setup")).env("PATH", path).output().unwrap();
    assert!(again.status.success(), "{}", text(&again));
    assert!(text(&again).contains("kronos: building for PostgreSQL "), "{}", text(&again));
    assert!(!called.exists(), "{}", std::fs::read_to_string(&called).unwrap());
    assert!(state() == before, "{} was written anew", configuration.display());
}

#[test]
fn a_wrong_pg_config_is_named() {
    for (given, said) in
        [("/nowhere/pg_config", "does not exist"), ("/bin/true", "has no server with its headers")]
    {
        let output = Command::new(project_root().join("tools/setup"))
            .env("PG_CONFIG", given)
            .output()
            .expect("set-up can be run");
        assert!(!output.status.success());
        assert!(text(&output).contains(&format!("PG_CONFIG={given} {said}")), "{}", text(&output));
    }
}
