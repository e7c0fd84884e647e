//! The worker's program, run by tests.

use crate::{Cluster, Database, Running, cluster_folder, project_root, rows, until};
use kronos_venue::{Protocol, Venue};
use std::collections::HashSet;
use std::io::Write;
use std::process::{Child, Command};
use std::time::Duration;

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

/// What `tools/cluster ACTION NAME` prints, for clusters that belong to one test.
#[track_caller]
pub fn cluster(action: &str, name: &str) -> String {
    let output = cluster_command(action, name).output().expect("the script can be run");
    assert!(output.status.success(), "{action}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Stops a cluster and removes its files, which a test that failed leaves: the log of the server may say why.
pub fn remove_cluster(name: &str) {
    let stopped = cluster_command("down", name).status().is_ok_and(|status| status.success());
    if stopped && !std::thread::panicking() {
        let folder = cluster_folder(name);
        // Where the server's user cannot enter the project, this is a link to where he can.
        if let Ok(files) = folder.canonicalize() {
            std::fs::remove_dir_all(files).ok();
        }
        std::fs::remove_file(folder).ok();
    }
}

fn cluster_command(action: &str, name: &str) -> Command {
    let mut command = Command::new(project_root().join("tools/cluster"));
    command.args([action, name]);
    command
}

/// Tells the program to stop as an operator does; the test fails when it does not end well.
#[track_caller]
pub fn terminate(mut program: Running) {
    Command::new("kill").arg(program.0.id().to_string()).status().expect("signals can be sent");
    assert!(program.0.wait().expect("the program ends").success(), "the worker drains and exits cleanly");
}

/// Waits until `sql` gives `value`, and leaves the processors to the programs whose work that is.
#[track_caller]
pub fn wait_for(db: &Database, sql: &str, value: &str) {
    let mut client = db.connect();
    until(&format!("{sql} gives {value}"), || {
        let found = rows(&mut client, sql).remove(0).remove(0);
        let arrived = found.as_deref() == Some(value);
        if !arrived {
            std::thread::sleep(Duration::from_millis(20));
        }
        arrived
    });
}

/// Calls `test` for all of `cases` at once, because the worker mostly waits: for the pace of a venue and for its limits.
pub fn at_once<T: Send>(cases: impl IntoIterator<Item = T>, test: impl Fn(T) + Sync) {
    let test = &test;
    std::thread::scope(|scope| {
        for case in cases {
            scope.spawn(move || test(case));
        }
    });
}

/// The TCP port that a program listens on: it asks the system for a free one, so that no other program can have it.
pub fn listening_port(program: &Child) -> u16 {
    let process = format!("/proc/{}", program.id());
    let listening = || {
        let files = std::fs::read_dir(format!("{process}/fd")).ok()?;
        let links = files.flatten().filter_map(|file| std::fs::read_link(file.path()).ok());
        let sockets: HashSet<String> = links
            .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
            .collect();
        // Number, local address, remote address, state (0A listens), …, the tenth is the socket.
        let table = std::fs::read_to_string(format!("{process}/net/tcp")).ok()?;
        table.lines().find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let port = fields.get(1)?.rsplit(':').next()?;
            let is_ours = *fields.get(3)? == "0A" && sockets.contains(*fields.get(9)?);
            is_ours.then(|| u16::from_str_radix(port, 16).ok()).flatten()
        })
    };
    let mut port = None;
    until("the program listens", || {
        port = listening();
        port.is_some()
    });
    port.expect("the condition holds")
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
