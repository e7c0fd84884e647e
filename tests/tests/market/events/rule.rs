//! The rule of surprises: in closed form, and written down again for the events of the golden rows.

use super::{said, utc};
use kronos_tests::{Database, shared_folder};
use std::collections::BTreeMap;

/// Monthly figures with consensus 0, so that a figure is its surprise; each is released when it is due.
fn figures(db: &Database, kind: &str, surprises: &[f64]) {
    for (i, x) in surprises.iter().enumerate() {
        db.run(&format!(
            "with k as (insert into market.event_keys (event_key, kind) values ('{kind}:{i:03}', '{kind}')),
                  s as (insert into market.event_schedules (event_key, scheduled_ts, known_at)
                        values ('{kind}:{i:03}', timestamptz '2020-01-15 13:30+00' + {i} * interval '1 month', '2019-11-01 14:00+00')),
                  c as (insert into market.event_consensus (event_key, value, known_at) values ('{kind}:{i:03}', 0, '2020-01-01 00:00+00'))
             insert into market.event_releases (event_key, value, known_at)
             values ('{kind}:{i:03}', {x}, timestamptz '2020-01-15 13:30:10+00' + {i} * interval '1 month')"
        ));
    }
}

fn z(db: &Database, event: &str) -> Option<f64> {
    let value = db.value(&format!(
        "select surprise_z from market.econ_events where event_key = '{event}' and superseded_by is null"
    ));
    (!value.is_empty()).then(|| value.parse().unwrap())
}

#[track_caller]
fn assert_z(db: &Database, event: &str, expected: f64) {
    let z = z(db, event).unwrap();
    assert!((z - expected).abs() < 1e-12, "{event}: {z}, not {expected}");
}

#[test]
fn a_surprise_is_measured_by_those_before_it() {
    let db = Database::installed("events_sigma");
    // An outlier, then twenty by turns, so that the last has forgotten it.
    let turns = |i: usize| if i.is_multiple_of(2) { 0.2 } else { -0.2 };
    let mut surprises = vec![100.0];
    surprises.extend((0..20).map(turns));
    surprises.extend([0.3, 9.0]);
    figures(&db, "CPI", &surprises);
    // Seven before it are too few: the prior of 0.13. Eight are not.
    assert_z(&db, "CPI:000", 5.0);
    assert_z(&db, "CPI:007", 0.2 / 0.13);
    let eight: Vec<f64> = surprises[..8].to_vec();
    assert_z(&db, "CPI:008", -0.2 / deviation(&eight));
    // Twenty by turns have a standard deviation of 0.2·√(20/19).
    assert_z(&db, "CPI:021", 0.3 / (0.2 * (20.0_f64 / 19.0).sqrt()));
    assert_z(&db, "CPI:022", 5.0);
    // Where they are all alike, one unit of what is displayed: a tenth of a point, a thousand jobs.
    figures(&db, "NFP", &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0, 150.0]);
    assert_z(&db, "NFP:008", 2.0);
    figures(&db, "UNRATE", &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.1, -0.1]);
    assert_eq!(z(&db, "UNRATE:007"), None, "no prior is assumed");
    assert_z(&db, "UNRATE:008", -1.0);
}

#[test]
fn a_figure_that_nobody_expected_counts_in_no_way() {
    let db = Database::installed("events_usable");
    figures(&db, "CPI", &[0.1, 0.2]);
    // Its only snapshot was taken at the very moment it was due.
    db.run(
        "insert into market.event_keys (event_key, kind) values ('late', 'CPI');
         insert into market.event_schedules (event_key, scheduled_ts, known_at) values ('late', '2020-04-15 12:30+00', '2019-11-01 14:00+00');
         insert into market.event_consensus (event_key, value, known_at) values ('late', 0.1, '2020-04-15 12:30+00');
         insert into market.event_releases (event_key, value, known_at) values ('late', 0.9, '2020-04-15 12:30:10+00')",
    );
    let newest = "select event_key, surprise, n_before from market.surprises('2020-05-01 00:00+00')";
    assert_eq!(said(&db, newest), ["CPI:001 0.2 1"]);
    assert_eq!(
        said(&db, "select actual, consensus from market.econ_events where event_key = 'late'"),
        ["0.9 -"]
    );
    // Taken a second before, it is one.
    db.run("insert into market.event_consensus (event_key, value, known_at) values ('late', 0.2, '2020-04-15 12:29:59+00')");
    assert_eq!(said(&db, newest), ["late 0.7 2"]);
}

#[test]
fn the_first_release_counts_whatever_is_revised() {
    let db = Database::installed("events_revised");
    figures(&db, "CPI", &[0.1]);
    db.run(
        "insert into market.event_releases (event_key, value, known_at) values
           ('CPI:000', null, '2020-01-15 13:30:05+00'), ('CPI:000', 0.7, '2020-02-12 13:30+00')",
    );
    let of = format!("select actual, {} from market.econ_events", utc("actual_known_at"));
    assert_eq!(said(&db, &of), ["0.1 2020-01-15 13:30:10"]);
    // Of two at one time the one that was added later.
    db.run("insert into market.event_releases (event_key, value, known_at) values ('CPI:000', 0.2, '2020-01-15 13:30:10+00')");
    assert_eq!(said(&db, &of), ["0.2 2020-01-15 13:30:10"]);
}

#[test]
fn an_event_that_moves_is_one_event_with_a_row_for_each_day() {
    let db = Database::installed("events_moved");
    db.run(
        "insert into market.event_keys (event_key, kind) values ('CPI:Oct', 'CPI'), ('FOMC:Mar', 'FOMC'), ('FOMC:cut', 'FOMC');
         insert into market.event_schedules (event_key, scheduled_ts, known_at, is_cancelled) values
           ('CPI:Oct', '2022-11-09 13:30+00', '2021-11-01 14:00+00', false), ('CPI:Oct', '2022-11-10 13:30+00', '2022-11-04 16:00+00', false),
           ('FOMC:Mar', '2020-03-18 18:00+00', '2019-06-15 16:00+00', false), ('FOMC:Mar', '2020-03-18 18:00+00', '2020-03-15 21:00+00', true);
         -- After the first day it was set for, before the day in force.
         insert into market.event_consensus (event_key, value, known_at) values ('CPI:Oct', 0.3, '2022-11-08 00:00+00'), ('CPI:Oct', 0.4, '2022-11-09 20:00+00');
         insert into market.event_releases (event_key, value, known_at) values
           ('CPI:Oct', 0.5, '2022-11-10 13:30:10+00'), ('FOMC:cut', -50, '2020-03-03 15:00:20+00')",
    );
    let rows = format!(
        "select {}, actual, consensus, superseded_by is null, is_cancelled from market.events(@, '{{CPI}}') order by schedule_known_at",
        utc("scheduled_ts")
    );
    let at = |time: &str| said(&db, &rows.replace('@', &format!("'{time}'")));
    assert_eq!(at("2022-11-04 15:59+00"), ["2022-11-09 13:30:00 - - t f"]);
    assert_eq!(at("2022-12-01 00:00+00"), ["2022-11-09 13:30:00 - - f f", "2022-11-10 13:30:00 0.5 0.4 t f"]);
    // Each row names the next.
    assert_eq!(
        db.value("select count(*) from market.econ_events a join market.econ_events b on a.superseded_by = b.event_id and a.event_key = b.event_key"),
        "2"
    );
    let decisions = format!(
        "select event_key, coalesce({}, 'never'), is_cancelled, hawkish from market.events('2020-03-16 00:00+00', '{{FOMC}}')
         where superseded_by is null order by 1",
        utc("scheduled_ts")
    );
    assert_eq!(said(&db, &decisions), ["FOMC:Mar 2020-03-18 18:00:00 t -", "FOMC:cut never f -1"]);
}

#[test]
fn a_consensus_is_that_before_the_day_in_force_when_the_figure_came() {
    let db = Database::installed("events_in_force");
    figures(&db, "CPI", &[0.1]);
    db.run(
        "insert into market.event_consensus (event_key, value, known_at) values ('CPI:000', 0.7, '2020-01-15 14:00+00');
         insert into market.event_schedules (event_key, scheduled_ts, known_at) values ('CPI:000', '2020-01-16 13:30+00', '2020-01-20 00:00+00')",
    );
    assert_eq!(said(&db, "select surprise from market.econ_events where superseded_by is null"), ["0.1"]);
}

/// Standard deviation of a sample.
fn deviation(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64).sqrt()
}

/// An event of the files: lists of (time, value) in the order of the file, times as text that sorts.
#[derive(Default)]
struct Event {
    kind: String,
    symbol: String,
    schedule: Vec<(String, String)>,
    consensus: Vec<(String, f64)>,
    actual: Vec<(String, f64)>,
}

/// A surprise: when it was released, when it was due, whose, how large.
type Surprise<'a> = (&'a str, &'a str, &'a str, f64);

impl Event {
    fn surprise<'a>(&'a self, key: &'a str, as_of: &str) -> Option<Surprise<'a>> {
        let released = self.actual.iter().filter(|a| *a.0 <= *as_of).min_by(|a, b| a.0.cmp(&b.0))?;
        let due = &self.schedule.iter().filter(|s| s.0 <= released.0).max_by(|a, b| a.0.cmp(&b.0))?.1;
        let expected = self.consensus.iter().filter(|c| c.0 < *due).max_by(|a, b| a.0.cmp(&b.0))?;
        Some((&released.0, due, key, released.1 - expected.1))
    }
}

/// Rows of a file as maps from column to value.
fn table(path: &std::path::Path) -> Vec<BTreeMap<String, String>> {
    csv::Reader::from_path(path).unwrap().deserialize().map(Result::unwrap).collect()
}

#[test]
fn surprises_are_those_of_the_rule_on_the_events_of_the_golden_rows() {
    let Some(folder) = shared_folder("reference/kronos-events/data") else { return };
    let db = Database::installed("events_golden");
    let script = format!(
        "create table s (event_key text, kind text, symbol text, scheduled_ts timestamptz, schedule_known_at timestamptz, cancelled bool,
                         day_from timestamptz, day_to timestamptz, timing text);
         create table v (event_key text, field text, value numeric, known_at timestamptz);
         create table b (symbol text, open_ts timestamptz, close_ts timestamptz, close float8);
         \\copy s from '{0}/sample_event_schedule.csv' csv header\n\
         \\copy v from '{0}/sample_event_values.csv' csv header\n\
         \\copy b from '{0}/sample_bars_daily.csv' csv header\n
         insert into market.event_keys (event_key, kind, symbol)
         select distinct event_key, split_part(event_key, ':', 1), symbol from s where kind <> 'RATE_DECISION';
         insert into market.event_keys (event_key, kind, publisher)
         select event_key, kind, split_part(event_key, ':', 2) from s where kind = 'RATE_DECISION';
         insert into market.event_keys (event_key, kind) select distinct event_key, split_part(event_key, ':', 1) from v
         on conflict do nothing;
         insert into market.event_schedules (event_key, scheduled_ts, known_at, is_cancelled, is_day_only)
         select event_key, scheduled_ts, schedule_known_at, cancelled, day_from is not null from s;
         insert into market.event_consensus (event_key, value, known_at) select event_key, value, known_at from v where field = 'consensus';
         insert into market.event_releases (event_key, value, known_at) select event_key, value, known_at from v where field = 'actual';
         insert into market.bars (symbol, source, bar_width, time, open, high, low, close, known_at)
         select symbol, 'file', '1 day', date_trunc('day', open_ts, 'UTC'), close, close, close, close, close_ts from b;",
        folder.display()
    );
    let printed = db.psql(&script);
    assert!(!printed.contains("ERROR"), "{printed}");
    let mut events = BTreeMap::<String, Event>::new();
    for mut row in table(&folder.join("sample_event_schedule.csv")) {
        let event = events.entry(row["event_key"].clone()).or_default();
        event.kind = row["kind"].clone();
        event.symbol = row["symbol"].clone();
        event.schedule.push((row.remove("schedule_known_at").unwrap(), row["scheduled_ts"].clone()));
    }
    for row in table(&folder.join("sample_event_values.csv")) {
        let event = events.entry(row["event_key"].clone()).or_default();
        let Ok(value) = row["value"].parse() else { continue };
        match row["field"].as_str() {
            "actual" => event.actual.push((row["known_at"].clone(), value)),
            "consensus" => event.consensus.push((row["known_at"].clone(), value)),
            _ => {}
        }
    }
    let closes: Vec<(String, f64)> = table(&folder.join("sample_bars_daily.csv"))
        .iter()
        .map(|row| (row["close_ts"].clone(), row["close"].parse().unwrap()))
        .collect();
    let mut measured = 0;
    for as_of in [
        "2020-03-01T00:00:00Z",
        "2022-06-10T12:30:04Z",
        "2022-06-10T12:30:05Z",
        "2022-06-16T20:30:00Z",
        "2023-03-01T00:00:00Z",
    ] {
        for (kind, symbol, prior, floor, most, least) in [
            ("CPI", "", 0.13, 0.1, 20, 8),
            ("NFP", "", 75.0, 1.0, 20, 8),
            ("EARNINGS", "SYNA", f64::NAN, 0.0, 8, 4),
        ] {
            let of_kind = events.iter().filter(|(_, event)| (&*event.kind, &*event.symbol) == (kind, symbol));
            let mut surprises: Vec<Surprise<'_>> =
                of_kind.filter_map(|(key, event)| event.surprise(key, as_of)).collect();
            surprises.sort_by_key(|s| (s.0, s.1));
            let found: BTreeMap<String, String> = said(
                &db,
                &format!("select event_key, coalesce(surprise_z::text, '-') from market.events('{as_of}', '{{{kind}}}', '{{{symbol}}}')
                          where surprise is not null and symbol is not distinct from nullif('{symbol}', '')"),
            )
            .iter()
            .map(|row| row.split_once(' ').map(|(key, z)| (key.to_owned(), z.to_owned())).unwrap())
            .collect();
            assert_eq!(found.len(), surprises.len(), "{kind} {as_of}");
            for (i, (released, _, key, x)) in surprises.iter().enumerate() {
                let before: Vec<f64> = surprises[i.saturating_sub(most)..i].iter().map(|s| s.3).collect();
                let sd = if before.len() >= least { deviation(&before).max(floor) } else { prior };
                let price = closes
                    .iter()
                    .rfind(|(close, _)| kind == "EARNINGS" && **close <= **released)
                    .map(|c| 0.0002 * c.1);
                let sigma = price.map_or(sd, |part| sd.max(part));
                if sigma.is_nan() {
                    assert_eq!(found[*key], "-", "{key}");
                    continue;
                }
                let z: f64 = found[*key].parse().unwrap();
                assert!(
                    (z - (x / sigma).clamp(-5.0, 5.0)).abs() < 1e-9,
                    "{key} as of {as_of}: {z}, not {x} / {sigma}"
                );
                measured += 1;
            }
        }
    }
    assert!(measured > 200, "{measured}");
    // Two cells of the golden rows, as old as their release.
    for (event, z) in
        [("CPI:2022-06-10", 0.4254300011276134), ("EARNINGS:SYNA:2022-06-14", 1.160238702230639)]
    {
        assert_z(&db, event, z);
    }
}
