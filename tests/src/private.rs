//! A cluster of one's own.

use crate::deadline::{Deadline, limit};
use crate::{cluster_folder, project_root};
use postgres::{Client, Config, NoTls};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A cluster that a test may stop, crash and reconfigure, as `tools/cluster up` makes it.
///
/// No other run has one of the same name, and it is gone when this is dropped, or the process ends in any other way.
pub struct PrivateCluster {
    name: String,
    home: PathBuf,
    config: Config,
    /// `tools/cluster lend`, which removes the cluster when its standard input ends.
    lender: Child,
}

impl PrivateCluster {
    /// Starts one whose name begins with `purpose`; if that begins with `test`, it has the fixture model, and need not
    /// survive a power cut.
    pub fn start(purpose: &str) -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{purpose}-{}-{number}", std::process::id());
        let mut lender = Command::new(script())
            .args(["lend", &name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // What ends the tests must not end it before the cluster.
            .process_group(0)
            .spawn()
            .expect("the script tools/cluster can be run");
        let mut uri = String::new();
        let printed = lender.stdout.take().expect("the output is a pipe");
        BufReader::new(printed).read_line(&mut uri).expect("the script prints text");
        assert!(!uri.is_empty(), "tools/cluster lend {name} failed: {:?}", lender.wait());
        let config = uri.trim().parse().expect("the cluster has a connection URI");
        let home = cluster_folder(&name).canonicalize().expect("the cluster has a folder");
        Self { name, home, config, lender }
    }

    /// Its folder: programs, data, log, models.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// How to connect to the database that has the extension, as superuser.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A connection to the database that has the extension, as superuser.
    pub fn connect(&self) -> Client {
        self.config.connect(NoTls).expect("the cluster accepts connections")
    }

    /// What `tools/cluster ACTION` does with this cluster.
    pub fn call(&self, action: &str) -> Output {
        Command::new(script())
            .args([action, &self.name])
            .output()
            .expect("the script tools/cluster can be run")
    }

    /// As [`Self::call`] for what must succeed; what it printed.
    #[track_caller]
    pub fn succeed(&self, action: &str) -> String {
        let output = self.call(action);
        assert!(output.status.success(), "{action}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// A program of the server, to be run as the server's user in the cluster's folder.
    pub fn program(&self, name: &str) -> Command {
        let program = self.home.join("bin").join(name);
        let owner = std::fs::metadata(self.home.join("data")).expect("the cluster has data").uid();
        let mut command = if owner == std::fs::metadata("/proc/self").expect("there is /proc").uid() {
            Command::new(program)
        } else {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        };
        command.env_remove("RUST_BACKTRACE").current_dir(&self.home);
        command
    }

    /// Processes that run a program of the server, whatever state they are in.
    pub fn processes(&self) -> Vec<u32> {
        processes_in(&self.home)
    }

    /// The process that all others of the server descend from.
    pub fn postmaster(&self) -> u32 {
        let file = std::fs::read_to_string(self.home.join("data/postmaster.pid")).expect("the server runs");
        file.lines().next().and_then(|pid| pid.parse().ok()).expect("the first line is a process")
    }

    /// Kills every process of the cluster, which ends whatever waits for one.
    pub fn kill(&self) {
        kill_all(&self.home);
    }

    /// Kills every process of the cluster if the caller still holds what this returns after ten minutes.
    pub fn deadline(&self) -> Deadline {
        let home = self.home.clone();
        Deadline::new(limit(), move || kill_all(&home))
    }
}

impl Drop for PrivateCluster {
    fn drop(&mut self) {
        drop(self.lender.stdin.take());
        // It says itself what it could not do.
        let _ = self.lender.wait();
    }
}

fn script() -> PathBuf {
    project_root().join("tools/cluster")
}

fn processes_in(home: &Path) -> Vec<u32> {
    let programs = home.join("postgres");
    let pids = std::fs::read_dir("/proc").expect("there is /proc");
    pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.starts_with(&programs))
        })
        .collect()
}

fn kill_all(home: &Path) {
    loop {
        let processes = processes_in(home);
        if processes.is_empty() {
            return;
        }
        let pids = processes.iter().map(u32::to_string);
        // One that has gone meanwhile is no failure.
        let _ = Command::new("kill").arg("-KILL").args(pids).stderr(Stdio::null()).status();
    }
}
