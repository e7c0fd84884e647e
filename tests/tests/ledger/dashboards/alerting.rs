//! The alert rules under sql/dashboards/alerting: each query runs as the role that reads, says nothing of a database where all is
//! well, and names what is not.

use super::{DATA, reader};
use kronos_tests::{Database, project_root, rows};

/// Uid and query of each rule. The file is YAML that people edit; its queries are blocks, which is all that is read of it here.
fn rules() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(project_root().join("sql/dashboards/alerting/kronos.yaml")).unwrap();
    let mut rules: Vec<(String, String)> = Vec::new();
    let mut block: Option<usize> = None;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        if let Some(uid) = line.trim_start().strip_prefix("- uid: ") {
            rules.push((uid.to_owned(), String::new()));
        }
        block = block.filter(|&outer| indent > outer);
        if block.is_some() {
            let sql = &mut rules.last_mut().unwrap().1;
            sql.push_str(line.trim_start());
            sql.push('\n');
        } else if line.trim() == "rawSql: |" {
            block = Some(indent);
        }
    }
    rules
}

#[test]
fn alerts_are_silent_where_all_is_well_and_name_what_is_not() {
    let db = Database::installed("dashboards_alerts");
    let mut client = reader(&db);
    let rules = rules();
    let uids: Vec<&str> = rules.iter().map(|(uid, _)| uid.as_str()).collect();
    assert_eq!(
        uids,
        [
            "kronos-feed-stale",
            "kronos-rows-rejected",
            "kronos-policy-failed",
            "kronos-engine-restarted",
            "kronos-coverage-off"
        ]
    );
    for (uid, sql) in &rules {
        assert!(uid.len() <= 40 && rows(&mut client, sql).is_empty(), "{uid}");
    }
    db.run(DATA);
    db.run(
        "update market.sources set stale_after = '1 minute' where source = 'kraken';
         insert into ledger.runs (policy_id, policy, relation, call, horizon, n_failed, state, message)
         select policy_id, policy, relation, call, 12, 3, 'failed', 'model \"x\" does not exist' from ledger.policies;
         -- Newer states: recent coverage 0.6 of 0.9, (0.9 - 0.6) / sqrt(0.9 * 0.1 / 60) = 7.75 standard errors.
         insert into ledger.calibration_versions (calibration, version, through, updated_through, n_new) values ('close_90', 3, now(), now(), 1);
         insert into ledger.calibration_state (group_id, version, calibration, n, updated_through, coverage, recent_coverage, raw_coverage, bias,
                                               scale, q_lower, q_upper, mean_width, drift, status, state)
         select group_id, 3, calibration, n, updated_through, coverage, 0.6, raw_coverage, bias, scale, q_lower, q_upper, mean_width, drift, status, state
         from ledger.calibration_state where version = 2",
    );
    let mut fired = |index: usize| -> Vec<Vec<String>> {
        rows(&mut client, &rules[index].1)
            .into_iter()
            .map(|row| row.into_iter().flatten().collect())
            .collect()
    };
    let stale = fired(0);
    assert_eq!((stale.len(), &stale[0][..2]), (1, &["kraken".to_owned(), "trade".to_owned()][..]));
    assert!(stale[0][2].parse::<f64>().unwrap() >= 3600.0, "{stale:?}");
    assert_eq!(fired(1), [["kraken", "1"]]);
    assert_eq!(fired(2), [["hourly", "failed", "model \"x\" does not exist", "3"]]);
    // The engine of these tests was never started again.
    assert!(fired(3).is_empty());
    let off = fired(4);
    let (calibration, errors) = (&off[0][0], off[0][2].parse::<f64>().unwrap());
    assert!(calibration == "close_90" && (errors - 7.746).abs() < 0.001, "{off:?}");
    // Each row has one number and is told apart by text, as Grafana asks of a rule.
    for (uid, sql) in &rules {
        let statement = client.prepare(sql).unwrap();
        let mut types: Vec<&str> = statement.columns().iter().map(|column| column.type_().name()).collect();
        assert_eq!(types.pop(), Some("float8"), "{uid}");
        assert!(types.iter().all(|name| *name == "text"), "{uid}: {types:?}");
    }
}
