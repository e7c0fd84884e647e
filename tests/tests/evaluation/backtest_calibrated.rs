//! From a backtest through the ledger to a calibration: intervals that did not cover do, on simulated and on real bars.
//!
//! The statements are those of docs/backtesting.md, section "On real data".

use kronos_tests::{Database, project_root, shared_folder};

/// The statements of the page, in their order: backtest, calibration, coverage.
fn documented() -> Vec<String> {
    let page = std::fs::read_to_string(project_root().join("docs/backtesting.md")).unwrap();
    let section = page.split("## On real data").nth(1).expect("the page has the section");
    let blocks = section.split("```sql no-run\n").skip(1);
    let statements: Vec<String> = blocks.map(|block| block.split("```").next().unwrap().to_owned()).collect();
    assert_eq!(statements.len(), 3, "the section has three blocks");
    statements
}

/// One line of the documented query.
#[derive(Debug)]
struct Line {
    model: String,
    step: u32,
    n: u64,
    before: f64,
    after: f64,
}

/// Runs the documented statements over `windows` windows of the table `daily`.
fn calibrated(db: &Database, windows: u32) -> Vec<Line> {
    db.run("call kronos.install(parts => '{market,ledger}')");
    let statements = documented();
    let given = [
        "num_windows => 124, window_step => 2",
        r#"{"calendar": "XNYS"}"#,
        "select version from kronos.models",
    ];
    assert!(given.iter().all(|part| statements[0].contains(part)), "{}", statements[0]);
    // Fewer windows, a short context and, of the registered models, the one with random weights alone: the test is quick, and
    // has a model that surely needs to be calibrated.
    let backtest = statements[0]
        .replace(given[0], &format!("num_windows => {windows}, window_step => 1"))
        .replace(given[1], r#"{"calendar": "XNYS", "context": 64, "samples": 16}"#)
        .replace(given[2], "select version from kronos.models where name = 'kronos-fixture'");
    db.run(&backtest);
    let failed =
        db.rows("select model_version, status, count(*) from answers where status is not null group by 1, 2");
    assert!(failed.is_empty(), "{failed:?}");
    db.run(&statements[1]);
    let line = |row: Vec<Option<String>>| {
        let mut row = row.into_iter().map(|value| value.expect("no figure is missing"));
        let mut next = || row.next().unwrap();
        Line {
            model: next(),
            step: next().parse().unwrap(),
            n: next().parse().unwrap(),
            before: next().parse().unwrap(),
            after: next().parse().unwrap(),
        }
    };
    db.rows(&statements[2]).into_iter().map(line).collect()
}

/// The least coverage among the lines of a model, before and after.
fn least(lines: &[Line], model: &str) -> (f64, f64) {
    let lines: Vec<&Line> = lines.iter().filter(|line| line.model.starts_with(model)).collect();
    assert_eq!(lines.iter().map(|line| line.step).collect::<Vec<_>>(), [1, 2, 3, 4, 5], "{model}: {lines:?}");
    let fold = |of: fn(&Line) -> f64| lines.iter().map(|line| of(line)).fold(f64::INFINITY, f64::min);
    (fold(|line| line.before), fold(|line| line.after))
}

#[test]
fn simulated_bars_are_covered_after_calibration() {
    let db = Database::new("calibrated_simulated");
    db.run(
        "create table daily as
         select symbol, (time at time zone 'America/New_York')::date as ds, open, high, low, close, volume
         from simulate_bars('{AMBER,BASALT,COBALT,DIAMOND}', n => 300, bucket_width => '1 day', calendar => 'XNYS', seed => 7);
         alter table daily add primary key (symbol, ds)",
    );
    let lines = calibrated(&db, 200);
    // Random weights: the model's own intervals have nothing to do with what comes.
    let (before, after) = least(&lines, "kronos-fixture");
    assert!(before < 0.6, "{lines:#?}");
    assert!(after > 0.85, "{lines:#?}");
    for baseline in ["hist_vol", "naive"] {
        assert!(least(&lines, baseline).1 > 0.86, "{lines:#?}");
    }
    assert!(lines.iter().all(|line| line.after < 0.97 && line.n == 4 * 200), "{lines:#?}");
}

#[test]
fn real_shares_are_covered_after_calibration() {
    let Some(file) = shared_folder("data/daily/us_equities_daily_1.csv.gz") else { return };
    let db = Database::new("calibrated_real");
    let load = format!(
        "create table all_days (symbol text, ds date, open float8, high float8, low float8, close float8, volume float8);
         \\copy all_days from program 'gzip -dc {}' csv header
         create table daily as select * from all_days where symbol in
           (select symbol from all_days group by 1 having count(*) = 2266 order by 1 limit 10) and ds >= '2021-09-01';
         alter table daily add primary key (symbol, ds);",
        file.display()
    );
    let printed = db.psql(&load);
    assert!(printed.trim().is_empty(), "{printed}");
    let lines = calibrated(&db, 200);
    for line in &lines {
        println!("{line:?}");
    }
    for model in ["hist_vol", "naive"] {
        assert!(least(&lines, model).1 > 0.87, "{model}: {lines:#?}");
    }
    let (before, after) = least(&lines, "kronos-fixture");
    assert!(before < 0.6 && after > 0.84, "{lines:#?}");
}
