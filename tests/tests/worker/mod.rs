//! The worker's program, run by tests.

// Each test program uses its part of this.
#![allow(dead_code)]

use kronos_tests::{Cluster, Database, project_root};
use kronos_venue::{Protocol, Venue};
use std::io::Write;
use std::process::Command;

/// `kronos-ingest`, told to use the database at `connection`.
pub fn at(connection: &str) -> Command {
    let mut command = Command::new(project_root().join("target/release/kronos-ingest"));
    command.env("KRONOS_DATABASE_URL", connection).env("RUST_LOG", "warn");
    command
}

/// `kronos-ingest`, told to use `db`.
pub fn of(db: &Database) -> Command {
    at(&Cluster::get().connection_string(db.name()))
}

/// What the command prints; the test fails when the command does.
#[track_caller]
pub fn succeed(command: &mut Command) -> String {
    let output = command.output().expect("the program can be run");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}");
    text
}

/// The venue's trades as rows of a table `source`, which is made anew.
pub fn load_source(db: &Database, venue: &Venue) {
    db.run(
        "drop table if exists source;
         create table source (symbol text, trade_id text, event_time timestamptz, price numeric, size numeric,
                              aggressor text, number bigint)",
    );
    let mut client = db.connect();
    let mut copy = client.copy_in("copy source from stdin csv").unwrap();
    for t in &venue.trades {
        let symbol = t.symbol.replace(['-', '/', '^'], "");
        // The stock stream names no side.
        let side = match venue.protocol {
            Protocol::Alpaca => "",
            _ if t.is_buy => "buy",
            _ => "sell",
        };
        let (day, second, micro) =
            (t.micros / 86_400_000_000, t.micros / 1_000_000 % 86_400, t.micros % 1_000_000);
        let time = format!("{:02}:{:02}:{:02}.{micro:06}", second / 3_600, second / 60 % 60, second % 60);
        // 2023-11-01 is day 19662.
        writeln!(
            copy,
            "{symbol},{},2023-11-{:02} {time}+00,{},{},{side},{}",
            venue.protocol.trade_id(t),
            day - 19_661,
            t.price,
            t.size,
            t.id
        )
        .unwrap();
    }
    copy.finish().unwrap();
}

/// Trades that the venue published and the table lacks, and the reverse, each as often as it is there.
pub const DIFFERENCE: &str = "
    select format('%s missing, %s surplus',
      (select count(*) from (select symbol, trade_id, event_time, price::text, size::text, aggressor from source
         except all select symbol, trade_id, event_time, price::text, size::text, aggressor from market.trades) as a),
      (select count(*) from (select symbol, trade_id, event_time, price::text, size::text, aggressor from market.trades
         except all select symbol, trade_id, event_time, price::text, size::text, aggressor from source) as b))";

/// A database of its own with the tables of `sql/`.
pub fn migrated(test: &str) -> Database {
    let db = Database::new(test);
    succeed(of(&db).arg("migrate"));
    db
}
