//! Schema `market`: the set-up, bars built from trades, roles, validators, and forecasts from what is stored.

mod derived;
mod invariant;
mod social;

use kronos_tests::worker::{self, migrated, succeed};
use kronos_tests::{Database, project_root, shared_folder};
use rust_decimal::Decimal;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write as _;
use std::path::Path;

/// Everything the set-up makes, in one text.
const OBJECTS: &str = "
    select string_agg(line, e'\\n' order by line) from (
      select format('%s %s %s', c.relkind, c.relname, coalesce(pg_get_viewdef(c.oid), '')) as line
      from pg_class c where c.relnamespace = 'market'::regnamespace
      union all
      select format('%s.%s %s %s', a.attrelid::regclass, a.attname, a.atttypid::regtype, a.attnotnull)
      from pg_attribute a join pg_class c on c.oid = a.attrelid
      where c.relnamespace = 'market'::regnamespace and a.attnum > 0
      union all
      select pg_get_functiondef(p.oid) from pg_proc p where p.pronamespace = 'market'::regnamespace) as objects";

#[test]
fn both_doors_make_the_same_objects_and_may_be_used_again() {
    let by_worker = migrated("setup_by_worker");
    let first = by_worker.value(OBJECTS);
    succeed(worker::of(&by_worker).arg("migrate"));
    assert_eq!(by_worker.value(OBJECTS), first);

    let by_psql = Database::new("setup_by_psql");
    for _ in 0..2 {
        succeed(by_psql.program("psql").args(["-X", "-q", "-f", "sql/install.sql"]));
    }
    assert_eq!(by_psql.value(OBJECTS), first);
    let list = std::fs::read_to_string(project_root().join("sql/install.sql")).unwrap();
    let files = list.lines().filter_map(|line| line.strip_prefix("\\ir market/")).count();
    assert_eq!(
        by_psql.value("select count(*) from market.installed_files where file like 'market/%'"),
        files.to_string(),
        "each file says that it was run"
    );
}

#[test]
fn an_older_set_up_is_refused_over_a_newer_one() {
    let db = Database::installed("setup_older");
    db.run("update market.installed_files set version = 99 where file = 'market/ticks.sql'");
    db.error("call market.require_not_newer('market/ticks.sql', 1)")
        .is("55000", "set-up file \"market/ticks.sql\" has version 1 but version 99 is installed")
        .hint("newer release");
}

#[test]
fn every_table_and_column_is_described() {
    let db = Database::installed("setup_comments");
    let lacking = db.rows(
        "select c.oid::regclass, a.attname
         from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
         where c.relnamespace::regnamespace::text = any ('{kronos,ledger,market,trading,training}'::text[])
           and c.relkind in ('r', 'p', 'v', 'm')
           and (obj_description(c.oid, 'pg_class') is null or col_description(c.oid, a.attnum) is null)
         order by 1, a.attnum",
    );
    assert!(lacking.is_empty(), "{lacking:?}");
}

#[test]
fn readers_read_ingestors_write_and_neither_deletes() {
    let db = Database::installed("setup_roles");
    let (reader, ingestor) = (db.role("reads"), db.role("writes"));
    db.run(&format!("grant market_reader to {reader}; grant market_ingestor to {ingestor}"));
    let insert = "insert into market.bars (symbol, bar_width, time, source, open, high, low, close, known_at)
                  values ('A', '1 day', '2024-01-01 00:00+00', 'file', 1, 1, 1, 1, '2024-01-02 00:00+00')";
    let (mut reads, mut writes) = (db.connect_as(&reader), db.connect_as(&ingestor));
    writes.batch_execute(insert).unwrap();
    assert_eq!(kronos_tests::rows(&mut reads, "select symbol from market.bars_1d").len(), 1);
    writes.batch_execute("call market.maintenance()").unwrap();
    assert_eq!(kronos_tests::rows(&mut reads, "select symbol from market.mv_liquidity_60d").len(), 0);
    db.error_in(&mut reads, "call market.refresh_liquidity()")
        .is("42501", "permission denied for procedure refresh_liquidity");
    db.error_in(&mut reads, insert).is("42501", "permission denied for table bars");
    db.error_in(&mut writes, "delete from market.trades").is("42501", "permission denied for table trades");
}

/// A bar of the hand-made reference.
#[derive(Clone, Copy)]
struct Bar {
    open: (i64, i64, Decimal),
    close: (i64, i64, Decimal),
    high: Decimal,
    low: Decimal,
    volume: Decimal,
    amount: Decimal,
    trades: u64,
}

struct Tick {
    symbol: String,
    /// Milliseconds since 1970.
    at: i64,
    text: String,
    price: Decimal,
    size: Decimal,
    line: i64,
}

fn ticks(path: &Path) -> Vec<Tick> {
    let file = flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap());
    let mut reader = csv::Reader::from_reader(file);
    let rows = reader.records().zip(2..).map(|(row, line)| {
        let row = row.unwrap();
        // 2013-10-07T08:00:00.464Z: all of October 2013.
        let part = |range: std::ops::Range<usize>| row[1][range].parse::<i64>().unwrap();
        let (day, hour, minute, second, milli) =
            (part(8..10), part(11..13), part(14..16), part(17..19), part(20..23));
        const OCTOBER_2013: i64 = 1_380_585_600;
        let seconds = OCTOBER_2013 + (day - 1) * 86_400 + hour * 3_600 + minute * 60 + second;
        Tick {
            symbol: row[0].to_owned(),
            at: seconds * 1_000 + milli,
            text: row[1].to_owned(),
            price: row[2].parse().unwrap(),
            size: row[3].parse().unwrap(),
            line,
        }
    });
    rows.collect()
}

/// Bars by symbol and start in seconds.
fn reference(ticks: &[Tick], width: i64) -> BTreeMap<(String, i64), Bar> {
    let mut bars = BTreeMap::<(String, i64), Bar>::new();
    for tick in ticks {
        let place = (tick.at, tick.line, tick.price);
        let start = tick.at / 1_000 / width * width;
        let bar = bars.entry((tick.symbol.clone(), start)).or_insert(Bar {
            open: place,
            close: place,
            high: tick.price,
            low: tick.price,
            volume: Decimal::ZERO,
            amount: Decimal::ZERO,
            trades: 0,
        });
        bar.open = bar.open.min(place);
        bar.close = bar.close.max(place);
        bar.high = bar.high.max(tick.price);
        bar.low = bar.low.min(tick.price);
        bar.volume += tick.size;
        bar.amount += tick.price * tick.size;
        bar.trades += 1;
    }
    bars
}

#[track_caller]
fn assert_bars_equal(db: &Database, suffix: &str, expected: &BTreeMap<(String, i64), Bar>) {
    let rows = db.rows(&format!(
        "select symbol, extract(epoch from time)::bigint, open, high, low, close, volume, amount, trade_count
         from market.trade_bars_{suffix} order by symbol collate \"C\", time"
    ));
    assert_eq!(rows.len(), expected.len(), "{suffix}");
    for (row, ((symbol, start), bar)) in rows.iter().zip(expected) {
        let text = |i: usize| row[i].as_deref().unwrap();
        let number = |i: usize| text(i).parse::<Decimal>().unwrap();
        assert_eq!((text(0), text(1)), (symbol.as_str(), start.to_string().as_str()), "{suffix}");
        let found = [number(2), number(3), number(4), number(5), number(6), number(7), number(8)];
        let made = [bar.open.2, bar.high, bar.low, bar.close.2, bar.volume, bar.amount, bar.trades.into()];
        assert_eq!(found, made, "{symbol} {start} {suffix}");
    }
}

const WIDTHS: [(&str, i64); 4] = [("1m", 60), ("5m", 300), ("1h", 3_600), ("1d", 86_400)];

#[test]
fn bars_equal_the_hand_made_ones_when_trades_come_late_twice_and_out_of_order() {
    let Some(folder) = shared_folder("data/ticks") else { return };
    let path = folder.join("us_equity_trades_201310.csv.gz");
    let ticks = ticks(&path);
    let db = Database::installed("storage_trade_bars");

    // A fixed shuffle; every seventh trade is sent twice. The second half is the late one.
    let mut order: Vec<usize> = (0..ticks.len()).collect();
    order.sort_by_key(|i| (*i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let scratch = tempfile::tempdir().unwrap();
    let halves = order.split_at(order.len() / 2);
    for (name, half) in [("early.csv", halves.0), ("late.csv", halves.1)] {
        let mut file = std::io::BufWriter::new(std::fs::File::create(scratch.path().join(name)).unwrap());
        writeln!(file, "trade_id,symbol,ts,price,size").unwrap();
        for i in half {
            let tick = &ticks[*i];
            for _ in 0..1 + usize::from(i % 7 == 0) {
                writeln!(file, "{},{},{},{},{}", tick.line, tick.symbol, tick.text, tick.price, tick.size)
                    .unwrap();
            }
        }
    }
    succeed(worker::of(&db).arg("load").arg(scratch.path().join("early.csv")));
    let early: Vec<Tick> = {
        let kept: BTreeSet<usize> = halves.0.iter().copied().collect();
        let chosen = ticks.iter().enumerate().filter(|(i, _)| kept.contains(i)).map(|(_, tick)| Tick {
            symbol: tick.symbol.clone(),
            text: tick.text.clone(),
            ..*tick
        });
        chosen.collect()
    };
    for (suffix, width) in WIDTHS {
        assert_bars_equal(&db, suffix, &reference(&early, width));
    }
    succeed(worker::of(&db).arg("load").arg(scratch.path().join("late.csv")));
    for (suffix, width) in WIDTHS {
        assert_bars_equal(&db, suffix, &reference(&ticks, width));
    }
    // The same trades once more, now in order: nothing changes.
    succeed(worker::of(&db).arg("replay").arg(&path));
    assert_eq!(db.value("select count(*) from market.trades"), ticks.len().to_string());
    assert_bars_equal(&db, "1d", &reference(&ticks, 86_400));
    // What people and models read is the double next to the exact number.
    assert_eq!(
        db.value(
            "select bool_and(b.close = t.close::float8) and count(*) = 5
                  from market.bars_1d b join market.trade_bars_1d t using (symbol, time)"
        ),
        "t"
    );
}

#[test]
fn a_bar_is_known_at_its_end_or_when_its_last_trade_is() {
    let db = Database::installed("storage_known");
    // The third trade is reported a quarter of an hour late.
    db.run(
        "insert into market.trades (symbol, feed, event_time, trade_id, sequence, price, size, received_at, known_at)
         select 'X', 'alpaca', timestamptz '2024-01-02 15:00+00' + at, n::text, n, 10, 1, now(), timestamptz '2024-01-02 15:00+00' + known
         from (values (1, '1 second'::interval, '1 second'::interval), (2, '59 seconds', '59.5 seconds'), (3, '4 minutes', '20 minutes'))
              as t (n, at, known)",
    );
    for _ in 0..2 {
        for (width, expected) in [
            ("1m", "15:00 15:01:00, 15:04 15:20:00"),
            ("5m", "15:00 15:20:00"),
            ("1h", "15:00 16:00:00"),
            ("1d", "00:00 00:00:00"),
        ] {
            for view in ["trade_bars", "source_bars"] {
                let found = db.value(&format!(
                    "select string_agg(to_char(time at time zone 'UTC', 'HH24:MI ') || (known_at at time zone 'UTC')::time, ', ' order by time)
                     from market.{view}_{width}"
                ));
                assert_eq!(found, expected, "{view}_{width}");
            }
        }
        assert_eq!(db.value("select known_at = '2024-01-03 00:00+00' from market.trade_bars_1d"), "t");
        for statement in db.rows("select market.refresh_trade_bars_statements()") {
            db.run(statement[0].as_deref().unwrap());
        }
    }
    // Nor may a bar that a source publishes be known before it begins.
    db.error(
        "insert into market.bars (symbol, bar_width, time, source, open, high, low, close, known_at)
         values ('X', '1 day', '2024-01-02 00:00+00', 'file', 1, 1, 1, 1, '2024-01-01 23:59+00')",
    )
    .is("23514", "violates check constraint");
}

#[test]
fn a_trade_taken_back_leaves_its_bar() {
    let db = Database::installed("storage_cancel");
    db.run(
        "insert into market.trades (symbol, feed, event_time, trade_id, sequence, price, size, received_at, known_at)
         select 'X', 'alpaca', timestamptz '2024-01-02 15:00+00' + i * interval '1 second', i::text, i, 10 + i, 1,
                now(), now() from generate_series(0, 2) as i;
         update market.trades set cancelled_at = now() where trade_id = '2'",
    );
    assert_eq!(db.value("select close from market.bars_1m"), "11");
    // An odd lot counts in the volume and sets no price.
    db.run("update market.trades set conditions = '{I}' where trade_id = '1'");
    assert_eq!(db.value("select format('%s %s', close, volume) from market.bars_1m"), "10 2");
    // Without a trade that sets a price there is no bar.
    db.run("update market.trades set conditions = '{I}'");
    assert_eq!(db.value("select count(*) from market.bars_1m"), "0");
}

const BARS: &str = "
    select string_agg(b::text, e'\\n' order by b::text) from (
      select '1m' as width, * from market.trade_bars_1m union all select '5m', * from market.trade_bars_5m
      union all select '1h', * from market.trade_bars_1h union all select '1d', * from market.trade_bars_1d) as b";

/// Deterministic trades of three symbols, one each 47 seconds.
const MADE_TRADES: &str = "
    insert into market.trades (symbol, feed, event_time, trade_id, sequence, price, size, received_at, known_at)
    select 'S' || i % 3, 'file', t, i::text, i, 100 + sin(i)::numeric(8, 4), 1 + i % 7, t, t
    from (select i, timestamptz '2024-01-01 00:00+00' + i * interval '47 seconds' as t
          from generate_series(1, 9000) as i) as made";

/// Bars whose `known_at` is not what the trades beneath say: the newest of theirs, at the earliest the end of the bar.
const KNOWN_OTHERWISE: &str = "
    select count(*) filter (where b.known_at is distinct from greatest(t.known_at, t.time + t.width)) || ' of ' || count(*)
    from (select symbol, feed, width, to_timestamp(floor(extract(epoch from event_time) / seconds) * seconds) as time, max(known_at) as known_at
          from market.trades, (values (interval '1 minute', 60), ('1 hour', 3600), ('1 day', 86400)) as w (width, seconds)
          where cancelled_at is null group by 1, 2, 3, 4) as t
    full join (select interval '1 minute' as width, * from market.trade_bars_1m union all select '1 hour', * from market.trade_bars_1h
               union all select '1 day', * from market.trade_bars_1d) as b
      on (b.symbol, b.source, b.width, b.time) = (t.symbol, t.feed, t.width, t.time)";

/// numeric holds what float8 does not: such a bar has no value there, and nobody else's is lost.
#[test]
fn a_price_beyond_double_precision_hides_no_other_bar() {
    let db = Database::installed("storage_range");
    db.run(
        "insert into market.trades (symbol, feed, event_time, trade_id, sequence, price, size, received_at, known_at)
         select symbol, 'file', '2024-01-02 03:00+00', symbol, 0, price, size, now(), now()
         from (values ('A', 5, 1), ('B', 1e-400, 1), ('C', 1e400, 1), ('D', 0, 1), ('E', 1e-299, 1e299), ('F', 1e200, 1e200)) v (symbol, price, size)",
    );
    assert_eq!(
        db.value("select string_agg(format('%s %s %s', symbol, close, amount), ', ' order by symbol) from market.bars_1h"),
        "A 5 5, B  , C  , D 0 0, E 1e-299 1, F 1e+200 "
    );
    assert_eq!(db.value("select close from market.trade_bars_1h where symbol = 'B'").len(), 402);
}

#[test]
fn stored_bars_follow_every_change_of_a_trade() {
    let db = Database::installed("storage_stored");
    let touched = "select count(distinct (symbol, hour)) from market_internal.touched_hours";
    db.run(MADE_TRADES);
    let computed = db.value(BARS);
    let known = || {
        let found = db.value(KNOWN_OTHERWISE);
        let (wrong, bars) = found.split_once(" of ").unwrap();
        assert!(wrong == "0" && bars.parse::<u32>().unwrap() > 9_000, "{found}");
    };
    known();
    assert_ne!(db.value(touched), "0");
    db.run("call market.refresh_trade_bars()");
    assert_eq!(db.value(touched), "0");
    assert_eq!(db.value(BARS), computed, "a refresh changes no bar");
    // What is read now comes from the table alone.
    db.run("begin; set local session_replication_role = replica; create table kept as table market.trades; delete from market.trades; commit");
    assert_eq!(db.value(BARS), computed);
    db.run(
        "begin; set local session_replication_role = replica; insert into market.trades table kept; commit",
    );
    for change in [
        "insert into market.trades (symbol, feed, event_time, trade_id, sequence, price, size, received_at, known_at)
         values ('S1', 'file', '2024-01-02 03:00:00+00', 'late', 0, 999, 5, now(), '2024-01-02 03:00:01+00')",
        "update market.trades set cancelled_at = now() where trade_id = '4000'",
        "update market.trades set event_time = event_time + interval '5 hours' where trade_id = '4001'",
        "delete from market.trades where trade_id = '4002'",
    ] {
        db.run(change);
        let before = db.value(BARS);
        assert_ne!(db.value(touched), "0", "{change}");
        db.run("call market.refresh_trade_bars()");
        assert_eq!(db.value(BARS), before, "{change}");
        known();
        // Everything anew, from the trades alone.
        db.run("insert into market_internal.touched_hours
                select distinct symbol, feed, date_trunc('hour', event_time, 'UTC') from market.trades");
        assert_eq!(db.value(BARS), before, "{change}");
        db.run("call market.refresh_trade_bars()");
    }
    // Hours are touched by feed: what another one sends of the same symbol and hour leaves these bars where they are.
    let before = db.value(BARS);
    db.run(
        "insert into market.trades (symbol, feed, event_time, trade_id, sequence, price, size, received_at, known_at)
         values ('S1', 'kraken', '2024-01-02 03:00:00+00', '1', 0, 7, 5, now(), '2024-01-02 03:00:01+00')",
    );
    let of_file = BARS.replace(") as b", ") as b where source = 'file'");
    assert_eq!(db.value(&of_file), before);
    db.run("call market.refresh_trade_bars()");
    assert_eq!(db.value(&of_file), before);
    assert_eq!(db.value("select count(*) from market.trade_bars_1h where source = 'kraken'"), "1");
}

#[test]
fn an_uncommitted_trade_is_not_lost_to_a_refresh() {
    let db = Database::installed("storage_refresh_race");
    db.run(MADE_TRADES);
    let mut writer = db.connect();
    writer
        .batch_execute(
            "begin; insert into market.trades
               (symbol, feed, event_time, trade_id, sequence, price, size, received_at, known_at)
             values ('S1', 'file', '2024-01-02 03:00:00+00', 'late', 0, 999, 5, now(), '2024-01-02 03:00:01+00')",
        )
        .unwrap();
    for statement in db.rows("select market.refresh_trade_bars_statements()") {
        db.run(statement[0].as_deref().unwrap());
    }
    writer.batch_execute("commit").unwrap();
    let high = "select high from market.trade_bars_1d where symbol = 'S1' and time = '2024-01-02 00:00+00'";
    for _ in 0..2 {
        assert_eq!(db.value(high), "999");
        for statement in db.rows("select market.refresh_trade_bars_statements()") {
            db.run(statement[0].as_deref().unwrap());
        }
    }
}

#[test]
fn a_deletion_is_not_lost_to_a_refresh() {
    let db = Database::installed("storage_deletion_race");
    db.run(MADE_TRADES);
    let [mut first, mut second] = [db.connect(), db.connect()];
    // The note of the first deletion is committed, that of the second is not when the refresh takes the notes away.
    first.batch_execute("delete from market.trades where trade_id = '4002'").unwrap();
    second.batch_execute("begin; delete from market.trades where trade_id = '4005'").unwrap();
    db.run("call market.refresh_trade_bars()");
    second.batch_execute("commit").unwrap();
    for _ in 0..2 {
        assert_eq!(
            db.value("select sum(trade_count) from market.trade_bars_1m"),
            db.value("select count(*) from market.trades")
        );
        db.run("call market.refresh_trade_bars()");
    }
}

#[test]
fn retention_drops_old_rows_and_keeps_their_bars() {
    let db = Database::installed("storage_retention");
    db.run(MADE_TRADES);
    db.run(
        "insert into market.quotes (symbol, feed, event_time, sequence, bid, ask, received_at, known_at)
         select 'S1', 'file', now() - d * interval '10 days', d, 1, 2, now(), now() from generate_series(0, 2) as d;
         insert into market.rejected_rows (feed, received_at, reason, payload, digest)
         values ('file', now() - interval '1 year', 'bad', '?', '\\x00'), ('file', now(), 'bad', '!', '\\x01')",
    );
    let bars = db.value(BARS);
    for relation in ["market.trades", "market.quotes", "market.rejected_rows"] {
        db.run(&format!("call market.set_retention('{relation}', '14 days')"));
    }
    db.run("call market.maintenance()");
    assert_eq!(db.value("select count(*) from market.trades"), "0");
    assert_eq!(db.value("select count(*) from market.quotes"), "2");
    assert_eq!(db.value("select count(*) from market.rejected_rows"), "1");
    assert_eq!(db.value(BARS), bars, "bars outlive their trades");
    // A trade that comes after its time is stored, is dropped again, and leaves the bars as they are.
    db.run(
        "insert into market.trades (symbol, feed, event_time, trade_id, sequence, price, size, received_at, known_at)
         values ('S1', 'file', '2024-01-02 03:00:00+00', 'late', 0, 999, 5, now(), '2024-01-02 03:00:01+00')",
    );
    db.run("call market.maintenance()");
    assert_eq!(db.value(BARS), bars);
    db.error("call market.set_retention('market.trades', '1 day')")
        .is("22023", "rows must be kept for at least 7 days, got 1 day")
        .hint("7 days or more");
    db.error("call market.set_retention('market.instruments', '30 days')")
        .is("22023", "relation \"market.instruments\" has no retention")
        .hint("market.quotes");
    db.run("call market.set_retention('market.quotes', null)");
    assert_eq!(db.value("select count(*) from market.retention"), "2");
    // What is kept longer from now on is not what was dropped: bars before stay as they were stored.
    db.run("call market.set_retention('market.trades', '36500 days'); call market.maintenance()");
    db.run(
        "insert into market.trades (symbol, feed, event_time, trade_id, sequence, price, size, received_at, known_at)
         values ('S1', 'file', '2024-01-02 03:00:00+00', 'later', 0, 999, 5, now(), '2024-01-02 03:00:01+00');
         call market.maintenance()",
    );
    assert_eq!(db.value(BARS), bars);
}

#[test]
fn bars_of_minutes_may_be_dropped_and_those_of_hours_stay() {
    let db = Database::installed("storage_retention_bars");
    db.run(MADE_TRADES);
    let hours = "select string_agg(b::text, e'\\n' order by b::text) from market.trade_bars_1h as b";
    let before = db.value(hours);
    db.run("call market.set_retention('market.trade_bars_1m', '14 days'); call market.maintenance()");
    assert_eq!(
        db.value("select format('%s %s', (select count(*) from market.trade_bars_1m), (select count(*) > 0 from market.trade_bars_5m))"),
        "0 t"
    );
    assert_eq!(db.value(hours), before);
    db.error("call market.set_retention('market.trade_bars_1h', '14 days')")
        .is("22023", "relation \"market.trade_bars_1h\" has no retention");
}

/// An ingestor may run the maintenance, in a session of its own making.
#[test]
fn no_setting_of_a_session_moves_the_bound_of_retention() {
    let db = Database::installed("storage_retention_session");
    db.run(
        "call market.set_retention('market.trades', '14 days'); call market.set_retention('market.quotes', '14 days');
         create function bound() returns timestamptz stable language sql set timezone = 'UTC' as
           $$ select date_trunc('day', now() - interval '14 days', 'UTC') $$;
         insert into market.trades (symbol, feed, event_time, trade_id, sequence, price, size, received_at, known_at)
         select 'T', 'file', bound() + i * interval '1 hour', i, i, 10, 1, now(), now() from generate_series(-5, 5) i;
         insert into market.quotes (symbol, feed, event_time, sequence, bid, ask, received_at, known_at)
         select 'T', 'file', bound() + i * interval '1 hour', i + 5, 1, 2, now(), now() from generate_series(-5, 5) i;
         set datestyle = 'SQL, DMY'; set timezone = 'Asia/Kolkata'; call market.maintenance()",
    );
    for table in ["trades", "quotes"] {
        assert_eq!(
            db.value(&format!(
                "select format('%s %s', count(*), min(event_time) = bound()) from market.{table}"
            )),
            "6 t",
            "{table}"
        );
    }
    assert_eq!(db.value("select count(*) from market.trade_bars_1h"), "11");
}

/// Whoever may drop old trades need not have stored their bars before.
#[test]
fn trades_that_are_dropped_have_their_bars_stored_first() {
    let db = Database::installed("storage_retention_alone");
    db.run(MADE_TRADES);
    let bars = db.value(BARS);
    db.run("call market.set_retention('market.trades', '14 days'); call market.apply_retention()");
    assert_eq!(db.value("select count(*) from market.trades"), "0");
    assert_eq!(db.value(BARS), bars);
}

#[test]
fn the_best_ranked_source_of_a_bar_is_shown_and_can_be_pinned() {
    let db = Database::installed("storage_rank");
    db.run(
        "insert into market.instruments (symbol) values ('X');
         insert into market.bars (symbol, bar_width, time, source, open, high, low, close, known_at)
         select 'X', '1 day', timestamptz '2024-01-01 00:00+00' + d * interval '1 day', source, price, price, price, price,
                timestamptz '2024-01-02 00:00+00' + d * interval '1 day'
         from (values ('yahoo', 1.0, 0), ('yahoo', 2.0, 1), ('alpaca', 9.0, 1)) as v (source, price, d)",
    );
    let closes = "select string_agg(close::text, ' ' order by time) from market.bars_1d";
    assert_eq!(db.value(closes), "1 9");
    db.run("update market.instruments set bar_source = 'yahoo'");
    assert_eq!(db.value(closes), "1 2");
    assert_eq!(
        db.value("select round(ret::numeric, 6) from market.daily_returns where ret is not null"),
        "1.000000"
    );
    // ln 2, known when the day is over.
    assert_eq!(
        db.value("select round(log_ret::numeric, 6) || ' ' || (known_at = '2024-01-03 00:00+00') from market.daily_returns where ret is not null"),
        "0.693147 true"
    );
    // An adjusted close counts where a source gives one, from when it is known.
    db.run(
        "update market.bars set close_adj = 1 where time = '2024-01-01 00:00+00';
         update market.bars set close_adj = 4, known_at = '2024-01-05 00:00+00' where source = 'alpaca'",
    );
    assert_eq!(
        db.value("select ret || ' ' || (known_at = '2024-01-05 00:00+00') from market.daily_returns where ret is not null"),
        "3 true"
    );
}

#[test]
fn liquidity_is_that_of_the_last_sessions_before_the_day() {
    let db = Database::installed("storage_liquidity");
    // Volumes 1 to 5 of January 1st to 5th at prices of 10, and once the money itself.
    db.run(
        "insert into market.bars (symbol, bar_width, time, source, open, high, low, close, volume, amount, known_at)
         select 'X', '1 day', timestamptz '2023-12-31 00:00+00' + d * interval '1 day', 'file', 10, 10, 10, 10, d,
                case d when 4 then 100 end, timestamptz '2024-01-01 00:00+00' + d * interval '1 day' from generate_series(1, 5) as d",
    );
    // Of a better source, and known to nobody by the days that are asked for.
    db.run(
        "insert into market.bars (symbol, bar_width, time, source, open, high, low, close, volume, known_at)
         select symbol, bar_width, time, 'yahoo', open, high, low, close, 999, '2024-02-01 00:00+00' from market.bars",
    );
    let of = |arguments: &str| {
        db.value(&format!(
            "select concat_ws(' ', sessions_used, avg_volume_60d, avg_dollar_vol_60d, last_session) from market.liquidity({arguments})"
        ))
    };
    // Half a day into the 5th: the 3rd and 4th, (3 + 4) / 2 and (30 + 100) / 2.
    assert_eq!(of("'2024-01-05 12:00+00', 2"), "2 3.5 65 2024-01-04");
    assert_eq!(of("'2024-01-05 00:00+00', 2"), "2 3.5 65 2024-01-04");
    assert_eq!(of("'2024-01-06 00:00+00', 9"), "5 3 42 2024-01-05");
}

#[test]
fn a_stream_is_stale_when_its_feed_is_silent_for_too_long() {
    let db = Database::installed("storage_health");
    db.run(
        "insert into market.feed_cursors (feed, channel, symbol, sequence, event_time, updated_at) values
           ('kraken', 'trades', 'LATE', 1, now(), now() - interval '1 hour'), ('kraken', 'trades', 'LIVE', 1, now(), now() + interval '1 hour'),
           ('kraken', 'replay', 'FILE', 1, now(), now() - interval '1 hour'), ('kraken_v1', 'trades', 'OLD', 1, now(), now() - interval '1 hour');
         insert into market.feed_gaps (feed, channel, symbol, cause, from_seq, to_seq, detected_at, status, filled_at) values
           ('kraken', 'trades', 'LATE', 'seq', 1, 3, now(), 'open', null), ('kraken', 'trades', 'LATE', 'seq', 5, 7, now(), 'filled', now()),
           ('kraken', 'quotes', 'LATE', 'seq', 1, 3, now(), 'open', null)",
    );
    // Recordings have no time after which they are stale, and a place in a replayed file is no stream.
    assert_eq!(
        db.value("select string_agg(concat_ws(' ', symbol, stale, open_gaps), ', ' order by symbol) from market.feed_health"),
        "LATE t 1, LIVE f 0, OLD f 0"
    );
}

#[test]
fn validators_find_what_is_known_to_be_wrong_with_the_daily_files() {
    let Some(folder) = shared_folder("data") else { return };
    let db = Database::installed("storage_validate_daily");
    let files = (1..=4).map(|n| folder.join(format!("daily/us_equities_daily_{n}.csv.gz")));
    succeed(worker::of(&db).arg("load").args(files));
    let checks = |name: &str| -> Vec<csv::StringRecord> {
        let mut reader = csv::Reader::from_path(folder.join("checks").join(name)).unwrap();
        reader.records().map(Result::unwrap).collect()
    };
    db.run("create table findings as select * from market.validate(price_jump => 0.35)");
    let found = |check: &str| -> Vec<(String, String)> {
        let rows = db.rows(&format!(
            "select symbol, (time at time zone 'UTC')::date from findings where check_name = '{check}'
             order by symbol collate \"C\", time"
        ));
        rows.into_iter().map(|row| (row[0].clone().unwrap(), row[1].clone().unwrap())).collect()
    };
    let mut jumps: Vec<_> =
        checks("daily_outliers.csv").iter().map(|row| (row[0].to_owned(), row[1].to_owned())).collect();
    jumps.sort();
    assert_eq!(jumps.len(), 126);
    assert_eq!(found("price_jump"), jumps);
    let mut missing = HashMap::<String, usize>::new();
    for row in checks("daily_gaps.csv") {
        *missing.entry(row[0].to_owned()).or_default() += row[2].parse::<usize>().unwrap();
    }
    let mut ours = HashMap::<String, usize>::new();
    for (symbol, _) in found("missing_session") {
        *ours.entry(symbol).or_default() += 1;
    }
    assert_eq!(ours, missing);
    assert_eq!(
        db.value("select count(*) from findings where check_name not in ('price_jump', 'missing_session')"),
        "0"
    );
}

#[test]
fn each_validator_names_the_row_that_is_wrong() {
    let db = Database::installed("storage_validate");
    db.run(
        "insert into market.bars (symbol, bar_width, time, source, open, high, low, close, known_at)
         select 'OK', '1 hour', t, 'file', 10, 11, 9, 10, t + interval '1 hour'
         from generate_series(timestamptz '2024-01-01 00:00+00', '2024-01-03 23:00+00', '1 hour') as t
         where not (t >= '2024-01-02 03:00+00' and t < '2024-01-03 00:00+00');
         insert into market.bars (symbol, bar_width, time, source, open, high, low, close, known_at) values
           ('JUMP', '1 day', '2024-01-01 00:00+00', 'file', 10, 10, 10, 10, '2024-01-02 00:00+00'),
           ('JUMP', '1 day', '2024-01-02 00:00+00', 'file', 5, 5, 5, 5, '2024-01-03 00:00+00'),
           ('JUMP', '1 day', '2024-01-03 00:00+00', 'file', 7, 7, 7, 7, '2024-01-04 00:00+00'),
           ('ZERO', '1 day', '2024-01-01 00:00+00', 'file', 1, 1, 0, 1, '2024-01-02 00:00+00'),
           ('FLIP', '1 day', '2024-01-01 00:00+00', 'file', 5, 4, 6, 5, '2024-01-02 00:00+00'),
           ('SKEW', '1 hour', '2024-01-01 00:07+00', 'file', 1, 1, 1, 1, '2024-01-02 00:00+00');
         insert into market.quotes (symbol, feed, event_time, sequence, bid, ask, received_at, known_at)
           values ('CROSS', 'file', '2024-01-01 00:00+00', 1, 2, 1, now(), now());
         insert into market.trades (symbol, feed, event_time, trade_id, sequence, price, size, received_at, known_at) values
           ('BACK', 'file', '2024-01-01 00:00:09+00', '1', 1, 1, 1, now(), now()),
           ('BACK', 'file', '2024-01-01 00:00:03+00', '2', 2, 1, 1, now(), now());
         insert into market.feed_cursors values ('kraken', 'trades', 'STALE', 1, now() - interval '1 hour', now() - interval '1 hour');
         insert into market.feed_gaps (feed, channel, symbol, cause, from_seq, to_seq, detected_at)
           values ('kraken', 'trades', 'HOLE', 'id', 5, 9, now())",
    );
    let found = db.rows("select check_name, symbol from market.validate() order by 1, 2");
    let found: Vec<_> = found.iter().map(|r| (r[0].as_deref().unwrap(), r[1].as_deref().unwrap())).collect();
    assert_eq!(
        found,
        [
            ("crossed_quote", "CROSS"),
            ("half_filled_day", "OK"),
            ("inverted_bar", "FLIP"),
            ("monotone_time", "BACK"),
            ("monotone_time", "SKEW"),
            ("non_positive_price", "ZERO"),
            ("open_gap", "HOLE"),
            // By half, ln 0.5 = -0.69; the way back, ln 1.4 = 0.34, is within 0.35.
            ("price_jump", "JUMP"),
            ("stale_feed", "STALE"),
        ]
    );
    // The job stores them, and forgets one that is repaired.
    db.run("call market.run_validation('-infinity')");
    assert_eq!(db.value("select count(*) from market.validation_findings"), "9");
    // What lies before the time that is checked is not forgotten: all but the gap, which was noticed now, and the feed.
    db.run("delete from market.quotes; call market.run_validation(now() - interval '2 hours')");
    assert_eq!(db.value("select count(*) from market.validation_findings"), "9");
    db.run("call market.run_validation('-infinity')");
    assert_eq!(db.value("select count(*) from market.validation_findings"), "8");
    db.error("select market.validate(fill_share => 50)")
        .is("22023", "fill_share must be between 0 and 1, got 50")
        .hint("did you mean 0.5?");
}

#[test]
fn forecasts_read_what_the_worker_stored() {
    let db = Database::installed("storage_predict");
    succeed(worker::of(&db).args(["simulate", "--symbols", "2", "--bars", "300", "--seed", "1"]));
    let rows = db.rows(
        "select series, step, close > 0 and low <= close and close <= high and status is null
         from kronos_predict('market.bars_1d', 5, only_series => '{SIM1}') order by step",
    );
    assert_eq!(rows.len(), 5, "{rows:?}");
    for row in rows {
        assert_eq!((row[0].as_deref(), row[2].as_deref()), (Some("SIM1"), Some("t")));
    }
    db.run("call market.refresh_liquidity()");
    assert_eq!(db.value("select count(*) from market.mv_liquidity_60d where sessions_used = 60"), "2");
}

#[test]
fn timescaledb_added_later_converts_in_place_and_bars_stay_equal() {
    let db = Database::empty("storage_timescale");
    if !db.value("show shared_preload_libraries").contains("timescaledb") {
        kronos_skip::skipped("the server does not preload timescaledb", "make test-timescale");
        return;
    }
    succeed(worker::of(&db).arg("migrate"));
    db.run(
        "insert into market.trades (symbol, feed, event_time, trade_id, sequence, price, size, received_at, known_at)
         select 'S' || i % 3, 'file', t, i::text, i, 100 + sin(i)::numeric(8, 4), 1 + i % 7, t, t
         from (select i, timestamptz '2024-01-01 00:00+00' + i * interval '47 seconds' as t
               from generate_series(1, 20000) as i) as made;
         create view mine as select * from market.bars_1h;
         create table expected as
           select 'm' as width, b.* from market.trade_bars_1m b union all select '5', b.* from market.trade_bars_5m b
           union all select 'h', b.* from market.trade_bars_1h b union all select 'd', b.* from market.trade_bars_1d b",
    );
    let differences = "
        with found as (
          select 'm' as width, b.* from market.trade_bars_1m b union all select '5', b.* from market.trade_bars_5m b
          union all select 'h', b.* from market.trade_bars_1h b union all select 'd', b.* from market.trade_bars_1d b)
        select (select count(*) from (table found except table expected) as a)
             + (select count(*) from (table expected except table found) as b)";
    db.run("create extension timescaledb");
    for _ in 0..2 {
        succeed(worker::of(&db).arg("migrate"));
        assert_eq!(db.value(differences), "0");
    }
    assert_eq!(
        db.value(
            "select count(*) from timescaledb_information.hypertables where hypertable_schema = 'market'"
        ),
        "3"
    );
    // The view of a user on top reads the new relations.
    assert_eq!(
        db.value("select count(*) from mine"),
        db.value("select count(*) from expected where width = 'h'")
    );
    for statement in db.rows("select market.refresh_trade_bars_statements()") {
        db.run(statement[0].as_deref().unwrap());
        assert_eq!(db.value(differences), "0");
    }
    // A late trade appears at once, exactly.
    db.run(
        "insert into market.trades (symbol, feed, event_time, trade_id, sequence, price, size, received_at, known_at)
         values ('S0', 'file', '2024-01-02 00:00:01+00', 'late', 0, 999, 5, now(), '2024-01-02 00:00:02+00')",
    );
    for statement in db.rows("select market.refresh_trade_bars_statements()") {
        db.run(statement[0].as_deref().unwrap());
    }
    assert_eq!(
        db.value(
            "select format('%s %s', high, open) from market.trade_bars_1d
                  where symbol = 'S0' and time = '2024-01-02 00:00+00'"
        ),
        "999 999"
    );
}
