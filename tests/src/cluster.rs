//! The cluster that the tests share.

use postgres::config::Host;
use postgres::{Client, Config, NoTls};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

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

/// The folder of the cluster that `.ci/cluster up NAME` makes: below `KRONOS_CLUSTERS` as there, else below `target`.
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
        const NAME: &str = "test-cluster";
        let given = std::env::var("KRONOS_TEST_URI").ok();
        let programs = given.is_none().then(|| cluster_folder(NAME).join("bin"));
        let uri = given.unwrap_or_else(|| {
            cluster_script("up", NAME);
            cluster_script("uri", NAME)
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

    pub(crate) fn administer(&self, sql: &str) {
        let mut client: Client =
            self.config("postgres").connect(NoTls).expect("the cluster accepts connections");
        client.batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
}

fn cluster_script(action: &str, name: &str) -> String {
    let output = Command::new(project_root().join(".ci/cluster"))
        .args([action, name])
        .output()
        .expect("the script .ci/cluster can be run");
    assert!(
        output.status.success(),
        ".ci/cluster {action} {name}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
