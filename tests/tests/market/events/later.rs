//! What becomes known later changes nothing that was known.

use super::{said, tell};
use kronos_tests::Database;

/// Two years of a figure as a vendor tells of it and as somebody enters it, and reports of three companies that are moved about.
fn fill(db: &Database) {
    db.run(
        "insert into market.fmp_economic_calendar (source, kind, key, known_at, received_at, payload, digest)
         select 'fmp', 'fmp_economic_calendar', 'US/' || event || '/' || due, seen, seen, p, sha256((p::text || seen)::bytea)
         from generate_series(0, 23) n, generate_series(0, 3) version,
              lateral (select date '2024-01-11' + make_interval(months => n) as day) d,
              lateral (select 'Inflation Rate MoM (' || to_char(day - interval '1 month', 'Mon') || ')' as event,
                              to_char(day, 'YYYY-MM-DD') || ' 12:30:00' as due,
                              day + (array[interval '-60 days', '-5 days', '13 hours 30 minutes 20 seconds', '40 days'])[version + 1] as at) e,
              lateral (select at at time zone 'UTC' as seen) t,
              lateral (select jsonb_build_object('country', 'US', 'event', event, 'date', due, 'estimate', case when version > 0 then round(sin(n)::numeric, 1) end,
                                                 'actual', case when version > 1 then round(cos(n * version)::numeric, 1) end) as p) f;
         insert into market.fmp_earnings (source, kind, key, symbol, known_at, received_at, payload, digest)
         select 'fmp', 'fmp_earnings', s || '/' || day, s, seen, seen, p, sha256((p::text || seen || s)::bytea)
         from unnest('{AAA,BBB,CCC}'::text[]) with ordinality a (s, i), generate_series(0, 7) n, generate_series(0, 2) version,
              lateral (select date '2024-01-25' + 91 * n::integer - case when version = 0 then 9 * (i - 2)::integer else 0 end as day) d,
              lateral (select (day - case version when 2 then -1 when 1 then 4 else 40 end)::timestamp at time zone 'UTC' as seen) t,
              lateral (select jsonb_build_object('symbol', s, 'date', day, 'epsEstimated', round((1 + sin(n * i) / 9)::numeric, 2),
                                                 'epsActual', case version when 2 then round((1 + cos(n * i) / 9)::numeric, 2) end) as p) f;
         insert into market.event_keys (event_key, kind) select 'NFP:' || n, 'NFP' from generate_series(0, 23) n;
         insert into market.event_schedules (event_key, scheduled_ts, known_at)
         select 'NFP:' || n, timestamptz '2024-01-05 13:30+00' + make_interval(months => n, days => moved), timestamptz '2023-11-01 00:00+00' + make_interval(months => n * moved)
         from generate_series(0, 23) n, generate_series(0, 1) moved;
         insert into market.event_consensus (event_key, value, known_at)
         select 'NFP:' || n, 100 + n + i, timestamptz '2024-01-01 00:00+00' + make_interval(months => n, days => i) from generate_series(0, 23) n, generate_series(0, 6) i;
         insert into market.event_releases (event_key, value, known_at)
         select 'NFP:' || n, 120 + 30 * sin(n + i), timestamptz '2024-01-06 13:30:10+00' + make_interval(months => n + i) from generate_series(0, 23) n, generate_series(0, 2) i;",
    );
    tell(
        db,
        "fmp_economic_calendar",
        "US/old",
        None,
        "2025-07-01 00:00+00",
        r#"{"country": "US", "event": "Unemployment Rate (May)", "date": "2024-06-07 12:30:00", "estimate": 4.0, "actual": 4.1}"#,
    );
}

fn known(db: &Database, at: &str) -> Vec<String> {
    let mut rows = said(db, &format!("select e::text from market.events('{at}') e order by 1"));
    rows.extend(said(db, &format!("select e::text from market.event_facts('{at}') e order by 1")));
    rows.extend(said(db, &format!("select e::text from market.surprises('{at}') e order by 1")));
    rows
}

#[test]
fn what_becomes_known_later_changes_no_event() {
    let db = Database::installed("events_later");
    fill(&db);
    for at in ["2024-02-11 13:30+00", "2024-09-02 00:00+00", "2025-01-11 13:30:10+00", "2025-08-28 18:00+00"]
    {
        let before = known(&db, at);
        assert!(before.len() > 20, "{at}: {}", before.len());
        let changes = [
            "update market.documents set payload = payload || '{\"estimate\": 77, \"actual\": 88, \"epsActual\": 99, \"epsEstimated\": -99, \"date\": \"2024-03-03\"}'
             where known_at > '@';
             update market.event_schedules set scheduled_ts = scheduled_ts + interval '3 days', is_cancelled = true where known_at > '@';
             update market.event_consensus set value = -value where known_at > '@';
             update market.event_releases set value = -value where known_at > '@'",
            "delete from market.documents where known_at > '@'; delete from market.event_schedules where known_at > '@';
             delete from market.event_consensus where known_at > '@'; delete from market.event_releases where known_at > '@'",
        ];
        for change in changes {
            let mut client = db.connect();
            client.batch_execute("begin").unwrap();
            client.batch_execute(&change.replace('@', at)).unwrap();
            let query = format!(
                "select e::text from market.events('{at}') e union all select e::text from market.event_facts('{at}') e
                 union all select e::text from market.surprises('{at}') e"
            );
            let mut after: Vec<String> =
                kronos_tests::rows(&mut client, &query).into_iter().flatten().flatten().collect();
            client.batch_execute("rollback").unwrap();
            let mut before = before.clone();
            before.sort();
            after.sort();
            assert_eq!(after, before, "{at}: {change}");
        }
    }
}

#[test]
fn no_setting_of_a_session_changes_an_event() {
    let db = Database::installed("events_settings");
    fill(&db);
    let digest = |settings: &str| {
        db.value(&format!(
            "{settings} select md5(string_agg(concat_ws(' ', event_id, event_key, extract(epoch from scheduled_ts), extract(epoch from schedule_known_at), actual,
               consensus, extract(epoch from consensus_asof), extract(epoch from actual_known_at), float8send(surprise_z), superseded_by), ',' order by event_id))
             from market.events('2025-08-28 18:00+00')"
        ))
    };
    let plain = digest("");
    for settings in [
        "set timezone = 'Pacific/Auckland'; set datestyle = 'SQL, DMY';",
        "set timezone = 'America/Los_Angeles'; set datestyle = 'German'; set extra_float_digits = -3; set intervalstyle = 'sql_standard';",
        "set enable_hashjoin = off; set enable_hashagg = off; set work_mem = '64kB'; set jit = on;",
    ] {
        assert_eq!(digest(settings), plain, "{settings}");
    }
}

#[test]
fn the_view_of_a_kind_is_what_the_function_says_of_it() {
    let db = Database::installed("events_view");
    fill(&db);
    let rows = "select count(*) || md5(string_agg(e::text, ',' order by event_id)) from";
    for kind in ["CPI", "EARNINGS", "NFP"] {
        let view = db.value(&format!("{rows} market.econ_events e where kind = '{kind}'"));
        assert_eq!(view, db.value(&format!("{rows} market.events(now()) e where kind = '{kind}'")), "{kind}");
        assert!(!view.is_empty(), "{kind}");
    }
    // All kinds but one are left alone.
    let plan = db.rows("explain (analyze, costs off, timing off, summary off) select * from market.econ_events where kind = 'CPI'");
    let calls = plan.iter().flatten().flatten().find(|line| line.contains("Function Scan")).unwrap();
    assert!(calls.ends_with("loops=1)"), "{calls}");
}
