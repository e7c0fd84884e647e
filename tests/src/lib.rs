//! Harness of the end-to-end tests: a real PostgreSQL cluster, and a database of its own for every test.
//!
//! ```no_run
//! # use kronos_tests::{Database, bars};
//! #[test]
//! fn level_is_a_fraction() {
//!     let db = Database::new("level_is_a_fraction");
//!     db.run(&bars("bars", &["AAA", "BBB"], 200));
//!     db.error("select * from kronos_predict('bars', 4, level => 90)")
//!         .is("22023", "level must be between 0 and 1, got 90")
//!         .hint("did you mean 0.9?");
//! }
//! ```
//!
//! The cluster is the one that `KRONOS_TEST_URI` names (a superuser's URI of a database that serves as the template),
//! or the running one that `KRONOS_TEST_CLUSTER` names, as `make test` does, or else `target/test-cluster`, which the
//! first test starts through `tools/cluster up test-cluster`. Its template database has the extension, the search path of `make up` and the fixture model
//! under the alias `kronos-default`. `make build` comes first: the harness installs what it finds in `target/release`.
//!
//! Tests run in parallel on one server: name roles through [`Database::role`], never write to the cluster's settings
//! (`alter system`), and open a second connection with [`Database::connect`] where a test needs to cancel or to watch.
//! A test that does all that to a server takes a [`PrivateCluster`]. One that hangs is ended after ten minutes.

mod cluster;
mod database;
mod deadline;
mod failure;
mod models;
mod private;
mod rows;
mod trainer;
pub mod worker;

pub use cluster::{Cluster, administer, cluster_folder, project_root, shared_folder};
pub use database::Database;
pub use deadline::{Deadline, end_sessions};
pub use failure::SqlFailure;
pub use models::FixtureModels;
pub use postgres::{Client, NoTls};
pub use private::PrivateCluster;
pub use rows::{Row, rows};
pub use trainer::{TrainedFiles, TrainingWorker};

use std::process::Child;
use std::time::{Duration, Instant};

/// How long [`until`] waits: longer than the minute of pg_cron on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// Waits until a condition holds, looking again all the time.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let since = Instant::now();
    while !condition() {
        assert!(since.elapsed() < PATIENCE, "never happened: {what}");
        // What is waited for needs the processor, too.
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// SQL that makes `table (symbol, ts, open, high, low, close, volume, amount)` with `count` hourly bars for each symbol,
/// the first at 2024-01-01 00:00 UTC.
///
/// Prices are a sum of sines about 100 that differs per symbol: every bar is coherent, no two symbols are alike, and
/// the same call gives the same rows on every machine. Nothing of kronos is used to make them.
pub fn bars(table: &str, symbols: &[&str], count: usize) -> String {
    let symbols = symbols.iter().map(|symbol| format!("'{symbol}'")).collect::<Vec<_>>().join(", ");
    format!(
        "create table {table} (symbol text not null, ts timestamptz not null, open float8, high float8, low float8,
             close float8, volume float8, amount float8, primary key (symbol, ts));
         insert into {table}
         select symbol, ts, open, greatest(open, close) * 1.002, least(open, close) * 0.998, close, volume, volume * close
         from (select s.symbol, timestamptz '2024-01-01 00:00+00' + (i - 1) * interval '1 hour' as ts,
                      price(i - 1, s.number) as open, price(i, s.number) as close,
                      round((1000 + 400 * sin(i * 0.9 + s.number))::numeric, 3)::float8 as volume
               from unnest(array[{symbols}]) with ordinality as s(symbol, number),
                    generate_series(1, {count}) as i) as b;"
    )
    .replace("price(i - 1, s.number)", &price("(i - 1)"))
    .replace("price(i, s.number)", &price("i"))
}

/// A program that is ended with the test even when the test fails.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail where the test has waited for it already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The price after bar `i` of symbol number `s.number`, as a SQL expression rounded to cents.
fn price(i: &str) -> String {
    format!(
        "round((100 * exp(0.03 * sin({i} * 0.05 * s.number) + 0.01 * sin({i} * 0.71 + s.number)
            + 0.004 * sin({i} * 2.3)))::numeric, 2)::float8"
    )
}
