//! The writer between its queue, its disk and a database that refuses rows or goes away.

use std::path::Path;

use kronos_ingest::{
    error::Result,
    kinds::{Record, Trade},
    store::{Batch, CursorMove, Limits, SessionRow, Sink, Spill, Writer, Written},
};
use kronos_tests::{Cluster, NoTls, until};

use crate::{at, database::Tables, quote, trade, trades};

/// Runs a writer until all of `batches`, and what lies on its disk, is stored.
fn write(
    database: kronos_ingest::postgres::Database,
    spill: Option<Spill>,
    batches: Vec<Batch>,
) -> Result<Written> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let limits = Limits::default();
        let (sink, queue) = Sink::channel(limits);
        for batch in batches {
            sink.send(batch).await?;
        }
        drop(sink);
        let writer = Writer::new(database, limits);
        let writer = match spill {
            Some(spill) => writer.with_spill(spill),
            None => writer,
        };
        writer.run(queue).await
    })
}

fn spill(folder: &Path) -> Spill {
    Spill::open(folder, 1 << 20).unwrap()
}

/// Numbers of the stored trades.
fn stored(tables: &Tables) -> Vec<String> {
    tables.rows("select sequence from market.trades order by sequence")
}

#[test]
fn what_waits_on_disk_is_stored_before_what_comes_now() {
    let tables = Tables::new("writer_order");
    let folder = tempfile::tempdir().unwrap();
    let mut spill = spill(folder.path());
    // The same trade twice: the first of the two that is stored stays.
    assert!(spill.push(&[trades("coinbase", [Trade { received_at: at(10), ..trade(1) }])]).unwrap());
    let later = trades("coinbase", [Trade { received_at: at(20), ..trade(1) }]);
    write(tables.database(), Some(spill), vec![later]).unwrap();
    let received = "select extract(epoch from received_at)::bigint - 1700000000 from market.trades";
    assert_eq!(tables.rows(received), ["10"]);
}

#[test]
fn one_refused_row_is_quarantined_and_all_others_are_stored() {
    let tables = Tables::new("writer_refused");
    // No text of PostgreSQL holds NUL, but JSON of a venue may.
    let refused = Trade { venue: Some("\0".to_owned()), ..trade(4) };
    let rows = (1..=5).map(|id| if id == 4 { refused.clone() } else { trade(id) });
    write(tables.database(), None, vec![trades("coinbase", rows)]).unwrap();
    assert_eq!(stored(&tables), ["1", "2", "3", "5"]);
    let quarantined = tables.rows(
        r#"select feed, reason like '%(SQLSTATE 22021)%', payload like '%"trade_id":"4"%',
                  received_at = to_timestamp(1700000004)
           from market.rejected_rows"#,
    );
    assert_eq!(quarantined, ["coinbase t t t"]);
}

#[test]
fn a_position_is_stored_with_the_last_of_the_rows_that_prove_it() {
    let tables = Tables::new("writer_position");
    // Refused rows make the writer store what came together in parts, and then nothing can be stored any more: the quarantine
    // takes one row only.
    tables.rows(
        "create function refuse() returns trigger language plpgsql as $$
         begin
           if new.trade_id in ('1', '4') then raise exception 'bad row' using errcode = 'check_violation'; end if;
           return new;
         end $$;
         create trigger refuse before insert on market.trades for each row execute function refuse();
         create function close() returns trigger language plpgsql as $$
         begin
           if exists (select from market.rejected_rows) then
             raise exception 'no access' using errcode = 'insufficient_privilege';
           end if;
           return new;
         end $$;
         create trigger close before insert on market.rejected_rows for each row execute function close()",
    );
    let mut batch = trades("coinbase", (1..=4).map(trade));
    batch.cursors = vec![CursorMove {
        channel: "trades".to_owned(),
        symbol: "AAA".to_owned(),
        sequence: 4,
        event_time: Some(at(4)),
    }];
    let failure = write(tables.database(), None, vec![batch]).unwrap_err();
    assert!(failure.to_string().contains("no access"), "{failure}");
    assert_eq!(stored(&tables), ["2", "3"]);
    assert_eq!(tables.rows("select * from market.feed_cursors"), [""; 0], "a worker that resumes asks again");
}

#[test]
fn a_writer_whose_session_the_server_ends_stores_its_rows_in_the_next_one() {
    let tables = Tables::new("writer_ended");
    let database = tables.database();
    let mut other = tables.connect();
    let mut lock = other.transaction().unwrap();
    lock.batch_execute("lock table market.trades in exclusive mode").unwrap();
    let writing =
        std::thread::spawn(move || write(database, None, vec![trades("coinbase", (1..=3).map(trade))]));
    // The operator ends the session amid its statement.
    let ended = "select pg_terminate_backend(pid) from pg_stat_activity
                 where datname = current_database() and wait_event_type = 'Lock' and query like '%staging_trades%'";
    until("the writer waits for the table", || tables.rows(ended) == ["t"]);
    lock.rollback().unwrap();
    writing.join().unwrap().unwrap();
    assert_eq!(stored(&tables), ["1", "2", "3"]);
}

#[test]
fn what_the_server_refuses_for_now_is_tried_again() {
    // serialization_failure, deadlock_detected, lock_not_available, query_canceled, read_only_sql_transaction (a standby
    // that becomes the primary), too_many_connections, disk_full, io_error, connection_failure, cannot_connect_now
    let states = ["40001", "40P01", "55P03", "57014", "25006", "53300", "53100", "58030", "08006", "57P03"];
    let tables = Tables::new("writer_again");
    // What a sequence counts is not taken back with the transaction.
    tables.rows(
        "create sequence attempts;
         create table refusals (number bigint primary key, state text);
         create function refuse() returns trigger language plpgsql as $$
         declare
           attempt bigint := nextval('attempts');
           refusal text := (select state from refusals where number = attempt);
         begin
           if refusal is not null then raise exception 'not now' using errcode = refusal; end if;
           return new;
         end $$;
         create trigger refuse before insert on market.trades for each row execute function refuse()",
    );
    for (number, state) in states.iter().enumerate() {
        let place = 2 * number + 1;
        tables.rows(&format!("insert into refusals values ({place}, '{state}')"));
        let id = i64::try_from(number).unwrap();
        write(tables.database(), None, vec![trades("coinbase", [trade(id)])]).expect(state);
        assert_eq!(stored(&tables).len(), number + 1, "{state}");
    }
    assert_eq!(tables.rows("select last_value from attempts"), ["20"]);
}

#[test]
fn what_the_server_will_never_take_is_put_aside_and_holds_up_nobody() {
    let tables = Tables::new("writer_never");
    // TimescaleDB refuses what makes it decompress too much; a retry meets the same limit.
    tables.rows(
        "create function refuse() returns trigger language plpgsql as $$
         begin raise exception 'tuple decompression limit exceeded' using errcode = 'configuration_limit_exceeded'; end $$;
         create trigger refuse before insert on market.quotes for each row execute function refuse()",
    );
    let quote = |id| Record::Quote(quote(id));
    let mut first = trades("alpaca", (1..=5).map(trade));
    first.records.insert(2, quote(1));
    first.records.push(quote(2));
    let mut second = trades("alpaca", [trade(6)]);
    second.records.insert(0, quote(3));
    second.cursors = vec![CursorMove {
        channel: "trades".to_owned(),
        symbol: "AAA".to_owned(),
        sequence: 6,
        event_time: Some(at(6)),
    }];
    let written = write(tables.database(), None, vec![first, second]).unwrap();
    assert_eq!((written.stored, written.rejected), (6, 3));
    assert_eq!(stored(&tables), ["1", "2", "3", "4", "5", "6"]);
    assert_eq!(tables.rows("select sequence from market.feed_cursors"), ["6"]);
    let quarantined = tables.rows(
        r#"select feed, reason like 'tuple decompression limit exceeded (SQLSTATE 53400)%', payload::json -> 'Quote' ->> 'bid'
           from market.rejected_rows order by 3"#,
    );
    assert_eq!(quarantined, ["alpaca t 1", "alpaca t 2", "alpaca t 3"]);
}

#[test]
fn a_limit_that_a_part_of_the_rows_does_not_meet_costs_no_row() {
    let tables = Tables::new("writer_limit");
    // As a limit on what one statement may touch.
    tables.rows(
        "create function refuse() returns trigger language plpgsql as $$
         begin
           if (select count(*) from new) > 3 then
             raise exception 'too many' using errcode = 'configuration_limit_exceeded';
           end if;
           return null;
         end $$;
         create trigger refuse after insert on market.trades referencing new table as new
           for each statement execute function refuse()",
    );
    let written = write(tables.database(), None, vec![trades("coinbase", (1..=20).map(trade))]).unwrap();
    assert_eq!((written.stored, written.rejected), (20, 0));
    assert_eq!(tables.rows("select count(*) from market.trades"), ["20"]);
}

#[test]
fn what_takes_longer_than_the_server_allows_is_written_in_parts() {
    let tables = Tables::new("writer_slow");
    // A hundred rows take three times as long as a statement may.
    tables.rows(
        "create function wait() returns trigger language plpgsql as $$
         begin perform pg_sleep(0.03); return new; end $$;
         create trigger wait before insert on market.trades for each row execute function wait()",
    );
    let name = tables.rows("select current_database()").remove(0);
    tables.rows(&format!("alter database {name} set statement_timeout = '1s'"));
    let written = write(tables.database(), None, vec![trades("coinbase", (1..=100).map(trade))]).unwrap();
    assert_eq!((written.stored, written.rejected), (100, 0));
    assert_eq!(tables.rows("select count(*) from market.trades"), ["100"]);
}

#[test]
fn a_writer_ends_only_when_all_that_came_is_stored() {
    let tables = Tables::new("writer_away");
    let admit = |admitted: bool| {
        let name = tables.rows("select current_database()").remove(0);
        let mut client = Cluster::get().config("postgres").connect(NoTls).unwrap();
        client.batch_execute(&format!("alter database {name} allow_connections {admitted}")).unwrap();
    };
    let folder = tempfile::tempdir().unwrap();
    let (database, disk) = (tables.database(), spill(folder.path()));
    let file = folder.path().join("kronos-ingest.spill");
    let waiting = || std::fs::metadata(&file).unwrap().len() > 0;
    admit(false);
    let batches = (1..=3).map(|id| trades("coinbase", [trade(id)])).collect();
    let writing = std::thread::spawn(move || write(database, Some(disk), batches));
    until("the rows wait on the disk", waiting);
    admit(true);
    writing.join().unwrap().unwrap();
    assert_eq!(stored(&tables), ["1", "2", "3"]);
    assert!(!waiting());
}

#[test]
fn a_spill_cut_anywhere_loses_nothing_that_the_feed_brings_again() {
    let tables = Tables::new("writer_cut");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kronos-ingest.spill");
    let mut state = 7u64;
    for round in 0..100 {
        let ids = |range: std::ops::Range<i64>| range.map(move |id| trade(round * 10 + id));
        let mut killed = spill(folder.path());
        assert!(killed.push(&[trades("coinbase", ids(1..3)), trades("coinbase", ids(3..6))]).unwrap());
        drop(killed);
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let length = path.metadata().unwrap().len();
        std::fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len((state >> 33) % (length + 1))
            .unwrap();
        // The next worker finds what is left, its feed begins again where the last transaction ended, and goes on.
        let batches = vec![trades("coinbase", ids(1..6)), trades("coinbase", ids(6..9))];
        let mut next = spill(folder.path());
        assert!(next.push(&batches).unwrap());
        write(tables.database(), Some(next), Vec::new()).unwrap();
    }
    let source: Vec<String> =
        (0..100).flat_map(|round| (1..9).map(move |id| (round * 10 + id).to_string())).collect();
    assert_eq!(stored(&tables), source);
}

#[test]
fn bookkeeping_that_cannot_be_stored_is_quarantined_and_stops_nobody() {
    let tables = Tables::new("writer_bookkeeping");
    let session = |reason: &str| SessionRow {
        url: "wss://venue\0".to_owned(),
        opened_at: at(1),
        closed_at: Some(at(2)),
        close_code: Some(1011),
        close_reason: Some(reason.to_owned()),
        frames: 1,
        bytes: 1,
        last_frame_at: None,
    };
    // What a venue says when it closes is cleaned; a row that the table refuses all the same is put aside.
    let closed = Batch { sessions: vec![session("bye\0\u{1b}[2J")], ..trades("coinbase", [trade(1)]) };
    write(tables.database(), None, vec![closed]).unwrap();
    assert_eq!(
        tables.rows("select url || close_reason from market.feed_sessions"),
        ["wss://venue\u{fffd}bye\u{fffd}\u{fffd}[2J"]
    );
    tables.rows("alter table market.feed_sessions add check (frames < 100)");
    let refused = SessionRow { frames: 100, opened_at: at(3), ..session("") };
    let cursor =
        CursorMove { channel: "trades".to_owned(), symbol: "AAA".to_owned(), sequence: 2, event_time: None };
    let batch = Batch { sessions: vec![refused], cursors: vec![cursor], ..trades("coinbase", [trade(2)]) };
    write(tables.database(), None, vec![batch, trades("coinbase", [trade(3)])]).unwrap();
    assert_eq!(stored(&tables), ["1", "2", "3"]);
    assert_eq!(tables.rows("select sequence from market.feed_cursors"), ["2"]);
    assert_eq!(tables.rows(r#"select payload like '%"frames":100%', reason like '%(SQLSTATE 23514)%' from market.rejected_rows"#), ["t t"]);
}
