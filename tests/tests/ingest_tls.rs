//! The worker reaches PostgreSQL through TLS, and only the server it was told to trust.

mod worker;

use kronos_tests::{cluster_folder, project_root};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A cluster of its own that listens on loopback with TLS; gone at the end of the test.
struct Guarded {
    home: PathBuf,
    port: u16,
}

const NAME: &str = "test-tls";

fn script(action: &str) -> String {
    let output = Command::new(project_root().join(".ci/cluster")).args([action, NAME]).output().unwrap();
    assert!(output.status.success(), "{action}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

impl Guarded {
    fn up(certificate: &str, key: &str) -> Self {
        script("up");
        let home = cluster_folder(NAME).canonicalize().unwrap();
        let uri = script("uri");
        // A port that was free a moment ago.
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let data = home.join("data");
        let owner = std::fs::metadata(&data).unwrap();
        let write = |name: &str, text: &str| {
            let path = data.join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            std::os::unix::fs::chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
        };
        write("server.crt", certificate);
        write("server.key", key);
        write("pg_hba.conf", "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n");
        let psql = |sql: &str| {
            let status = Command::new(home.join("bin/psql")).args([&uri, "-qXc", sql]).status().unwrap();
            assert!(status.success(), "{sql}");
        };
        psql("drop role if exists tls_worker");
        psql("create role tls_worker superuser login password 'hunter2'");
        psql("alter system set ssl = on");
        psql("alter system set listen_addresses = '127.0.0.1'");
        psql(&format!("alter system set port = {port}"));
        script("down");
        let control = home.join("bin/pg_ctl");
        let mut command = match owner.uid() {
            0 => unreachable!("the server does not run as root"),
            _ if std::fs::metadata("/proc/self").unwrap().uid() == 0 => {
                let mut command = Command::new("runuser");
                command.args(["-u", "postgres", "--"]).arg(control);
                command
            }
            _ => Command::new(control),
        };
        let log = data.join("server.log");
        let status = command
            .current_dir(&home)
            .args(["-w", "-s", "-D"])
            .arg(&data)
            .arg("-l")
            .arg(&log)
            .arg("start")
            .env_remove("RUST_BACKTRACE")
            .status()
            .unwrap();
        assert!(status.success(), "{}", std::fs::read_to_string(log).unwrap_or_default());
        Guarded { home, port }
    }

    /// What `kronos-ingest COMMAND` says, and whether it succeeds.
    fn run(&self, host: &str, mode: &str, roots: &Path, command: &str) -> (bool, String) {
        let configuration = roots.with_extension("toml");
        std::fs::write(&configuration, format!("[database]\nroot_certificate = '{}'\n", roots.display()))
            .unwrap();
        let url = format!("postgresql://tls_worker@{host}:{}/kronos?sslmode={mode}", self.port);
        let output = worker::at(&url)
            .env("PGPASSWORD", "hunter2")
            .arg("--config")
            .arg(&configuration)
            .arg(command)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(!text.contains("hunter2"), "{text}");
        (output.status.success(), text)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let down = Command::new(project_root().join(".ci/cluster")).args(["down", NAME]).status();
        if down.is_ok_and(|status| status.success()) {
            std::fs::remove_dir_all(&self.home).ok();
        }
    }
}

#[test]
fn only_the_trusted_server_is_spoken_to() {
    let made = |name: &str| rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let (server, stranger) = (made("localhost"), made("localhost"));
    let scratch = tempfile::tempdir().unwrap();
    let (trusted, other) = (scratch.path().join("trusted.pem"), scratch.path().join("other.pem"));
    std::fs::write(&trusted, server.cert.pem()).unwrap();
    std::fs::write(&other, stranger.cert.pem()).unwrap();
    let guarded = Guarded::up(&server.cert.pem(), &server.signing_key.serialize_pem());

    let (passed, text) = guarded.run("localhost", "require", &trusted, "migrate");
    assert!(passed && text.contains("files applied"), "{text}");
    let (passed, text) = guarded.run("localhost", "require", &trusted, "check");
    assert!(passed && text.contains("may write market data"), "{text}");

    // Neither a certificate of somebody else, nor one for another name, nor a connection without TLS.
    let (passed, text) = guarded.run("localhost", "require", &other, "status");
    assert!(!passed && text.contains("certificate"), "{text}");
    let (passed, text) = guarded.run("127.0.0.1", "require", &trusted, "status");
    assert!(!passed && text.contains("certificate"), "{text}");
    let (passed, text) = guarded.run("localhost", "disable", &trusted, "status");
    assert!(!passed && text.contains("no pg_hba.conf entry"), "{text}");
}
