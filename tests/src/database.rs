//! A database that belongs to one test.

use crate::deadline::{Deadline, limit};
use crate::rows::{Row, rows};
use crate::{Cluster, SqlFailure};
use postgres::{Client, NoTls};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A fresh copy of the template database, dropped at the end of the test with the roles that it made.
pub struct Database {
    name: String,
    roles: Mutex<Vec<String>>,
    _deadline: Deadline,
}

impl Database {
    /// A database of its own for the test called `test`.
    pub fn new(test: &str) -> Self {
        Self::within(test, limit())
    }

    /// As [`Database::new`], for a test that is ended when it takes longer than `limit`.
    pub fn within(test: &str, limit: Duration) -> Self {
        let cluster = Cluster::get();
        let name = unique(test);
        cluster.administer(&format!("create database {name} template {}", quote(cluster.template())));
        // Settings of a database are not copied with it.
        cluster.administer(&format!(
            r#"alter database {name} set search_path = "$user", public, kronos, market, trading"#
        ));
        Self::made(name, limit)
    }

    fn made(name: String, limit: Duration) -> Self {
        let sessions = name.clone();
        let deadline = Deadline::new(limit, move || Cluster::get().end_sessions(&sessions));
        Self { name, roles: Mutex::default(), _deadline: deadline }
    }

    /// A database of its own with the tables of `sql/`, made by psql: the files as they are, whatever is built.
    #[track_caller]
    pub fn installed(test: &str) -> Self {
        let db = Self::new(test);
        let output =
            db.program("psql").args(["-X", "-q", "-f", "sql/install.sql"]).output().expect("psql can be run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        db
    }

    /// An empty database without the extension, for tests of dump, restore and creation.
    pub fn empty(test: &str) -> Self {
        let name = unique(test);
        Cluster::get().administer(&format!("create database {name} template template0"));
        Self::made(name, limit())
    }

    /// The name of the database.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A connection of its own, as superuser.
    pub fn connect(&self) -> Client {
        Cluster::get().config(&self.name).connect(NoTls).expect("the test's database accepts connections")
    }

    /// A connection of its own, as `role` (made by [`Database::role`]).
    pub fn connect_as(&self, role: &str) -> Client {
        Cluster::get().config(&self.name).user(role).connect(NoTls).expect("the role can log in")
    }

    /// A connection as superuser beside the list to which each notice and warning is added, as `WARNING: message`.
    pub fn connect_with_notices(&self) -> (Client, Arc<Mutex<Vec<String>>>) {
        let notices = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&notices);
        let mut config = Cluster::get().config(&self.name);
        config.notice_callback(move |notice| {
            sink.lock().unwrap().push(format!("{}: {}", notice.severity(), notice.message()));
        });
        (config.connect(NoTls).expect("the test's database accepts connections"), notices)
    }

    /// Makes a login role without privileges and returns its name, unique in the cluster.
    pub fn role(&self, name: &str) -> String {
        let role = unique(name);
        Cluster::get().administer(&format!("create role {role} login"));
        self.roles.lock().unwrap().push(role.clone());
        role
    }

    /// Runs statements that must succeed, in one connection.
    #[track_caller]
    pub fn run(&self, sql: &str) {
        self.connect().batch_execute(sql).unwrap_or_else(|error| panic!("{sql}\n{error:?}"));
    }

    /// Rows of the last statement of `sql` that returns any.
    #[track_caller]
    pub fn rows(&self, sql: &str) -> Vec<Row> {
        rows(&mut self.connect(), sql)
    }

    /// The single value that `sql` returns; NULL gives the empty string.
    #[track_caller]
    pub fn value(&self, sql: &str) -> String {
        let rows = self.rows(sql);
        assert!(rows.len() == 1 && rows[0].len() == 1, "{sql}\nreturned {} rows: {rows:?}", rows.len());
        rows[0][0].clone().unwrap_or_default()
    }

    /// The error that `sql` raises; fails when it succeeds.
    #[track_caller]
    pub fn error(&self, sql: &str) -> SqlFailure {
        self.error_in(&mut self.connect(), sql)
    }

    /// The error that `sql` raises in a given connection.
    #[track_caller]
    pub fn error_in(&self, client: &mut Client, sql: &str) -> SqlFailure {
        match client.simple_query(sql) {
            Ok(_) => panic!("{sql}\ndid not fail"),
            Err(error) => SqlFailure::new(&error),
        }
    }

    /// Copies a CSV file with a header into the columns of `table` that it names.
    #[track_caller]
    pub fn copy_csv(&self, table: &str, path: &Path) {
        let text =
            std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let columns = text.lines().next().expect("the file has a header");
        let mut client = self.connect();
        let mut writer = client.copy_in(&format!("copy {table} ({columns}) from stdin csv header")).unwrap();
        writer.write_all(text.as_bytes()).unwrap();
        writer.finish().unwrap_or_else(|error| panic!("{}: {error:?}", path.display()));
    }

    /// A client program of PostgreSQL that will talk to this database.
    pub fn program(&self, name: &str) -> Command {
        Cluster::get().program(name, &self.name)
    }

    /// What psql prints for `script`, standard output and errors together, up to its first error.
    pub fn psql(&self, script: &str) -> String {
        let mut child = self
            .program("psql")
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("psql can be run");
        child
            .stdin
            .take()
            .expect("the input is a pipe")
            .write_all(script.as_bytes())
            .expect("psql reads its script");
        let output = child.wait_with_output().expect("psql ends");
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let cluster = Cluster::get();
        cluster.tidy(&format!("drop database {} with (force)", self.name));
        for role in self.roles.lock().unwrap().iter() {
            cluster.tidy(&format!("drop role {role}"));
        }
    }
}

/// A name that no other test of this or another process uses, within the 63 bytes of an identifier.
fn unique(name: &str) -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(40).collect();
    format!("t_{}_{}_{}", name.to_lowercase(), std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

fn quote(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}
