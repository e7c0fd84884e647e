//! The worker reaches PostgreSQL through TLS, and only the server it was told to trust.

use kronos_tests::cluster_folder;
use kronos_tests::worker;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A cluster of its own that listens on loopback with TLS; gone at the end of the test.
struct Guarded {
    name: String,
    home: PathBuf,
    port: u16,
}

impl Guarded {
    fn up(certificate: &str, key: &str) -> Self {
        // Beside another run of the tests, which has its own.
        let name = format!("test-tls-{}", std::process::id());
        worker::cluster("up", &name);
        let uri = worker::cluster("uri", &name);
        let home = cluster_folder(&name).canonicalize().unwrap();
        let mut guarded = Guarded { name, home, port: 0 };
        let data = guarded.home.join("data");
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
            let program = guarded.home.join("bin/psql");
            let status = Command::new(program).args([&uri, "-qXc", sql]).status().unwrap();
            assert!(status.success(), "{sql}");
        };
        psql("create role tls_worker superuser login password 'hunter2'");
        psql("alter system set ssl = on");
        psql("alter system set listen_addresses = '127.0.0.1'");
        worker::cluster("down", &guarded.name);
        guarded.start();
        guarded
    }

    /// Starts the server on a free port. Between our finding one and its opening it another program may take it.
    fn start(&mut self) {
        loop {
            let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
            self.port = listener.local_addr().unwrap().port();
            drop(listener);
            let log = self.home.join(format!("data/server-{}.log", self.port));
            let status = self
                .control()
                .args(["start", "-w", "-s", "-o", &format!("-p {}", self.port), "-D"])
                .arg(self.home.join("data"))
                .arg("-l")
                .arg(&log)
                .status()
                .unwrap();
            if status.success() {
                return;
            }
            let log = std::fs::read_to_string(log).unwrap_or_default();
            assert!(log.contains("could not bind"), "{log}");
        }
    }

    /// `pg_ctl`, run by the user that the server belongs to.
    fn control(&self) -> Command {
        let program = self.home.join("bin/pg_ctl");
        let mut command = if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir(&self.home).env_remove("RUST_BACKTRACE");
        command
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
        worker::remove_cluster(&self.name);
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
