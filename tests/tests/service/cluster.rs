//! A private cluster that these tests may stop, crash and reconfigure, one at a time.

pub use kronos_tests::until;
use kronos_tests::{Client, NoTls, Row, SqlFailure, cluster_folder, project_root, rows};
use postgres::Config;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

const NAME: &str = "test-service";

/// The cluster, held by one test.
pub struct Cluster {
    _turn: MutexGuard<'static, ()>,
    pub home: PathBuf,
    config: Config,
    /// Length of the log when the test began.
    logged: usize,
}

impl Cluster {
    /// The cluster as `make up` would make it, with these settings on top.
    pub fn with(settings: &[(&str, &str)]) -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let home = cluster_folder(NAME);
        script("down");
        std::fs::remove_file(home.join("data/postgresql.auto.conf")).ok();
        script("up");
        let config = script("uri").trim().parse().unwrap();
        let mut cluster = Self { _turn: turn, home: home.canonicalize().unwrap(), config, logged: 0 };
        cluster.logged = cluster.log().len();
        let written: String = settings.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
        let file = cluster.home.join("data/postgresql.auto.conf");
        std::fs::write(&file, written).unwrap();
        let owner = std::fs::metadata(cluster.home.join("data")).unwrap();
        std::os::unix::fs::chown(&file, Some(owner.uid()), Some(owner.gid())).unwrap();
        if !settings.is_empty() {
            cluster.control(&["restart", "-m", "fast"]);
        }
        cluster.run("drop table if exists bars");
        cluster.run(&kronos_tests::bars("bars", &["A", "B", "C", "D", "E", "F", "G", "H"], 120));
        cluster
    }

    pub fn connect(&self) -> Client {
        self.try_connect().expect("the cluster accepts connections")
    }

    pub fn try_connect(&self) -> Result<Client, postgres::Error> {
        self.config.connect(NoTls)
    }

    #[track_caller]
    pub fn run(&self, sql: &str) {
        self.connect().batch_execute(sql).unwrap_or_else(|error| panic!("{sql}\n{error:?}"));
    }

    #[track_caller]
    pub fn rows(&self, sql: &str) -> Vec<Row> {
        rows(&mut self.connect(), sql)
    }

    #[track_caller]
    pub fn value(&self, sql: &str) -> String {
        value(&mut self.connect(), sql)
    }

    /// The process of the engine.
    pub fn engine(&self) -> u32 {
        self.value("select pid from kronos.stat_engine").parse().unwrap()
    }

    /// Every process of an engine of this cluster, however it was left behind.
    pub fn engines(&self) -> Vec<u32> {
        let comm = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/comm"));
        let mut engines = self.processes();
        engines.retain(|pid| comm(pid).is_ok_and(|name| name.trim() == "kronos-engine"));
        engines
    }

    /// Every process of this cluster.
    pub fn processes(&self) -> Vec<u32> {
        let data = self.home.join("data");
        processes()
            .filter(|pid| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data))
            .collect()
    }

    pub fn postmaster(&self) -> u32 {
        let file = std::fs::read_to_string(self.home.join("data/postmaster.pid")).unwrap();
        file.lines().next().unwrap().parse().unwrap()
    }

    /// What the server has logged during the test.
    pub fn log(&self) -> String {
        let log = std::fs::read(self.home.join("data/server.log")).unwrap();
        String::from_utf8_lossy(&log[self.logged..]).into_owned()
    }

    /// A program of the server, run as the server's user.
    pub fn program(&self, name: &str) -> Command {
        let program = self.home.join("bin").join(name);
        let owner = std::fs::metadata(self.home.join("data")).unwrap().uid();
        let mut command = if owner == std::fs::metadata("/proc/self").unwrap().uid() {
            Command::new(program)
        } else {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        };
        command.env_remove("RUST_BACKTRACE").current_dir(&self.home);
        command
    }

    /// `pg_ctl` on this cluster; waits for what it asks for.
    pub fn control(&self, arguments: &[&str]) {
        self.control_with_log(arguments, "data/server.log");
    }

    pub fn control_with_log(&self, arguments: &[&str], log: &str) {
        self.run_control(self.program("pg_ctl"), arguments, log);
    }

    /// Starts the server with so many bytes of address space for each of its processes.
    pub fn start_within(&self, bytes: u64) {
        let program = self.program("pg_ctl");
        let mut command = Command::new("prlimit");
        command.arg(format!("--as={bytes}")).arg(program.get_program()).args(program.get_args());
        command.env_remove("RUST_BACKTRACE").current_dir(&self.home);
        self.run_control(command, &["start"], "data/server.log");
    }

    fn run_control(&self, mut command: Command, arguments: &[&str], log: &str) {
        command.args(["-D", "data", "-l", log, "-w", "-t", "60"]).args(arguments);
        // The server would keep a pipe of ours open.
        let status =
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).status().unwrap();
        assert!(status.success(), "pg_ctl {arguments:?}: {}", self.log());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        Command::new(project_root().join(".ci/cluster")).args(["down", NAME]).output().ok();
    }
}

fn script(action: &str) -> String {
    let output = Command::new(project_root().join(".ci/cluster")).args([action, NAME]).output().unwrap();
    assert!(output.status.success() || action == "down", "{action}: {}", text(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn processes() -> impl Iterator<Item = u32> {
    std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

pub fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap().success());
}

#[track_caller]
pub fn value(client: &mut Client, sql: &str) -> String {
    let rows = rows(client, sql);
    assert!(rows.len() == 1, "{sql}\nreturned {rows:?}");
    rows[0][0].clone().unwrap_or_default()
}

/// What a query raises, `None` when it succeeds.
pub fn failure(client: &mut Client, sql: &str) -> Option<SqlFailure> {
    client.simple_query(sql).err().map(|error| SqlFailure::new(&error))
}

/// A number of a process's `/proc` file in KiB, by its label.
pub fn kib(pid: u32, file: &str, label: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(label)).unwrap_or("0");
    line.split_whitespace().next().unwrap_or("0").parse().unwrap()
}
