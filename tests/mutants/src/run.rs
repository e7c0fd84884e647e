//! Building the copy and running tests in it.

use crate::Result;
use crate::table::Needs;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Tests that take this many times what they take without a fault hang.
const PATIENCE: u32 = 10;
/// What a run may take at least: the machine may have other work.
const LEAST: Duration = Duration::from_secs(120);
/// What a build may take before something is wrong with the machine.
const BUILD: Duration = Duration::from_secs(3600);

/// The crates of the workspace, which are built anew for every mutant: what counts is the time to build them.
const QUICKLY_BUILT: [&str; 10] = [
    "kronos",
    "kronos-allocation",
    "kronos-engine",
    "kronos-ingest",
    "kronos-job",
    "kronos-models",
    "kronos-tests",
    "kronos-train",
    "kronos-training",
    "kronos-venue",
];

/// What came of tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every test passed.
    Passed,
    /// A test failed, or hung.
    Failed,
    /// It does not compile.
    NotBuilt,
    /// No test has this name.
    NoTest,
}

/// Runs tests in a folder that is a copy of the project.
pub struct Runner {
    root: PathBuf,
    log: PathBuf,
    /// What each run takes without a fault.
    usual: HashMap<String, Duration>,
    /// Connects tests with the cluster of the copy, once it has been started.
    uri: Option<String>,
}

impl Runner {
    /// A runner for the copy at `root`; what its programs print goes to `log`.
    ///
    /// # Errors
    ///
    /// What the build needs is not there.
    pub fn new(root: &Path, log: PathBuf) -> Result<Self> {
        let runner = Self { root: root.into(), log, usual: HashMap::new(), uri: None };
        if !runner.succeeds("tools/setup", BUILD)? {
            return Err(format!("tools/setup failed, see {}", runner.log.display()).into());
        }
        Ok(runner)
    }

    /// Runs tests where there is no fault, and remembers how long they take.
    ///
    /// # Errors
    ///
    /// They do not pass, so that their failure would say nothing; or there is none of this name.
    pub fn measure(&mut self, tests: &str, needs: Needs) -> Result<()> {
        if self.usual.contains_key(tests) {
            return Ok(());
        }
        if !self.build(tests, needs)? {
            return Err(format!("{tests}: does not build, see {}", self.log.display()).into());
        }
        let since = Instant::now();
        match self.test(tests)? {
            Outcome::Passed => {
                self.usual.insert(tests.into(), since.elapsed());
                Ok(())
            }
            Outcome::NoTest => Err(format!("{tests}: there is no such test").into()),
            Outcome::Failed | Outcome::NotBuilt => {
                Err(format!("{tests}: fails without a fault, see {}", self.log.display()).into())
            }
        }
    }

    /// Builds and runs tests with what the copy holds now.
    ///
    /// # Errors
    ///
    /// A program cannot be started.
    pub fn run(&mut self, tests: &str, needs: Needs) -> Result<Outcome> {
        if self.build(tests, needs)? { self.test(tests) } else { Ok(Outcome::NotBuilt) }
    }

    /// Stops the cluster.
    ///
    /// # Errors
    ///
    /// The script cannot be run.
    pub fn finish(&mut self) -> Result<()> {
        if self.uri.take().is_some() {
            self.succeeds("tools/cluster down test-mutants", BUILD)?;
        }
        Ok(())
    }

    fn build(&mut self, tests: &str, needs: Needs) -> Result<bool> {
        if needs == Needs::Server {
            if !self.succeeds(&cargo("build", ""), BUILD)? {
                return Ok(false);
            }
            // A fault can keep the server from starting: whoever waits for an answer notices that.
            if self.succeeds("tools/cluster up test-mutants", LEAST)? && self.uri.is_none() {
                let output = Command::new("tools/cluster")
                    .args(["uri", "test-mutants"])
                    .current_dir(&self.root)
                    .output()?;
                self.uri = Some(String::from_utf8(output.stdout)?.trim().to_owned());
            }
        }
        self.succeeds(&cargo("test", &format!("--no-run {tests}")), BUILD)
    }

    fn test(&self, tests: &str) -> Result<Outcome> {
        let limit = self.usual.get(tests).map_or(BUILD, |usual| (*usual * PATIENCE).max(LEAST));
        let before = fs::metadata(&self.log).map_or(0, |metadata| metadata.len());
        let passed = self.succeeds(&cargo("test", tests), limit)?;
        let mut printed = Vec::new();
        let mut log = File::open(&self.log)?;
        log.seek(SeekFrom::Start(before))?;
        log.read_to_end(&mut printed)?;
        let ran = String::from_utf8_lossy(&printed)
            .lines()
            .filter_map(|line| line.strip_prefix("test result: ok. "))
            .any(|line| !line.starts_with("0 passed"));
        Ok(match (passed, ran) {
            (true, true) => Outcome::Passed,
            (true, false) => Outcome::NoTest,
            (false, _) => Outcome::Failed,
        })
    }

    /// Whether a line of shell ends well within `limit`; what takes longer is ended with all that it started.
    fn succeeds(&self, line: &str, limit: Duration) -> Result<bool> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new("bash");
        command
            .args(["-c", &format!(". tools/env.sh && require_postgres && {line}")])
            .current_dir(&self.root)
            .env("CARGO_INCREMENTAL", "1")
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("KRONOS_CLUSTERS")
            .env_remove("KRONOS_TEST_URI")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        if let Some(uri) = &self.uri {
            command.env("KRONOS_TEST_URI", uri);
        }
        // Without a reaper of its own the process group would outlive this program.
        let mut child = Group(command.spawn()?);
        let since = Instant::now();
        loop {
            if let Some(status) = child.0.try_wait()? {
                return Ok(status.success());
            }
            if since.elapsed() > limit {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A process and all that it started, ended together.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = rustix::process::Pid::from_raw(self.0.id().cast_signed()) {
            // Nothing is left of a group that ended by itself.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.0.wait();
    }
}

/// A call of cargo that shares every dependency with `make build`.
fn cargo(command: &str, arguments: &str) -> String {
    let quickly: String = QUICKLY_BUILT
        .iter()
        .map(|name| format!("profile.release.package.{name}"))
        .map(|profile| format!(" --config {profile}.opt-level=1 --config {profile}.debug=false"))
        .collect();
    // Beside `--workspace` cargo passes over `-p`, and `--lib` would build every library of the workspace.
    let which = if arguments.contains("-p ") { "" } else { " --workspace --features kronos/pg$pg_version" };
    format!("cargo {command} --release --locked{which}{quickly} {arguments}")
}
