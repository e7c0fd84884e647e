//! Bars equal those of all trades ever stored, whatever happens to the trades and in which order.

use kronos_tests::Database;
use std::fmt::Write as _;

/// Every change is applied to `shadow` as well, where nothing is ever dropped; `closed` are the hours whose bars retention
/// has made final.
const ORACLE: &str = "
    create table shadow (like market.trades);
    create table closed (symbol text, feed text, hour timestamptz, primary key (symbol, feed, hour));
    create function made(seed bigint, few integer, days integer, late integer) returns setof market.trades language sql as $$
      select 'S' || (h >> 8) % 2, 'file', date_trunc('hour', now()) - make_interval(days => late)
               - make_interval(secs => (h >> 16) % (days * 86400)::bigint), seed || '-' || i, (h >> 4) % 3,
             (1 + (h >> 24) % 997)::numeric / 10, 1 + (h >> 40) % 5, null::text, null::text, null::text,
             case when (h >> 44) % 7 = 0 then array['I'] end, now(), now(), now(), null::timestamptz, null
      from (select i, hashint8extended(i, seed) & 9223372036854775807 as h from generate_series(1, few) as i) as x
    $$;
    create function hour(t timestamptz) returns timestamptz immutable language sql as $$ select date_trunc('hour', t, 'UTC') $$;";

/// Bars of the shadow, in other words than those of sql/market/trade_bars.sql, that differ from the bars that are shown.
const DIFFERENCES: &str = "
    with widths (width) as (values (interval '1 minute'), ('5 minutes'), ('30 minutes'), ('1 hour'), ('1 day'), ('7 days')),
    counted as (
      select s.*, w.width, date_bin(w.width, s.event_time, timestamptz '2000-01-03 00:00+00') as time,
             s.conditions is null as prices
      from shadow s cross join widths w where s.cancelled_at is null
    ),
    expected as (
      select width, symbol, feed as source, time,
             (array_agg(price order by event_time, sequence, price) filter (where prices))[1] as open,
             max(price) filter (where prices) as high, min(price) filter (where prices) as low,
             (array_agg(price order by event_time desc, sequence desc, price desc) filter (where prices))[1] as close,
             sum(size) as volume, sum(price * size) as amount, count(*) as trade_count
      from counted group by 1, 2, 3, 4 having bool_or(prices)
    ),
    found as (
      select interval '1 minute' as width, * from market.trade_bars_1m
      union all select '5 minutes', * from market.trade_bars_5m
      union all select '1 hour', * from market.trade_bars_1h
      union all select '30 minutes', * from market.trade_bars_30m
      union all select '1 day', * from market.trade_bars_1d
      union all select '7 days', * from market.trade_bars_1w
    )
    select format('%s of %s: %s', count(*) filter (where e is distinct from f), count(*),
                  min(format('expected %s, found %s', e, f)) filter (where e is distinct from f))
    from expected e
    full join (select width, symbol, source, time, open, high, low, close, volume, amount, trade_count from found) f
      using (width, symbol, source, time)";

/// SplitMix64: the sequence of a seed, the same everywhere.
struct Choice(u64);

impl Choice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// Trades that `market.trades` and the shadow get alike; what comes too late for closed bars reaches the former alone.
fn add(choice: &mut Choice, few: u64, days: u64, late: u64) -> String {
    let made = format!("made({}, {few}, {days}, {late})", choice.below(1 << 40));
    format!(
        "insert into market.trades select * from {made};
         insert into shadow select m.* from {made} m
         where not exists (select from closed c where (c.symbol, c.feed, c.hour) = (m.symbol, m.feed, hour(m.event_time)));"
    )
}

/// One trade that is still there, in words for both tables; a closed bar keeps it as it was.
fn change(choice: &mut Choice, what: &str) -> String {
    let one = format!(
        "select symbol, feed, event_time, trade_id from market.trades order by hashtext(trade_id || '{}') limit 1",
        choice.below(1 << 40)
    );
    let [market, shadow] = ["market.trades", "shadow"].map(|table| match what {
        "delete" => format!("delete from {table} t using one"),
        set => format!("update {table} t set {set} from one"),
    });
    format!(
        "create temp table one on commit drop as {one};
         {market} where (t.symbol, t.feed, t.event_time, t.trade_id) = (one.symbol, one.feed, one.event_time, one.trade_id);
         {shadow} where (t.symbol, t.feed, t.event_time, t.trade_id) = (one.symbol, one.feed, one.event_time, one.trade_id)
           and not exists (select from closed c where (c.symbol, c.feed, c.hour) = (t.symbol, t.feed, hour(t.event_time)));"
    )
}

const MAINTENANCE: &str = "
    call market.maintenance();
    insert into closed
    select distinct symbol, feed, hour(event_time) from shadow, market.retention
    where cancelled_at is null and relation = 'market.trades' and hour(event_time) < date_trunc('day', now() - keep, 'UTC')
    on conflict do nothing;";

/// Compresses every chunk of trades and of their bars where the edition can.
const COMPRESS: &str = "
    do $$
    begin
      if market.timescale_edition() = 'community' then
        perform public.compress_chunk(c, if_not_compressed => true)
        from unnest(array['market.trades', 'market_internal.stored_trade_bars']::regclass[]) as t, public.show_chunks(t) as c;
      end if;
    end $$;";

/// What the zone is called in the second is also the name of another one, three hours and a half away.
const SESSIONS: [&str; 2] = ["", "set local datestyle = 'SQL, DMY'; set local timezone = 'Asia/Kolkata';"];

fn walk(db: &Database, seed: u64, steps: u32) {
    let converts = db.value("show shared_preload_libraries").contains("timescaledb");
    let conversion = steps / 3;
    let install = || assert_eq!(db.psql("\\i sql/install.sql"), "");
    install();
    db.run(ORACLE);
    let mut choice = Choice(seed);
    let mut done = String::new();
    for step in 0..steps {
        let (name, statement) = match choice.below(14) {
            0..3 => ("load", add(&mut choice, 40, 60, 0)),
            3 => ("new trades", add(&mut choice, 10, 1, 0)),
            4 | 5 => ("late trades", add(&mut choice, 3, 30, 20)),
            6 => ("cancel", change(&mut choice, "cancelled_at = now()")),
            7 => ("correct", change(&mut choice, "price = price + 1, size = size * 2")),
            8 => ("delete", change(&mut choice, "delete")),
            9 => ("refresh", "call market.refresh_trade_bars();".into()),
            10 => {
                let keep = ["'14 days'", "'40 days'", "null"][choice.below(3) as usize];
                ("retention", format!("call market.set_retention('market.trades', {keep});"))
            }
            11 => ("compress", COMPRESS.into()),
            12 => {
                install();
                ("install", String::new())
            }
            _ => ("maintenance", MAINTENANCE.into()),
        };
        writeln!(done, "{step}: {name}").unwrap();
        if converts && step == conversion {
            db.run("create extension timescaledb");
            install();
            writeln!(done, "{step}: conversion").unwrap();
        }
        let session = SESSIONS[choice.below(SESSIONS.len() as u64) as usize];
        db.run(&format!("begin; {session} {statement} commit"));
        let found = db.value(DIFFERENCES);
        assert!(found.starts_with("0 of "), "seed {seed}: {found}\n{done}");
    }
    let counts = db.value(
        "select format('%s closed, %s gone', (select count(*) from closed),
                           (select count(*) from shadow) > (select count(*) from market.trades))",
    );
    assert!(
        !counts.starts_with("0 ") && counts.ends_with("t gone"),
        "a walk without retention shows nothing: {counts}"
    );
}

#[test]
fn bars_equal_those_of_all_trades_ever_stored() {
    for seed in [1, 2, 3] {
        walk(&Database::empty("storage_invariant"), seed, 60);
    }
}
