//! The cluster that the tests share.

use crate::deadline::list;
use crate::{SqlFailure, deadline};
use postgres::config::Host;
use postgres::error::SqlState;
use postgres::{Client, Config, NoTls};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long a statement that makes or drops something for a test may take: one that hangs must not hang the others.
const LIMIT: Duration = Duration::from_secs(120);

/// The cluster of this test run and the database that every test's own is copied from.
pub struct Cluster {
    config: Config,
    template: String,
    programs: Option<PathBuf>,
}

/// The root folder of the project.
pub fn project_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a folder of the project")
}

/// The folder of the cluster that `tools/cluster up NAME` makes: below `KRONOS_CLUSTERS` as there, else below `target`.
pub fn cluster_folder(name: &str) -> PathBuf {
    std::env::var_os("KRONOS_CLUSTERS")
        .map_or_else(|| project_root().join("target"), PathBuf::from)
        .join(name)
}

/// The folder `../shared/<path>` beside the project, or `None` where it is absent: the test that asked then returns, and
/// is said to be skipped.
pub fn shared_folder(path: &str) -> Option<PathBuf> {
    let folder = project_root().parent()?.join("shared").join(path);
    if folder.exists() {
        return Some(folder);
    }
    kronos_skip::skipped(&format!("../shared/{path} is absent"), "lay the folder shared beside the clone");
    None
}

impl Cluster {
    /// The cluster of this run, started when it is not running.
    pub fn get() -> &'static Self {
        static CLUSTER: OnceLock<Cluster> = OnceLock::new();
        CLUSTER.get_or_init(Self::find)
    }

    fn find() -> Self {
        let given = std::env::var("KRONOS_TEST_URI").ok();
        // That of `make test` runs already.
        let running = std::env::var("KRONOS_TEST_CLUSTER").ok();
        let name = running.as_deref().unwrap_or("test-cluster");
        let programs = given.is_none().then(|| cluster_folder(name).join("bin"));
        let uri = given.unwrap_or_else(|| {
            if running.is_none() {
                cluster_script("up", name);
            }
            cluster_script("uri", name)
        });
        let config: Config = uri.trim().parse().expect("the cluster has a connection URI");
        let template = config.get_dbname().expect("the URI names the template database").to_owned();
        Self { config, template, programs }
    }

    /// How to connect to a database of the cluster, as its superuser.
    pub fn config(&self, database: &str) -> Config {
        let mut config = self.config.clone();
        config.dbname(database);
        config
    }

    /// The database that tests' databases are copied from.
    pub fn template(&self) -> &str {
        &self.template
    }

    /// A client program of PostgreSQL, such as `psql` or `pg_dump`, that will talk to `database`.
    pub fn program(&self, name: &str, database: &str) -> Command {
        let path = self.programs.as_ref().map_or_else(|| PathBuf::from(name), |folder| folder.join(name));
        let mut command = Command::new(path);
        for (variable, _) in std::env::vars().filter(|(variable, _)| variable.starts_with("PG")) {
            command.env_remove(variable);
        }
        for (name, value) in self.fields(database) {
            let variable =
                if name == "dbname" { "PGDATABASE".to_owned() } else { format!("PG{}", name.to_uppercase()) };
            command.env(variable, value);
        }
        command.env("PGTZ", "UTC").current_dir(project_root());
        command
    }

    /// The connection string of `database` for programs that take one.
    pub fn connection_string(&self, database: &str) -> String {
        let written = |(name, value): (&str, String)| {
            format!("{name}='{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
        };
        self.fields(database).into_iter().map(written).collect::<Vec<_>>().join(" ")
    }

    /// Connection parameters by their names in libpq.
    fn fields(&self, database: &str) -> Vec<(&'static str, String)> {
        let host = self.config.get_hosts().first().map(|host| match host {
            Host::Unix(path) => path.display().to_string(),
            Host::Tcp(name) => name.clone(),
        });
        [
            ("dbname", Some(database.to_owned())),
            ("host", host),
            ("port", self.config.get_ports().first().map(u16::to_string)),
            ("user", self.config.get_user().map(str::to_owned)),
            ("password", self.config.get_password().map(|text| String::from_utf8_lossy(text).into_owned())),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
    }

    /// Runs a statement that makes or drops something for a test.
    #[track_caller]
    pub(crate) fn administer(&self, sql: &str) {
        administer(&self.config("postgres"), sql, LIMIT).unwrap_or_else(|line| panic!("{line}"));
    }

    /// As [`Self::administer`] for what ends with a test, which may be failing already.
    pub(crate) fn tidy(&self, sql: &str) {
        if let Err(line) = administer(&self.config("postgres"), sql, LIMIT) {
            assert!(std::thread::panicking(), "{line}");
            deadline::say(&line);
        }
    }

    /// Ends the sessions of a database, whatever they are at.
    pub(crate) fn end_sessions(&self, database: &str) {
        let expendable = self.programs.is_some();
        deadline::end_sessions(&self.config("postgres"), database, Duration::from_secs(20), expendable);
    }
}

/// Runs a statement as superuser, trying again while others use what it needs.
///
/// # Errors
/// One line when it has not succeeded within `limit`, with the sessions that may be why: dropping a database waits for
/// every session of the server, and whoever makes one waits for that.
pub fn administer(server: &Config, sql: &str, limit: Duration) -> Result<(), String> {
    let since = Instant::now();
    loop {
        let left = limit.saturating_sub(since.elapsed()).max(Duration::from_millis(1)).as_millis();
        let mut client: Client = server.connect(NoTls).map_err(|error| format!("{sql}: {error:?}"))?;
        let attempt = client.simple_query(&format!("set statement_timeout = {left}"));
        let error = match attempt.and_then(|_| client.simple_query(sql)) {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        let busy = error.code() == Some(&SqlState::OBJECT_IN_USE);
        if error.code() == Some(&SqlState::QUERY_CANCELED) || busy && since.elapsed() >= limit {
            let others =
                "from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()
                          and (state <> 'idle' or backend_start < now() - interval '1 minute')";
            let mut client = server.connect(NoTls).map_err(|error| format!("{sql}: {error:?}"))?;
            let others = list(&mut client, others);
            return Err(format!("{sql}: not done within {limit:?}; other sessions: {others}"));
        }
        if !busy {
            return Err(format!("{sql}: {:?}", error.as_db_error().map(|_| SqlFailure::new(&error))));
        }
    }
}

fn cluster_script(action: &str, name: &str) -> String {
    let output = Command::new(project_root().join("tools/cluster"))
        .args([action, name])
        .output()
        .expect("the script tools/cluster can be run");
    assert!(
        output.status.success(),
        "tools/cluster {action} {name}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
