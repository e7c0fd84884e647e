//! When policies run: the times of their schedules, how those are written for pg_cron, and what becomes of missed ones.

use super::{add, call, runs, with_bars};
use kronos_tests::Database;

/// Makes this database look as if pg_cron were in it; what it is told to schedule is kept in `cron.job`.
const CRON: &str = "
    create schema cron;
    create table cron.job (jobid bigint generated always as identity, jobname text, schedule text, command text);
    create function cron.schedule(text, text, text) returns bigint language sql
      as 'insert into cron.job (jobname, schedule, command) values ($1, $2, $3) returning jobid';
    create or replace function kronos.scheduler() returns text language sql stable as $$select 'pg_cron'$$;
    create or replace function _kronos.cron_timezone() returns text language sql stable as $$select 'GMT'$$";

/// Adds a policy for 16:05 UTC of a day and returns the warnings and notices that it raised.
fn add_from(db: &Database, policy: &str, day: &str, interval: &str) -> Vec<String> {
    let (mut client, notices) = db.connect_with_notices();
    client
        .batch_execute(&format!(
            "select kronos.add_forecast_policy('bars', 3, '{interval}', policy => '{policy}', initial_start => '{day} 16:05+00')"
        ))
        .unwrap();
    let said = notices.lock().unwrap().clone();
    said.into_iter().filter(|notice| !notice.contains("there is no scheduler")).collect()
}

/// The days of a query that PostgreSQL's clock at 16:05 UTC meets, as text.
fn days(db: &Database, sql: &str) -> Vec<String> {
    db.rows(&format!("set timezone = 'UTC'; {sql}")).into_iter().flatten().flatten().collect()
}

#[test]
fn a_schedule_from_the_end_of_a_month_is_said_and_runs_on_the_last_day_of_shorter_ones() {
    let db = with_bars("policy_month_end", &["A"]);
    db.run(CRON);
    let plain = "call kronos.run_policy(config => '{\"policy\": \"p\"}')";
    let gated = "call kronos.run_policy(config => '{\"policy\": \"p\", \"on_schedule\": true}')";
    for (day, interval, schedule, command, notice) in [
        ("2024-01-28", "1 month", "5 16 28 * *", plain, None),
        ("2024-01-29", "1 month", "5 16 28-29 * *", gated, Some("29")),
        ("2024-01-31", "1 month", "5 16 28-31 * *", gated, Some("31")),
        ("2024-11-30", "3 months", "5 16 28-30 2-12/3 *", gated, Some("30")),
        // January and July have that day.
        ("2024-01-31", "6 months", "5 16 31 1-12/6 *", plain, None),
        ("2024-11-30", "1 year", "5 16 30 11 *", plain, None),
        ("2024-12-31", "1 year", "5 16 31 12 *", plain, None),
        ("2024-02-29", "1 year", "5 16 28-29 2 *", gated, Some("29")),
    ] {
        let said = add_from(&db, "p", day, interval);
        let wanted = notice.map(|number| {
            format!("NOTICE: policy \"p\" runs on day {number} of a month, and on the last day of a month that has fewer")
        });
        assert_eq!(said, wanted.into_iter().collect::<Vec<_>>(), "{day} {interval}");
        let job = db.rows("select schedule, command from cron.job");
        assert_eq!(job, [[schedule, command].map(|text| Some(text.to_owned()))], "{day} {interval}");
        db.run("delete from ledger.policies; delete from cron.job");
    }
}

#[test]
fn the_calls_of_a_clock_that_comes_too_often_are_left_out_by_the_days_of_the_schedule() {
    let db = with_bars("policy_days", &["A"]);
    add_from(&db, "p", "2024-01-31", "1 month");
    let on =
        "select d::date from generate_series(timestamptz '2024-01-01 16:05', '2025-12-31 16:05', '1 day') d
              where not _kronos.is_off_schedule('p', d) and extract(day from d) >= 28 order by 1";
    let last = "select (m + interval '1 month - 1 day')::date from generate_series(timestamp '2024-01-01', '2025-12-01', '1 month') m";
    assert_eq!(days(&db, on), days(&db, last));
    // Half a day late is on time, and what is not yet is not.
    let off = |at: &str| db.value(&format!("select _kronos.is_off_schedule('p', '{at}+00')"));
    for (at, expected) in [
        ("2024-01-31 16:04:59", "t"),
        ("2024-02-28 16:05:00", "t"),
        ("2024-02-29 16:04:59", "t"),
        ("2024-02-29 16:05:00", "f"),
        ("2024-03-01 04:05:00", "f"),
        ("2024-03-01 04:05:01", "t"),
    ] {
        assert_eq!(off(at), expected, "{at}");
    }
    add_from(&db, "q", "2024-02-29", "1 year");
    let on =
        "select d::date from generate_series(timestamptz '2024-01-01 16:05', '2028-12-31 16:05', '1 day') d
              where not _kronos.is_off_schedule('q', d) order by 1";
    assert_eq!(days(&db, on), ["2024-02-29", "2025-02-28", "2026-02-28", "2027-02-28", "2028-02-29"]);
}

#[test]
fn a_call_on_another_day_than_the_schedules_runs_nothing_unless_it_is_meant() {
    let db = with_bars("policy_off_schedule", &["A"]);
    add(&db, "p", "");
    let by_clock = |policy: &str| {
        format!("call kronos.run_policy(config => '{{\"policy\": \"{policy}\", \"on_schedule\": true}}')")
    };
    // Its time was three days ago, the next one is four weeks away at least.
    db.run("update ledger.policies set schedule_interval = '1 month', initial_start = now() - interval '72 hours'");
    db.run(&by_clock("p"));
    assert_eq!(runs(&db), [""; 0]);
    db.run("update ledger.policies set initial_start = now() - interval '1 hour'");
    db.run(&by_clock("p"));
    assert_eq!(runs(&db), ["done 1/1/0"]);
    db.run("update ledger.policies set initial_start = now() - interval '72 hours'");
    db.run(&call("p"));
    assert_eq!(runs(&db).len(), 2, "a person's call is meant");
    db.error(&by_clock("gone")).is("42704", "policy \"gone\" does not exist");
}

#[test]
fn a_job_of_pg_cron_serves_the_time_at_which_it_comes() {
    let db = with_bars("policy_seconds", &["A"]);
    db.run(CRON);
    // pg_cron comes at 17 past: a time 30 seconds later would be served an hour late.
    db.run("select kronos.add_forecast_policy('bars', 3, policy => 'p', initial_start => '2024-01-01 10:17:30+00')");
    assert_eq!(db.value("select initial_start = '2024-01-01 10:17:00+00' from kronos.policies"), "t");
    assert_eq!(db.value("select jobname || ': ' || schedule from cron.job"), "kronos policy p: 17 * * * *");
}

/// Time from `scheduled_for` to that of the last run, and whether it is the `as_of`, of each run that forecast something.
fn served(db: &Database, policy: &str) -> Vec<String> {
    let sql = format!(
        "select format('%s %s', max(scheduled_for) over () - scheduled_for, as_of = scheduled_for) from kronos.runs
         where policy = '{policy}' and n_ok > 0 order by run_id"
    );
    db.rows(&sql).into_iter().flatten().flatten().collect()
}

#[test]
fn what_was_missed_is_caught_up_by_rule() {
    let db = with_bars("policy_catch_up", &["A"]);
    // The newest time of the schedule was half an hour ago and the next one comes in half an hour, whatever the hour is.
    db.run("create table newest as select date_trunc('minute', now()) - interval '30 minutes' as due");
    // Bars up to then, and policies whose last run was for five hours before.
    db.run("update bars set ts = ts + (due - timestamptz '2024-01-03 12:00+00') from newest");
    for rule in ["latest", "all"] {
        add(
            &db,
            rule,
            &format!(", args => '{{\"catch_up\": \"{rule}\", \"max_catch_up\": 3, \"seed\": 1}}'"),
        );
        db.run(&format!(
            "update ledger.policies set schedule_interval = '1 hour', initial_start = due - interval '240 hours',
                    created_at = due - interval '216 hours' from newest where policy = '{rule}';
             insert into ledger.runs (policy_id, policy, issued_at, relation, call, state, scheduled_for)
             select p.policy_id, p.policy, due - i, 'bars', 'kronos_predict', state, due - i
             -- What failed serves nothing.
             from newest, ledger.policies p, (values (interval '5 hours', 'done'), ('2 hours', 'failed')) r (i, state)
             where p.policy = '{rule}'"
        ));
        db.run(&call(rule));
    }
    assert_eq!(served(&db, "latest"), ["00:00:00 "]);
    assert_eq!(served(&db, "all"), ["03:00:00 t", "02:00:00 t", "01:00:00 t", "00:00:00 "]);
    // Each time that was missed is forecast from what was known then.
    assert_eq!(
        db.value(
            "select count(*) from kronos.runs r cross join lateral kronos_predict('bars', 3, seed => 1, as_of => r.as_of) f
             join kronos.forecasts l on (l.run_id, l.series, l.ts, l.cutoff) = (r.run_id, f.series, f.ts, f.cutoff)
             where r.as_of is not null and l.cutoff = r.as_of and l.forecast = f.close"
        ),
        "9"
    );
    // Served is served.
    db.run(&call("all"));
    assert_eq!(served(&db, "all").len(), 5);
}

#[test]
fn a_late_call_does_nothing_where_nothing_is_to_be_caught_up() {
    let db = with_bars("policy_late", &["A"]);
    add(&db, "p", ", args => '{\"catch_up\": \"none\"}'");
    // Its last time was 23 hours ago and nobody came.
    db.run(
        "update ledger.policies set schedule_interval = '24 hours', created_at = now() - interval '192 hours',
                initial_start = now() - interval '239 hours'",
    );
    let (mut client, notices) = db.connect_with_notices();
    client.batch_execute(&call("p")).unwrap();
    assert!(
        notices.lock().unwrap().iter().any(|notice| notice.contains("its catch_up is none")),
        "{notices:?}"
    );
    assert_eq!(served(&db, "p").len(), 0);
    db.run("select kronos.submit('p'); ");
    db.run("call kronos.run_policy()");
    assert_eq!(served(&db, "p").len(), 1, "what is asked for runs");
    db.run("update ledger.policies set initial_start = now() - interval '216 hours'");
    db.run(&call("p"));
    assert_eq!(served(&db, "p").len(), 2, "what comes on time runs");
}

#[test]
fn schedules_are_written_for_pg_cron_or_refused() {
    let db = with_bars("policy_cron", &["A"]);
    let written = |start: &str, interval: &str| {
        db.value(&format!("select ledger.cron_expression('{start}', '{interval}')"))
    };
    for (interval, expected) in [
        ("1 minute", "* * * * *"),
        ("15 minutes", "2-59/15 * * * *"),
        ("1 hour", "17 * * * *"),
        ("6 hours", "17 4-23/6 * * *"),
        ("1 day", "17 10 * * *"),
        ("7 days", "17 10 * * 4"),
        ("1 month", "17 10 7 * *"),
        ("3 months", "17 10 7 3-12/3 *"),
        ("1 year", "17 10 7 3 *"),
    ] {
        assert_eq!(written("2024-03-07 10:17:30+00", interval), expected, "{interval}");
    }
    for interval in ["7 minutes", "90 seconds", "90 minutes", "2 days", "5 months", "2 years"] {
        db.error(&format!("select ledger.cron_expression('2024-03-07 10:17+00', '{interval}')"))
            .is("22023", "cannot be written for pg_cron")
            .hint("kronos.run_policy()");
    }
    for (interval, start, zone, at, expected) in [
        ("1 hour", "2024-03-07 10:17+00", "UTC", "2024-03-09 12:16:59+00", "2024-03-09 11:17:00+00"),
        ("1 hour", "2024-03-07 10:17+00", "UTC", "2024-03-09 12:17:00+00", "2024-03-09 12:17:00+00"),
        ("1 hour", "2024-03-07 10:17+00", "UTC", "2024-03-07 10:16:00+00", ""),
        // Five past four in New York, before and after its clocks change.
        (
            "1 day",
            "2024-03-07 16:05-05",
            "America/New_York",
            "2024-03-11 21:00:00+00",
            "2024-03-11 20:05:00+00",
        ),
        (
            "1 day",
            "2024-03-07 16:05-05",
            "America/New_York",
            "2024-03-10 20:04:00+00",
            "2024-03-09 21:05:00+00",
        ),
        // The hour that comes twice has two times.
        (
            "1 hour",
            "2024-11-03 00:00-04",
            "America/New_York",
            "2024-11-03 05:30:00+00",
            "2024-11-03 05:00:00+00",
        ),
        (
            "30 min",
            "2024-11-03 00:15-04",
            "America/New_York",
            "2024-11-03 06:50:00+00",
            "2024-11-03 06:45:00+00",
        ),
        ("1 month", "2024-01-31 00:05+00", "UTC", "2024-02-29 00:04:00+00", "2024-01-31 00:05:00+00"),
        ("1 month", "2024-01-31 00:05+00", "UTC", "2024-02-29 00:05:00+00", "2024-02-29 00:05:00+00"),
        ("1 month", "2024-01-31 00:05+00", "UTC", "2024-03-31 00:05:00+00", "2024-03-31 00:05:00+00"),
        ("1 year", "2024-02-29 00:05+00", "UTC", "2025-02-28 00:04:00+00", "2024-02-29 00:05:00+00"),
        ("1 year", "2024-02-29 00:05+00", "UTC", "2025-02-28 00:05:00+00", "2025-02-28 00:05:00+00"),
        ("1 year", "2024-02-29 00:05+00", "UTC", "2028-02-29 00:04:00+00", "2027-02-28 00:05:00+00"),
        // The last of a month is a day of the policy's zone: 21:00 in New York is the next day in UTC.
        (
            "1 month",
            "2024-01-31 21:00-05",
            "America/New_York",
            "2024-03-01 02:00:00+00",
            "2024-03-01 02:00:00+00",
        ),
    ] {
        let sql = format!(
            "set timezone = 'UTC'; select ledger.slot_before('{start}', '{interval}', '{zone}', '{at}')"
        );
        assert_eq!(db.value(&sql), expected, "{interval} {at}");
    }
}
