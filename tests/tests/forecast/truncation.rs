//! Every function that takes `as_of` says the same on tables cut at that moment, and whatever else comes after it.

use kronos_tests::{Database, rows};
use std::collections::BTreeSet;

/// Half an hour into a day, so that what was forecast of it is known and not over.
const AS_OF: &str = "timestamptz '2024-03-01 00:30+00'";

/// A call of each of them, `@` for the moment.
const CALLS: &[(&str, &str)] = &[
    ("kronos.kronos_predict", "select * from kronos.kronos_predict('bars', 3, as_of => @)"),
    ("kronos.kronos_paths", "select * from kronos.kronos_paths('bars', 2, 3, as_of => @)"),
    (
        "kronos.chronos_predict",
        "select * from kronos.chronos_predict('bars', '{close,volume}', 3, as_of => @, model => 'chronos-nano')",
    ),
    ("kronos.nbeats_predict", "select * from kronos.nbeats_predict('bars', '{close}', 3, as_of => @)"),
    ("kronos.forecast", "select * from kronos.forecast('hist_vol', 'bars', '{close}', 3, as_of => @)"),
    ("kronos.backtest", "select * from kronos.backtest('drift', 'bars', 2, num_windows => 4, as_of => @)"),
    ("kronos.detect_anomalies", "select * from kronos.detect_anomalies('bars', as_of => @)"),
    (
        "kronos.detect_anomalies",
        "select * from kronos.detect_anomalies('bars', 'hist_vol', num_windows => 20, as_of => @)",
    ),
    ("kronos.infer_calendar", "select * from kronos.infer_calendar('bars', as_of => @)"),
    ("market.liquidity", "select * from market.liquidity(@, 20)"),
    ("market.documents_at", "select * from market.documents_at(@)"),
    ("market.known", "select * from market.known('AAA', @)"),
    ("market.trailing_ratios", "select * from market.trailing_ratios(@)"),
    ("market.fundamentals", "select * from market.fundamentals(@)"),
    ("market.fundamentals_factors", "select * from market.fundamentals_factors(@)"),
    ("market.metrics", "select * from market.metrics(@)"),
    ("trading.borrowability", "select * from trading.borrowability(@)"),
    ("market.social_features", "select * from market.social_features(@, span => '10 days')"),
    (
        "market.social_features",
        "select * from market.social_features(@, width => '1 day', span => '20 days')",
    ),
    ("market.event_facts", "select * from market.event_facts(@)"),
    ("market.events", "select * from market.events(@)"),
    ("market.surprises", "select * from market.surprises(@)"),
    ("market.revisions", "select * from market.revisions(@)"),
    ("market.leader_bars", "select * from market.leader_bars(@)"),
    ("market_internal.event_sightings", "select * from market_internal.event_sightings(@, null, null)"),
    ("market_internal.event_rows", "select * from market_internal.event_rows(@, null, null)"),
    ("trading.terms_at", "select * from trading.terms_at(@)"),
    ("trading.scores_at", "select * from trading.scores_at(@)"),
    ("trading.knob", "select trading.knob('gross', 'any', @) as knob"),
    ("trading.matured_forecasts", "select * from trading.matured_forecasts('bars', 1, @, time_col => 'ts')"),
    ("trading.forecast_skill", "select * from trading.forecast_skill('bars', 1, @, time_col => 'ts')"),
    ("trading.score_skill", "select * from trading.score_skill('bars', 1, @, time_col => 'ts')"),
    ("trading.expected_returns", "select * from trading.expected_returns('bars', 1, @, time_col => 'ts')"),
    ("trading.signals", "select * from trading.signals('bars', 1, as_of => @, time_col => 'ts')"),
];

/// A picture of a past moment shows what came of it as well.
const DRAWS_WHAT_CAME: &str = "kronos.chart";

/// Daily bars of four names, what was forecast of them, and what the tables of the market and of trading say, before and after the moment.
const FILL: &str = "
    set client_min_messages = warning;
    call kronos.install();
    create table bars (symbol text, ts timestamptz, open float8, high float8, low float8, close float8, volume float8, amount float8,
                       primary key (symbol, ts));
    insert into bars
    select symbol, timestamptz '2023-10-01 00:00+00' + i * interval '1 day', c, c * 1.01, c * 0.99, c * (1 + 0.004 * sin(ascii(symbol) * i)),
           1000 + 100 * sin(i), 100000
    from unnest('{AAA,BBB,CCC,DDD}'::text[]) symbol, generate_series(0, 200) i, lateral (select 100 + 5 * sin(i * 0.11 + length(symbol)) as c) x;
    -- Live forecasts of a day, written a minute after the day before had ended.
    select ledger.open_run('live', 'bars', 'forecast', 1, 'm');
    insert into ledger.forecasts (run_id, kind, relation, series, target, ts, step, cutoff, forecast, lower, upper, level, model_version,
                                  calibration, issued_at)
    select r.run_id, 'live', r.relation, b.symbol, 'close', b.ts + interval '1 day', 1, b.ts + interval '1 day',
           -- Half of what came.
           (b.close + coalesce(lead(b.close) over (partition by b.symbol order by b.ts), b.close)) / 2, b.close * 0.99, b.close * 1.01, 0.9,
           'm@1', '', b.ts + interval '1 day 1 minute'
    from ledger.runs r, bars b;
    insert into market.bars (symbol, source, bar_width, time, open, high, low, close, volume, known_at)
    select symbol, 'test', '1 day', ts, open, high, low, close, volume, ts + interval '1 day' from bars;
    insert into market.documents (source, kind, key, symbol, known_at, received_at, payload, digest)
    select 'test', 'news', 'k' || i % 7, 'AAA', timestamptz '2024-02-20 12:00+00' + i * interval '1 day', now(), jsonb_build_object('i', i),
           sha256(i::text::bytea)
    from generate_series(0, 20) i;
    -- Four quarters, and their restatements after the moment.
    insert into market.fmp_income_statement (source, kind, key, symbol, known_at, received_at, payload, digest)
    select 'test', 'fmp_income_statement', 'AAA/' || i % 4, 'AAA', timestamptz '2024-02-10 00:00+00' + i / 4 * interval '30 days', now(),
           jsonb_build_object('date', date '2023-12-31' - i % 4 * 92, 'period', 'Q' || 4 - i % 4, 'netIncome', i), sha256(('s' || i)::bytea)
    from generate_series(0, 7) i;
    -- Ratios of a name without statements.
    insert into market.fmp_ratios (source, kind, key, symbol, known_at, received_at, payload, digest)
    select 'test', 'fmp_ratios', 'BBB', 'BBB', timestamptz '2024-02-10 00:00+00' + i * interval '7 days', now(),
           jsonb_build_object('priceToEarningsRatio', 10 + i), sha256(('r' || i)::bytea)
    from generate_series(0, 7) i;
    -- Disclosures of two days, some of them corrected after the moment; a broker that changes its mind.
    insert into market.quiver_house (source, kind, key, symbol, known_at, received_at, payload, digest)
    select 'test', 'quiver_house', 'AAA/' || i % 5, 'AAA', timestamptz '2024-02-25 12:00+00' + i * interval '1 day', now(),
           jsonb_build_object('Filed', date '2024-02-20' + i % 2, 'Transaction', 'Purchase', 'Range', '$1,001 - $15,000', 'n', i), sha256(('h' || i)::bytea)
    from generate_series(0, 11) i;
    insert into market.alpaca_assets (source, kind, key, symbol, known_at, received_at, payload, digest)
    select 'test', 'alpaca_assets', symbol, symbol, timestamptz '2024-02-27 12:00+00' + i * interval '1 day', now(),
           jsonb_build_object('status', 'active', 'tradable', true, 'shortable', i % 2 = 0, 'easy_to_borrow', true), sha256(('a' || i)::bytea)
    from unnest('{AAA,BBB}'::text[]) symbol, generate_series(0, 5) i;
    -- Messages of two months, some of which are read again three days later.
    insert into market.social_messages (source, kind, key, symbol, event_time, known_at, received_at, payload, digest)
    select 'test', 'social_messages', i || '/AAA', 'AAA', t, t + v * interval '3 days', now(), p, sha256(p::text::bytea)
    from generate_series(0, 2000) i, generate_series(0, case when i % 5 = 0 then 1 else 0 end) v,
         lateral (select timestamptz '2024-01-15 00:00+00' + i * i % 2003 * interval '40 minutes' as t) x,
         lateral (select jsonb_build_object('id', i, 'user', jsonb_build_object('username', 'u' || i % 9, 'followers', i % 100),
                    'likes', jsonb_build_object('total', i % 4 + v),
                    'entities', jsonb_build_object('sentiment', jsonb_build_object('basic', case when (i + v) % 3 = 0 then 'Bearish' else 'Bullish' end))) as p) y;
    -- A figure that is released, moved, and released again after the moment, and reports of a company.
    insert into market.event_keys (event_key, kind) select 'CPI:' || i, 'CPI' from generate_series(0, 2) i;
    insert into market.event_schedules (event_key, scheduled_ts, known_at)
    select 'CPI:' || i, timestamptz '2024-02-13 13:30+00' + make_interval(days => 10 * i + moved), timestamptz '2023-11-01 00:00+00' + make_interval(days => 110 * moved + 5 * i)
    from generate_series(0, 2) i, generate_series(0, 1) moved;
    insert into market.event_consensus (event_key, value, known_at)
    select 'CPI:' || i, i + n, timestamptz '2024-02-10 00:00+00' + make_interval(days => 10 * (i + n)) from generate_series(0, 2) i, generate_series(0, 2) n;
    insert into market.event_releases (event_key, value, known_at)
    select 'CPI:' || i, i + n, timestamptz '2024-02-15 00:00+00' + make_interval(days => 10 * i + 30 * n) from generate_series(0, 2) i, generate_series(0, 1) n;
    insert into market.fmp_earnings (source, kind, key, symbol, known_at, received_at, payload, digest)
    select 'fmp', 'fmp_earnings', 'AAA/' || d, 'AAA', k, k, p, sha256((p::text || k)::bytea)
    from generate_series(0, 7) i, lateral (select date '2024-01-10' + i * 7 as d) x, lateral (select timestamptz '2024-01-01 00:00+00' + i * interval '9 days' as k) y,
         lateral (select jsonb_build_object('date', d, 'epsEstimated', i, 'epsActual', case when i % 3 > 0 then i + 1 end) as p) z;
    -- Estimates of a year, and bars of a leader.
    insert into market.fmp_analyst_estimates (source, kind, key, symbol, known_at, received_at, payload, digest)
    select 'fmp', 'fmp_analyst_estimates', 'AAA/annual/2024-12-31', 'AAA', k, k, p, sha256((p::text || k)::bytea)
    from generate_series(0, 7) i, lateral (select timestamptz '2024-01-01 00:00+00' + i * interval '11 days' as k) y,
         lateral (select jsonb_build_object('date', '2024-12-31', 'epsAvg', 3 + i) as p) z;
    insert into market.bars (symbol, source, bar_width, time, open, high, low, close, known_at)
    select 'SPY', 'test', '1 day', ts, open, high, low, close, ts + interval '1 day' from bars where symbol = 'AAA';
    insert into trading.terms (symbol, known_at, shortable, cost_bps)
    select symbol, timestamptz '2024-02-25 12:00+00' + i * interval '1 day', true, 5 + i from unnest('{AAA,BBB,CCC,DDD}'::text[]) symbol, generate_series(0, 9) i;
    insert into trading.scores (symbol, known_at, score)
    select symbol, timestamptz '2023-12-01 12:00+00' + i * interval '1 day', sin(i + ascii(symbol))
    from unnest('{AAA,BBB,CCC,DDD}'::text[]) symbol, generate_series(0, 120) i;
    insert into trading.policy_knobs (knob, regime, value, valid_from)
    values ('gross', 'any', 1.1, '2024-02-28 00:00+00'), ('gross', 'any', 1.2, '2024-03-02 00:00+00')";

/// Changes what was known after the moment; the guards of append-only tables are off.
const LATER: &str = "
    set session_replication_role = replica;
    update bars set open = open * 3, high = high * 3, low = low * 3, close = close * 3, volume = volume * 7 where ts + interval '1 day' > @;
    update market.bars set close = close * 3, volume = volume * 7 where known_at > @;
    -- A better source that comes a day late.
    insert into market.bars (symbol, source, bar_width, time, open, high, low, close, volume, known_at)
    select symbol, 'yahoo', bar_width, time, open * 3, high * 3, low * 3, close * 3, volume * 5, greatest(known_at, @ + interval '1 day')
    from market.bars where source = 'test'
    on conflict do nothing;
    update ledger.forecasts set forecast = forecast * 2, upper = upper * 2 where issued_at > @;
    update market.documents set payload = '{}' where known_at > @;
    update market.event_schedules set scheduled_ts = scheduled_ts + interval '1 day', is_cancelled = true where known_at > @;
    update market.event_consensus set value = -value where known_at > @;
    update market.event_releases set value = -value where known_at > @;
    update trading.terms set cost_bps = 99 where known_at > @;
    update trading.scores set score = -score where known_at > @;
    update trading.policy_knobs set value = 3 where valid_from > @;
    reset session_replication_role";

const CUT: &str = "
    set session_replication_role = replica;
    delete from bars where ts + interval '1 day' > @;
    delete from market.bars where known_at > @;
    delete from ledger.forecasts where issued_at > @;
    delete from market.documents where known_at > @;
    delete from market.event_schedules where known_at > @;
    delete from market.event_consensus where known_at > @;
    delete from market.event_releases where known_at > @;
    delete from trading.terms where known_at > @;
    delete from trading.scores where known_at > @;
    delete from trading.policy_knobs where valid_from > @;
    reset session_replication_role";

fn answer(db: &Database, query: &str, as_of: &str) -> String {
    db.value(&format!(
        "set client_min_messages = error; select coalesce(string_agg(q::text, E'\\n' order by q::text), '') from ({}) q",
        query.replace('@', as_of)
    ))
}

fn said(db: &Database) -> Vec<String> {
    CALLS.iter().map(|(_, query)| answer(db, query, AS_OF)).collect()
}

#[test]
fn what_is_derived_of_the_market_says_the_same_at_any_moment() {
    let db = Database::new("truncation_moments");
    db.run(FILL);
    // Moments of five months, the latest first: what is changed after one is after those before it, too.
    let mut minutes: Vec<u64> = (1..=12u64).map(|i| i * 7_919 * 7_919 % 216_000).collect();
    minutes.sort_unstable();
    let derived = || CALLS.iter().filter(|(name, _)| name.starts_with("market"));
    for (i, minute) in minutes.iter().rev().enumerate() {
        let as_of = format!("(timestamptz '2023-11-05 00:00+00' + {minute} * interval '1 minute')");
        let before: Vec<_> = derived().map(|(_, query)| answer(&db, query, &as_of)).collect();
        db.run(&if i % 2 == 0 { LATER } else { CUT }.replace('@', &as_of));
        for ((name, query), before) in derived().zip(before) {
            assert_eq!(before, answer(&db, query, &as_of), "{name} as of {as_of}: {query}");
        }
    }
}

#[test]
fn every_function_with_as_of_says_the_same_on_a_table_cut_at_that_moment() {
    let db = Database::new("truncation");
    db.run(FILL);
    let sql = "select n.nspname || '.' || p.proname from pg_proc p join pg_namespace n on n.oid = p.pronamespace
               where n.nspname in ('kronos', 'market', 'market_internal', 'trading') and 'as_of' = any (p.proargnames[:p.pronargs])";
    let known: BTreeSet<String> = rows(&mut db.connect(), sql).into_iter().flatten().flatten().collect();
    let called = CALLS.iter().map(|(name, _)| *name).chain([DRAWS_WHAT_CAME]);
    let called: BTreeSet<String> = called.map(str::to_owned).collect();
    assert_eq!(known, called, "each of them has a call here");
    let before = said(&db);
    for ((name, query), answer) in CALLS.iter().zip(&before) {
        assert!(!answer.is_empty(), "{name} says nothing: {query}");
    }
    for (what, change) in [("later rows changed", LATER), ("later rows gone", CUT)] {
        db.run(&change.replace('@', AS_OF));
        for (((name, query), before), after) in CALLS.iter().zip(&before).zip(said(&db)) {
            assert_eq!(*before, after, "{name}, {what}: {query}");
        }
    }
    // The same moment a day later is another answer, for those that could know more.
    let told = |moment: &str| {
        db.value(&format!("select count(*) from kronos.detect_anomalies('bars', as_of => {moment})"))
    };
    assert_ne!(told(AS_OF), told("timestamptz '2024-02-20 00:00+00'"));
}
