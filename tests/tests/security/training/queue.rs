//! The queue: what was written into it by hand, and what is asked of it that nobody can do.

use super::{OPTIONS, Tenants, cancelled};
use kronos_tests::Client;

/// Whoever may ask writes rows of the queue by hand too: neither the owner nor the course of a job is theirs to say.
#[test]
fn rows_of_the_queue_that_were_written_by_hand_gain_nothing() {
    let tenants = Tenants::new("training_queue");
    let (db, attacker, victim) = (&tenants.db, &tenants.attacker, &tenants.victim);
    let ask = format!("select kronos.train_model('v', 'nbeats', 'den.bars', '{{close}}', '{OPTIONS}')");
    tenants
        .as_attacker(&format!("grant usage on schema den to {victim}; grant select on den.bars to {victim}"));
    db.connect_as(victim).batch_execute(&ask).unwrap();
    let columns = "name, family, relation, targets, options";
    let values = format!("'m', 'nbeats', 'den.bars', '{{close}}', '{OPTIONS}'");
    let mut client = db.connect_as(attacker);
    for (sql, code) in [
        (format!("insert into training.jobs ({columns}, requester) values ({values}, '{victim}')"), "42501"),
        (
            format!("insert into training.jobs ({columns}, state, worker_pid) values ({values}, 'done', 1)"),
            "42501",
        ),
        (
            format!(
                "insert into training.jobs ({columns}) values ('../m', 'nbeats', 'den.bars', '{{close}}', '{{}}')"
            ),
            "23514",
        ),
        ("insert into training.series values (1, 'x', 7, '{1}', '{1}')".into(), "42501"),
        ("insert into training.cancellations (job_id) values (1)".into(), "42501"),
        ("insert into training.messages (job_id, line, message) values (1, 1, 'x')".into(), "42501"),
        ("insert into training.best_fits values (1, 1, 'x', 30, 1, 1, 1, 1)".into(), "42501"),
        ("update training.jobs set attempts = 3".into(), "42501"),
        ("delete from training.jobs".into(), "42501"),
        ("select * from training.series".into(), "42501"),
        // Whoever can lock a row can keep a worker waiting.
        ("select * from training.jobs for update".into(), "42501"),
        ("select * from training.jobs for key share".into(), "42501"),
        ("begin; lock table training.jobs in row exclusive mode".into(), "42501"),
        ("rollback; select * from _kronos.model_directories()".into(), "42501"),
        (format!("select kronos.grant_training_worker('{attacker}')"), "42501"),
    ] {
        let error = client.batch_execute(&sql).expect_err(&sql);
        assert_eq!(error.code().map(|code| code.code()), Some(code), "{sql}: {error:?}");
    }
    let seen = |client: &mut Client| -> i64 {
        client.query_one("select count(*) from kronos.training_jobs", &[]).unwrap().get(0)
    };
    assert_eq!(seen(&mut client), 0);
    assert!(!cancelled(&mut client, 1), "only one's own job can be cancelled");
    tenants.harmless();
    assert_eq!(tenants.states(), "done");
}

/// Rows that are no series, and options that `train_model()` would have refused.
#[test]
fn rows_and_options_that_were_written_by_hand_fail_and_harm_nobody() {
    let tenants = Tenants::new("training_by_hand");
    let (db, attacker) = (&tenants.db, &tenants.attacker);
    let tuned = r#"{"from": "kronos-nano", "model": {"tokenizer_from": "../../../etc"}}"#;
    let files = r#"{"sources": [{"files": ["/etc/passwd"], "time_col": "a", "targets": ["b"]}]}"#;
    let batch = r#"{"train": {"batch": 1000000000000}}"#;
    let wide = r#"{"model": {"stacks": [{"kind": "generic", "blocks": 64, "layers": 16, "width": 8192}]}, "train": {"batch": 65536}}"#;
    let deep = format!("{{\"model\": {}{}}}", "[".repeat(500), "]".repeat(500));
    let long = format!("{{\"data\": \"{}\"}}", "x".repeat(2_000_000));
    let bars = "{open,high,low,close}";
    let cases: [(&str, &str, &str, &str, &str); 12] = [
        ("nbeats", "{close}", OPTIONS, "'{1,2,3}', '{1,2}'", "damaged"),
        ("nbeats", "{close}", OPTIONS, "'{1,null,3}', '{1,2,3}'", "database"),
        ("nbeats", "{close}", OPTIONS, "'{3,2,1}', '{1,2,3}'", "not later"),
        ("nbeats", "{close}", OPTIONS, "'{1,2,3}', '{1,Infinity,NaN}'", "no training windows"),
        ("nbeats", "{close}", OPTIONS, "'{-9223372036854775808,9223372036854775807}', '{1,2}'", "damaged"),
        ("oracle", "{close}", "{}", "'{1}', '{1}'", "family \"oracle\""),
        ("kronos", bars, tuned, "'{1}', '{1,1,1,1}'", "tokenizer_from names a file"),
        ("nbeats", "{close}", files, "'{1}', '{1}'", "unrecognized option \"sources\""),
        ("nbeats", "{close}", batch, "'{1}', '{1}'", "train.batch must be between 1 and"),
        ("nbeats", "{close}", wide, "'{1}', '{1}'", "of memory"),
        ("nbeats", "{close}", &deep, "'{1}', '{1}'", "options"),
        ("nbeats", "{close}", &long, "'{1}', '{1}'", "options must have at most"),
    ];
    let mut client = db.connect_as(attacker);
    for (family, targets, options, rows, _) in &cases {
        client
            .batch_execute(&format!(
                "insert into training.jobs (name, family, relation, targets, options)
                 values ('m', '{family}', 'den.bars', '{targets}', '{options}');
                 insert into training.series select max(job_id), 'x', 0, {rows} from training.jobs"
            ))
            .unwrap();
    }
    // Beyond what a part may hold, and of more dimensions than one.
    for rows in ["'{{1}}', '{1}'", "'{1}', '{}'", "array_fill(1, '{65537}'), '{1}'"] {
        let sql =
            format!("insert into training.series select max(job_id), 'y', 0, {rows} from training.jobs");
        assert_eq!(client.batch_execute(&sql).unwrap_err().code().unwrap().code(), "23514", "{rows}");
    }
    // The worker lives, and does what is asked of it next.
    tenants.ask("den.bars", "{close}").unwrap();
    tenants.harmless();
    let rows = db.rows("select state, message, attempts from training.jobs order by job_id");
    for (row, (.., expected)) in rows.iter().zip(&cases) {
        let message = row[1].as_deref().unwrap_or_default();
        assert!(row[0].as_deref() == Some("failed") && message.contains(expected), "{row:?}, not {expected}");
    }
    assert_eq!(rows[cases.len()][0].as_deref(), Some("done"));
}

/// The poison jobs as they were found, and variants: each is refused by whoever is asked, before memory is taken.
#[test]
fn sizes_and_paths_are_refused_when_they_are_asked_for() {
    let tenants = Tenants::new("training_sizes");
    let mut client = tenants.db.connect_as(&tenants.attacker);
    tenants.as_attacker(
        "create view den.candles as select *, close as open, close as high, close as low from den.bars",
    );
    for (family, options, code, message) in [
        (
            "nbeats",
            r#"{"train": {"batch": 1000000000000}}"#,
            "22023",
            "train.batch must be between 1 and 65536, got 1000000000000",
        ),
        ("nbeats", r#"{"train": {"batch": 0}}"#, "22023", "batch must be at least 1"),
        ("nbeats", r#"{"train": {"accumulate": 18446744073709551615}}"#, "22023", "train.accumulate"),
        ("nbeats", r#"{"train": {"steps": 18446744073709551615}}"#, "22023", "train.steps"),
        ("nbeats", r#"{"train": {"steps": 1000000000, "evaluate_every": 1}}"#, "22023", "evaluations"),
        ("nbeats", r#"{"train": {"batch": 1e400}}"#, "22023", "number out of range"),
        ("nbeats", r#"{"train": {"batch": -1}}"#, "22023", "invalid value"),
        ("nbeats", r#"{"model": {"context_length": 1000000000000}}"#, "22023", "context_length"),
        ("nbeats", r#"{"model": {"season": 1000000000000}}"#, "22023", "model.season"),
        (
            "nbeats",
            r#"{"model": {"stacks": [{"kind": "generic", "blocks": 64, "layers": 16, "width": 8192}]}, "train": {"batch": 65536}}"#,
            "54000",
            "of memory",
        ),
        ("nbeats", r#"{"rank": {"top": 1000000000000}}"#, "22023", "rank.top"),
        ("nbeats", r#"{"split": {"holdout_days": 4294967295}}"#, "22023", "split.holdout_days"),
        ("nbeats", r#"{"split": {"purge": 18446744073709551615}}"#, "22023", "split.purge"),
        ("chronos2", r#"{"model": {"examples": {"context": 1000000000000}}}"#, "22023", "examples.context"),
        ("chronos2", r#"{"model": {"network": {"num_layers": 1000000000}}}"#, "22023", "num_layers"),
        (
            "chronos2",
            r#"{"model": {"network": {"d_model": 32768, "d_ff": 32768, "num_layers": 200}}, "train": {"batch": 65536}}"#,
            "54000",
            "of memory",
        ),
        ("chronos2", r#"{"model": {"scored_windows": 1000000000000}}"#, "22023", "scored_windows"),
        (
            "kronos",
            r#"{"model": {"forecasts": {"horizon": 1, "paths": 1000000000000, "temperature": 1}}}"#,
            "22023",
            "forecasts.paths",
        ),
        ("kronos", r#"{"model": {"windows": {"bars": 1000000000000}}}"#, "22023", "windows.bars"),
        ("kronos", r#"{"model": {"predictor": {"s1_bits": 60}}}"#, "22023", "s1_bits"),
        (
            "kronos",
            r#"{"model": {"tokenizer_train": {"batch": 1000000000000}}}"#,
            "22023",
            "model.tokenizer_train.batch",
        ),
        ("kronos", r#"{"model": {"tokenizer_from": "/etc"}}"#, "22023", "tokenizer_from names a file"),
        (
            "kronos",
            r#"{"from": "kronos-nano", "model": {"tokenizer_from": "../../secrets"}}"#,
            "22023",
            "tokenizer_from names a file",
        ),
        ("kronos", r#"{"from": "../../../etc"}"#, "42704", "does not exist"),
        ("kronos", r#"{"from": ["kronos-nano"]}"#, "22023", "from must name"),
    ] {
        let (relation, targets) =
            if family == "kronos" { ("den.candles", "open,high,low,close") } else { ("den.bars", "close") };
        let sql =
            format!("select kronos.train_model('m', '{family}', '{relation}', '{{{targets}}}', '{options}')");
        tenants.db.error_in(&mut client, &sql).is(code, message);
    }
    assert_eq!(tenants.states(), "");
}
