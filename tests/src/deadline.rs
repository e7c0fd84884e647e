//! What ends a test that hangs. It is no proof of speed: a test that passes comes nowhere near it.

use crate::rows::rows;
use postgres::{Client, Config, NoTls};
use std::io::Write;
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// What those set who want tests of hours.
const ON_REQUEST: [&str; 3] = ["KRONOS_BENCH", "KRONOS_HEAVY", "KRONOS_STORM_SECONDS"];

/// How long a test may take on a machine that is busy with others.
pub fn limit() -> Duration {
    let requested = ON_REQUEST.iter().any(|variable| std::env::var_os(variable).is_some());
    Duration::from_secs(if requested { 6 * 3600 } else { 600 })
}

/// How long what a deadline does may take.
const LAST: Duration = Duration::from_secs(120);

/// Until it is dropped, a time is set for something.
pub struct Deadline(#[allow(dead_code)] Sender<()>); // its end is the message

impl Deadline {
    /// Calls `end` if this still exists after `limit`, and gives the program up if that does not help either.
    pub fn new(limit: Duration, end: impl FnOnce() + Send + 'static) -> Self {
        let (holder, ended) = channel();
        std::thread::spawn(move || {
            if ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                end();
                if ended.recv_timeout(LAST) == Err(RecvTimeoutError::Timeout) {
                    say("a test hangs although what it waits for was ended; the others are given up");
                    std::process::exit(1);
                }
            }
        });
        Self(holder)
    }
}

/// One line past the capture of test output: the test it is about may never end.
pub fn say(line: &str) {
    // Nobody can be told that standard error is closed.
    let _ = writeln!(std::io::stderr(), "kronos-tests: {line}");
}

/// Ends the sessions of a database, saying what they were at. Those that do not heed it within `patience` are killed
/// where `expendable` says that their server is one of the tests' own.
pub fn end_sessions(server: &Config, database: &str, patience: Duration, expendable: bool) {
    let mut client = match server.connect(NoTls) {
        Ok(client) => client,
        Err(error) => return say(&format!("{database}: its sessions cannot be ended: {error}")),
    };
    let sessions = format!("from pg_stat_activity where datname = '{database}' and pid <> pg_backend_pid()");
    say(&format!("{database} takes too long, its sessions are ended: {}", list(&mut client, &sessions)));
    rows(&mut client, &format!("select pg_terminate_backend(pid) {sessions}"));
    let left = format!("select pid {sessions}");
    let since = Instant::now();
    while since.elapsed() < patience {
        if rows(&mut client, &left).is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let deaf = list(&mut client, &sessions);
    if deaf.is_empty() {
        return;
    }
    if !expendable {
        return say(&format!(
            "{database}: sessions do not heed their termination, restart the server: {deaf}"
        ));
    }
    say(&format!("{database}: sessions do not heed their termination and are killed: {deaf}"));
    for pid in rows(&mut client, &left).into_iter().flatten().flatten() {
        let _ = Command::new("kill").args(["-KILL", &pid]).status();
    }
}

/// Sessions in words.
pub fn list(client: &mut Client, sessions: &str) -> String {
    let words = "pid || ' ' || coalesce(state, backend_type) || coalesce(' (' || wait_event_type || ')', '') || ': ' ||
                 left(regexp_replace(query, '\\s+', ' ', 'g'), 120)";
    let found =
        rows(client, &format!("select coalesce(string_agg({words}, '; ' order by pid), '') {sessions}"));
    found.into_iter().flatten().flatten().collect()
}
