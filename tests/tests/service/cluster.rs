//! A private cluster that these tests may stop, crash and reconfigure, one at a time.

pub use kronos_tests::until;
use kronos_tests::{Client, Deadline, NoTls, PrivateCluster, Row, SqlFailure, rows};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// The cluster, held by one test.
pub struct Cluster {
    _turn: MutexGuard<'static, ()>,
    _deadline: Deadline,
    server: &'static PrivateCluster,
    pub home: PathBuf,
    /// Length of the log when the test began.
    logged: usize,
}

impl Cluster {
    /// The cluster as `make up` would make it, with these settings on top, just started.
    pub fn with(settings: &[(&str, &str)]) -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        static SERVER: OnceLock<PrivateCluster> = OnceLock::new();
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let server = SERVER.get_or_init(|| PrivateCluster::start("test-service"));
        let home = server.home().to_owned();
        let mut cluster = Self { _turn: turn, _deadline: server.deadline(), server, home, logged: 0 };
        cluster.end();
        cluster.logged = cluster.log().len();
        let written: String = settings.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
        let file = cluster.home.join("data/postgresql.auto.conf");
        std::fs::write(&file, written).unwrap();
        let owner = std::fs::metadata(cluster.home.join("data")).unwrap();
        std::os::unix::fs::chown(&file, Some(owner.uid()), Some(owner.gid())).unwrap();
        cluster.control(&["start"]);
        cluster.run("drop table if exists bars");
        cluster.run(&kronos_tests::bars("bars", &["A", "B", "C", "D", "E", "F", "G", "H"], 120));
        cluster
    }

    /// Ends the server in whatever state the test before has left it, stopped processes included.
    fn end(&self) {
        for pid in self.processes() {
            // It may have gone meanwhile.
            let _ = Command::new("kill").args(["-CONT", &pid.to_string()]).stderr(Stdio::null()).status();
        }
        let mut stop = self.server.program("pg_ctl");
        stop.args(["-D", "data", "-m", "fast", "-w", "-t", "20", "stop"]);
        if !stop.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success() {
            self.server.kill();
            std::fs::remove_file(self.home.join("data/postmaster.pid")).ok();
        }
    }

    pub fn connect(&self) -> Client {
        self.try_connect().expect("the cluster accepts connections")
    }

    pub fn try_connect(&self) -> Result<Client, postgres::Error> {
        self.server.config().connect(NoTls)
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

    /// The process that watches an engine.
    pub fn supervisor(&self, engine: u32) -> u32 {
        u32::try_from(kib(engine, "status", "PPid:")).unwrap()
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
        self.server.processes()
    }

    pub fn postmaster(&self) -> u32 {
        self.server.postmaster()
    }

    /// What the server has logged during the test.
    pub fn log(&self) -> String {
        let log = std::fs::read(self.home.join("data/server.log")).unwrap();
        String::from_utf8_lossy(&log[self.logged..]).into_owned()
    }

    /// A program of the server, run as the server's user.
    pub fn program(&self, name: &str) -> Command {
        self.server.program(name)
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
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(status.success(), "pg_ctl {arguments:?}: {}", self.log());
    }
}

pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
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

/// The line with a label in a process's `/proc` file.
fn line(pid: u32, file: &str, label: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    text.lines().find_map(|line| line.strip_prefix(label)).map(str::to_owned)
}

/// A number of a process's `/proc` file in KiB, by its label.
pub fn kib(pid: u32, file: &str, label: &str) -> u64 {
    let line = line(pid, file, label).unwrap_or_default();
    line.split_whitespace().next().unwrap_or("0").parse().unwrap()
}

/// Stops a process and waits until it runs no more, which the signal alone does not.
pub fn freeze(pid: u32) {
    signal(pid, "STOP");
    until("the process stops", || line(pid, "status", "State:").is_some_and(|state| state.contains('T')));
}
