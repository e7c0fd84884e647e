//! A database that has the extension survives pg_dump and restore with everything people put into it.

use kronos_tests::{Database, bars};
use std::process::Stdio;

/// What a restore must bring back: catalogue, aliases, calendars with their exceptions, privileges, a forecast, the ledger.
const STATE: [&str; 9] = [
    "select version, name, uri, sha256, settings, train_cutoff, license, aliases, built_in from kronos.models order by version",
    "select name, timezone, sessions, closed_days, short_days, builtin from kronos.calendars order by name",
    "select calendar, day, opens, closes, note, builtin from kronos.calendar_exceptions order by 1, 2, 3",
    "select count(*) from kronos.calendar_sessions",
    "select extversion from pg_extension where extname = 'kronos'",
    "select * from wide_forecast order by series, step",
    "select * from kronos.latest_forecasts order by series, step",
    "select * from kronos.runs order by run_id",
    "select policy, owner, relation, args, schedule_interval, initial_start from kronos.policies",
];

#[test]
fn a_restored_database_forecasts_the_same() {
    let db = Database::new("dump");
    db.run(&bars("bars", &["AAA", "BBB"], 120));
    db.run(
        "select kronos.register_model('house', 'kronos', 'kronos-fixture', train_cutoff => '2024-06-30',
                                      license => 'private', options => '{\"max_context\": 64}');
         select kronos.set_alias('house-default', 'house');
         select kronos.set_alias('small', 'kronos-nano');
         select kronos.add_calendar('XTST', 'Asia/Shanghai', '{\"1-5\":[[\"09:30\",\"11:30\"],[\"13:00\",\"15:00\"]]}',
                                    'a market with a lunch break');
         select kronos.add_calendar_exception('XTST', '2024-10-01', note => 'National Day');
         select kronos.add_calendar_exception('XNYS', '2024-03-05', '09:30', '12:00', 'an early close of our own');
         create view wide_forecast as
         select * from kronos.kronos_predict('bars', 3, series_col => 'symbol', model => 'house-default');
         call kronos.install();
         select kronos.add_forecast_policy('bars', 3, policy => 'kept', model => 'house-default')",
    );
    db.run("call kronos.run_policy(config => '{\"policy\": \"kept\"}')");

    let dump = db
        .program("pg_dump")
        .args(["--format=custom", "--no-owner"])
        .stderr(Stdio::inherit())
        .output()
        .expect("pg_dump can be run");
    assert!(dump.status.success(), "pg_dump failed");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dump");
    std::fs::write(&file, dump.stdout).unwrap();

    let restored = Database::empty("restored");
    let restore = restored
        .program("pg_restore")
        .args(["--exit-on-error", "--no-owner", "--single-transaction", "--dbname"])
        .arg(restored.name())
        .arg(&file)
        .output()
        .expect("pg_restore can be run");
    assert!(restore.status.success(), "{}", String::from_utf8_lossy(&restore.stderr));
    for query in STATE {
        assert_eq!(restored.rows(query), db.rows(query), "{query}");
    }
    assert_eq!(restored.value("select count(*) from kronos.latest_forecasts"), "6");
    // The policy goes on where it was, and finds its forecasts there.
    restored.run("call kronos.run_policy(config => '{\"policy\": \"kept\"}')");
    assert_eq!(
        restored.value("select count(distinct run_id) || ' ' || (select max(run_id) from kronos.runs) from kronos.forecasts"),
        "1 2"
    );
    restored.error("delete from ledger.forecasts").is("55000", "append-only");
}
