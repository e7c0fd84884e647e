//! `kronos.train_model` from the call to a model that forecasts, run by `kronos-train work`; and `kronos.nbeats_predict`.

use kronos_tests::{Database, Running, TrainedFiles, TrainingWorker, until};
use std::path::PathBuf;
use std::process::Command;

/// A network small enough to be trained in a second.
const TINY: &str = r#"'{"series_col": "symbol", "model": {"context_length": 10, "horizon": 3, "holdout_stride": 20,
    "stacks": [{"kind": "generic", "blocks": 1, "layers": 1, "width": 8}]},
    "train": {"steps": STEPS, "batch": 8, "evaluate_every": 20}, "licence": "none", "rank": {"top": 2}}'"#;

fn options(steps: u64) -> String {
    TINY.replace("STEPS", &steps.to_string())
}

/// A database with the tables of `sql/` and daily bars of three symbols over 900 days.
fn database(test: &str) -> Database {
    let db = Database::installed(test);
    db.run(
        "create table bars (symbol text, ts timestamptz, close float8, note text, primary key (symbol, ts));
         insert into bars
         select s, timestamptz '2021-01-01 00:00+00' + i * interval '1 day',
                100 * exp(0.1 * sin(i * 0.05 * ascii(s)) + 0.01 * ((i * 7919 + ascii(s) * 104729) % 101 - 50) / 50.0)
         from unnest('{A,B,C}'::text[]) s, generate_series(0, 899) i;",
    );
    db
}

/// A role that may train, and read the bars.
fn trainer(db: &Database) -> String {
    let role = db.role("trainer");
    db.run(&format!("select kronos.grant_access('{role}', 'admin'); grant select on bars to {role}"));
    role
}

fn worker(db: &Database) -> Command {
    TrainingWorker::of(db).command()
}

fn work(db: &Database) {
    TrainingWorker::of(db).work();
}

#[test]
fn a_job_becomes_a_model_that_forecasts() {
    let db = database("train_model_end_to_end");
    let role = trainer(&db);
    let mut client = db.connect_as(&role);
    let mut value = |sql: &str| -> String {
        client
            .query_one(sql, &[])
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"))
            .get::<_, Option<String>>(0)
            .unwrap_or_default()
    };
    let call =
        format!("select kronos.train_model('tiny', 'nbeats', 'bars', '{{close}}', {})::text", options(60));
    assert_eq!(value(&call), "1");
    let _trained = TrainedFiles::of(&db);
    assert_eq!(value("select state from kronos.training_jobs"), "queued");
    work(&db);

    let told =
        value("select concat_ws(' ', state, step, steps, message, sqlstate) from kronos.training_jobs");
    assert!(told.starts_with("done ") && told.ends_with(" 60"), "{told}");
    let version = value("select model_version from kronos.training_jobs");
    assert!(version.starts_with("tiny@"), "{version}");
    assert_eq!(
        value(&format!("select family || ' ' || license from kronos.models where version = '{version}'")),
        "nbeats none"
    );
    // Rows 535 to 899 are the last 365 days; before them the purge of 3, so row 531 is the last one trained on.
    assert_eq!(
        value(&format!("select train_cutoff::text from kronos.models where version = '{version}'")),
        "2022-06-16"
    );
    let log = value("select string_agg(message, '|' order by line) from kronos.training_log");
    assert!(
        log.starts_with("2700 rows of 3 series|network: at most 60 steps|step 0: ")
            && log.contains("validation loss"),
        "{log}"
    );
    assert_eq!(
        value(
            "select count(*) || ' ' || min(n) || ' ' || max(rank) from kronos.rank_best_fit where days = 30"
        ),
        "2 30 2"
    );

    let forecasts = format!(
        "select count(*) filter (where status is null and lower <= forecast and forecast <= upper)::text
         from kronos.nbeats_predict('bars', '{{close}}', 3, model => '{version}')"
    );
    assert_eq!(value(&forecasts), "9");
    let front = format!(
        "select count(*)::text from (
           (select series, step, forecast, lower, upper from kronos.nbeats_predict('bars', '{{close}}', 3))
           except
           (select series, step, forecast, lower, upper from kronos.forecast('{version}', 'bars', '{{close}}', 3))) d"
    );
    assert_eq!(value(&front), "0");

    let other = trainer(&db);
    let seen: i64 =
        db.connect_as(&other).query_one("select count(*) from kronos.training_jobs", &[]).unwrap().get(0);
    assert_eq!(seen, 0);
}

/// The foundation models are trained on relations too, from random weights and from a registered model.
#[test]
fn foundation_models_are_trained_and_tuned() {
    let db = database("train_model_foundation");
    db.run(
        "create view candles as select symbol, ts, close * 0.999 as open, close * 1.01 as high, close * 0.99 as low, close, 1000::float8 as volume
         from bars",
    );
    let chronos = r#"{"model": {"examples": {"context": 32, "least_context": 8, "horizon": 8}, "scored": 4, "scored_windows": 6,
        "network": {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2, "chronos_config": {
          "context_length": 32, "input_patch_size": 8, "input_patch_stride": 8, "output_patch_size": 8, "max_output_patches": 1,
          "quantiles": [0.05, 0.5, 0.95], "use_arcsinh": true, "use_reg_token": true, "time_encoding_scale": 32}}},
        "train": {"steps": 40, "batch": 8, "evaluate_every": 20}"#;
    let kronos = r#"{"series_col": "symbol", "time_col": "ts",
        "model": {"windows": {"bars": 48, "least_context": 34, "most_context": 40}, "scored_windows": 4,
                  "tokenizer": {"d_model": 16, "n_heads": 2, "ff_dim": 16, "n_enc_layers": 2, "n_dec_layers": 2, "s1_bits": 4, "s2_bits": 4},
                  "predictor": {"d_model": 16, "n_heads": 2, "ff_dim": 16, "n_layers": 1, "s1_bits": 4, "s2_bits": 4},
                  "forecasts": {"horizon": 3, "paths": 4}"#;
    let train = r#""train": {"steps": 20, "batch": 4, "evaluate_every": 20, "average": 0.9}"#;
    let ask = |name: &str, family: &str, relation: &str, targets: &str, options: &str| {
        let sql = format!(
            "select kronos.train_model('{name}', '{family}', '{relation}', '{targets}', '{options}')"
        );
        db.run(&sql);
    };
    let symbol = r#", "series_col": "symbol"}"#;
    let bars = "{open,high,low,close,volume}";
    ask("c", "chronos2", "bars", "{close}", &format!("{chronos}{symbol}"));
    let both_parts = format!(r#"{kronos}, "tokenizer_train": {{"steps": 30, "batch": 4}}}}, {train}}}"#);
    ask("k", "kronos", "candles", bars, &both_parts);
    let _trained = TrainedFiles::of(&db);
    work(&db);
    let states = "select string_agg(concat_ws(' ', name, state, message), '|' order by job_id) from kronos.training_jobs";
    assert_eq!(db.value(states), "c done|k done");
    // Tuned from them: the tokenizer stays as it is, so the predictor's tokens do.
    ask("c2", "chronos2", "bars", "{close}", &format!("{chronos}, \"from\": \"c\"{symbol}"));
    ask("k2", "kronos", "candles", bars, &format!(r#"{kronos}}}, "from": "k", {train}}}"#));
    work(&db);
    assert_eq!(db.value(states), "c done|k done|c2 done|k2 done");
    let first = |name: &str| {
        let sql = format!(
            "select l.message from kronos.training_log l join kronos.training_jobs j using (job_id)
                           where j.name = '{name}' and l.message like 'step 0:%' order by l.line desc limit 1"
        );
        let line = db.value(&sql);
        let loss = line.split("validation loss ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
        loss.parse::<f64>().unwrap()
    };
    assert!(first("c2") < first("c") && first("k2") < first("k"), "tuning begins where training ended");
    let digests =
        "select count(distinct files -> (settings ->> 'tokenizer' || '/model.safetensors')) || ' ' ||
                          count(distinct sha256) from kronos.models where name in ('k', 'k2')";
    assert_eq!(db.value(digests), "1 2");
    let version = |name: &str| {
        db.value(&format!("select model_version from kronos.training_jobs where name = '{name}'"))
    };
    assert_eq!(
        db.value(&format!(
            "select count(*) filter (where status is null and lower <= forecast and forecast <= upper)
             from kronos.chronos_predict('bars', '{{close}}', 4, model => '{}')",
            version("c2")
        )),
        "12"
    );
    assert_eq!(
        db.value(&format!(
            "select count(*) filter (where status is null and low <= close and close <= high)
             from kronos.kronos_predict('candles', 3, model => '{}')",
            version("k2")
        )),
        "9"
    );
    assert_eq!(
        db.value(&format!(
            "select settings ->> 'max_context' from kronos.models where version = '{}'",
            version("k2")
        )),
        "48"
    );
    // Weights that are not those registered are not gone on from.
    let uri = db.value("select uri from kronos.models where name = 'c'");
    let weights = PathBuf::from(db.value("show kronos.model_dir")).join(uri).join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    ask("c3", "chronos2", "bars", "{close}", &format!("{chronos}, \"from\": \"c\"{symbol}"));
    work(&db);
    let told = db.value("select concat_ws(' ', state, message) from kronos.training_jobs where name = 'c3'");
    assert!(
        told.starts_with("failed ") && told.contains("model.safetensors") && told.contains("checksum"),
        "{told}"
    );
}

/// A worker that may see everything reads what the role that asked may see.
#[test]
fn rows_that_a_policy_hides_are_not_trained_on() {
    let db = database("train_model_policy");
    let _trained = TrainedFiles::of(&db);
    let role = trainer(&db);
    db.run(&format!(
        "alter table bars enable row level security; create policy two on bars to {role} using (symbol <> 'C')"
    ));
    let sql = format!("select kronos.train_model('tiny', 'nbeats', 'bars', '{{close}}', {})", options(20));
    db.connect_as(&role).execute(&sql, &[]).unwrap();
    work(&db);
    let told = "select j.state || ': ' || l.message from kronos.training_jobs j join kronos.training_log l using (job_id)
                order by l.line limit 1";
    assert_eq!(db.value(told), "done: 1800 rows of 2 series");
}

/// The numbers of one series do not depend on the others, nor on rows after `as_of`; what cannot be done is said.
#[test]
fn nbeats_predict_keeps_the_promises_of_every_forecast() {
    let db = database("nbeats_predict");
    db.run(&format!("select kronos.train_model('tiny', 'nbeats', 'bars', '{{close}}', {})", options(20)));
    let _trained = TrainedFiles::of(&db);
    work(&db);
    assert_eq!(db.value("select coalesce(message, state) from training.jobs"), "done");
    let call = |more: &str| {
        format!(
            "select series, ts, step, forecast, lower, upper, status from kronos.nbeats_predict('bars', '{{close}}', 3{more}) order by 1, 3"
        )
    };
    let all = db.rows(&call(""));
    assert_eq!(db.rows(&call(", only_series => '{B}'")), all[3..6]);
    let before = db.rows(&call(", as_of => '2023-01-01'"));
    db.run("update bars set close = close * 2 + 1 where ts >= '2023-01-01'");
    assert_eq!(db.rows(&call(", as_of => '2023-01-01'")), before);
    // Two columns are two forecasts.
    db.run("alter table bars add column twice float8; update bars set twice = close");
    let both = "select count(*) from kronos.nbeats_predict('bars', '{close,twice}', 3) a
                join kronos.nbeats_predict('bars', '{close}', 3) b using (series, step) where a.forecast = b.forecast";
    assert_eq!(db.value(both), "18");
    db.run("delete from bars where symbol = 'C' and ts > '2021-01-05'");
    assert_eq!(
        db.value("select status from kronos.nbeats_predict('bars', '{close}', 3, only_series => '{C}')"),
        "short_history"
    );

    let refused = |sql: &str| db.error(&format!("select * from {sql}"));
    refused("kronos.nbeats_predict('bars', '{close}', 4)").is("22023", "horizon");
    refused("kronos.nbeats_predict('bars', '{close}', 3, past_covariates => '{twice}')")
        .is("0A000", "covariates");
    refused("kronos.nbeats_predict('bars', '{close}', 3, level => 0.99)").is("22023", "quantile level");
    refused("kronos.nbeats_predict('bars', '{close}', 3, model => 'nonsense')").is("42704", "does not exist");
    refused("kronos.chronos_predict('bars', '{close}', 3, model => 'tiny')")
        .is("0A000", "")
        .hint("nbeats_predict");
}

/// A column that holds the target's future is wrong in the data already: no cut can help, so it is not trained on.
#[test]
fn a_column_that_holds_the_future_is_refused() {
    let db = database("train_model_canary");
    let _trained = TrainedFiles::of(&db);
    db.run("create table told as select b.*, lead(close, 2) over (partition by symbol order by ts) as ahead from bars b");
    db.run(
        r#"select kronos.train_model('canary', 'chronos2', 'told', '{close,ahead}',
             '{"series_col": "symbol", "train": {"steps": 1}, "model": {"examples": {"context": 64, "horizon": 8}}}')"#,
    );
    work(&db);
    let told = db.value("select concat_ws(' ', state, message) from training.jobs");
    assert!(
        told.starts_with("failed ") && told.contains("\"ahead\"") && told.contains("correlation"),
        "{told}"
    );
}

/// Waits for a job to have done a step.
fn wait_for_a_step(db: &Database, running: &mut Running) {
    let mut client = db.connect();
    let steps = "select coalesce(max(step), 0) from training.jobs where state = 'running'";
    until("a job has done a step", || {
        assert!(running.0.try_wait().unwrap().is_none(), "the worker ended early");
        client.query_one(steps, &[]).unwrap().get::<_, i64>(0) > 0
    });
}

#[test]
fn a_job_can_be_cancelled_and_a_killed_worker_is_replaced() {
    let db = database("train_model_cancel");
    let role = trainer(&db);
    let mut client = db.connect_as(&role);
    let endless = options(100_000_000).replace("\"steps\"", "\"patience\": 1000000, \"steps\"");
    client
        .execute(&format!("select kronos.train_model('tiny', 'nbeats', 'bars', '{{close}}', {endless})"), &[])
        .unwrap();
    let _trained = TrainedFiles::of(&db);

    // Killed: the job stays where it is, and the next worker takes it.
    let mut first = Running(worker(&db).spawn().unwrap());
    wait_for_a_step(&db, &mut first);
    drop(first);
    assert_eq!(db.value("select state from training.jobs"), "running");

    let mut second = Running(worker(&db).spawn().unwrap());
    wait_for_a_step(&db, &mut second);
    let cancel = |client: &mut postgres::Client| -> bool {
        client.query_one("select kronos.cancel_training(1)", &[]).unwrap().get(0)
    };
    let stranger = trainer(&db);
    assert!(!cancel(&mut db.connect_as(&stranger)), "only its own job can be cancelled by a role");
    assert!(cancel(&mut client));
    let mut ended = None;
    until("the worker has ended", || {
        ended = second.0.try_wait().unwrap();
        ended.is_some()
    });
    assert!(ended.unwrap().success());
    assert_eq!(db.value("select state || coalesce(model_version, '') from training.jobs"), "cancelled");
    assert!(!cancel(&mut client), "it has ended");
}

#[test]
fn what_cannot_be_trained_is_refused_at_once() {
    let db = database("train_model_errors");
    let role = trainer(&db);
    let mut client = db.connect_as(&role);
    let mut refused =
        |arguments: &str| db.error_in(&mut client, &format!("select kronos.train_model({arguments})"));
    refused("'m', 'oracle', 'bars', '{close}'").is("0A000", "family \"oracle\"").hint("nbeats");
    refused("'m', 'chronos2', 'bars', '{close}', '{\"from\": \"nobody\"}'").is("42704", "model \"nobody\"");
    refused("'m', 'nbeats', 'bars', '{close}', '{\"from\": \"nobody\"}'").is("0A000", "option \"from\"");
    refused("'m', 'kronos', 'bars', '{close}', '{\"rank\": {}}'").is("0A000", "option \"rank\"");
    refused("'m', 'nbeats', 'bars', '{px}'").is("42703", "column \"px\" of \"public.bars\"");
    refused("'m', 'nbeats', 'bars', '{note}'").is("42804", "has type text");
    refused("'m', 'nbeats', 'bars', '{}'").is("22023", "targets");
    refused("'../m', 'nbeats', 'bars', '{close}'").is("22023", "name must be");
    refused("'m', 'nbeats', 'bars', '{close}', '{\"stepps\": 1}'")
        .is("22023", "unrecognized option \"stepps\"")
        .hint("train");
    refused("'m', 'nbeats', null, '{close}'").is("22004", "must not be null");
    db.run(&format!("revoke select on bars from {role}"));
    refused("'m', 'nbeats', 'bars', '{close}'").is("42501", "permission denied");
    // A role of another level has no such function.
    let user = db.role("user");
    db.run(&format!("select kronos.grant_access('{user}', 'use'); grant select on bars to {user}"));
    let call = "select kronos.train_model('m', 'nbeats', 'bars', '{close}')";
    db.error_in(&mut db.connect_as(&user), call).is("42501", "train_model");
    // Nobody asks in the name of another.
    let forged = format!(
        "insert into training.jobs (name, family, relation, targets, requester) values ('m', 'nbeats', 'bars', '{{close}}', '{user}')"
    );
    db.error_in(&mut db.connect_as(&role), &forged).is("42501", "");
}

/// What can be told without training is told by whoever is asked, in the words of the worker.
#[test]
fn what_is_wrong_with_a_job_is_said_when_it_is_queued() {
    let db = database("train_model_at_once");
    db.run(
        "create table twice as select * from bars union all select * from bars where symbol = 'B' and ts = '2021-03-01';
         create table nothing as select * from bars limit 0;
         create table plain (symbol text, at bigint, close float8)",
    );
    let refused = |arguments: &str| db.error(&format!("select kronos.train_model({arguments})"));
    refused("'m', 'kronos', 'bars', '{close}'")
        .is("22023", "targets of a Kronos model are open, high, low, close");
    refused("'m', 'nbeats', 'bars', '{close,close}'").is("22023", "\"close\" twice");
    refused("'m', 'nbeats', 'twice', '{close}', '{\"series_col\": \"symbol\"}'")
        .is("22023", "series \"B\" has two rows of the same time, 2021-03-01 00:00:00 UTC");
    refused("'m', 'nbeats', 'nothing', '{close}', '{\"series_col\": \"symbol\"}'")
        .is("22023", "\"public.nothing\" has no rows to learn from");
    refused("'m', 'nbeats', 'bars', '{close}', '{\"only_series\": [\"Z\"]}'")
        .is("22023", "no rows to learn from");
    refused("'m', 'nbeats', 'plain', '{close}'")
        .is("42P18", "cannot tell the time column of \"public.plain\"");
    refused("'m', 'nbeats', 'bars', '{close}', '{\"time_col\": \"note\"}'").is("42804", "column \"note\"");
    refused("'m', 'nbeats', 'bars', '{close}', '{\"until\": \"soon\"}'").is("22023", "\"soon\" is no date");
    refused("'m', 'nbeats', 'bars', '{close}', '{\"train\": {\"stepps\": 1}}'").is("22023", "stepps");
    refused("'m', 'nbeats', 'bars', '{close}', '{\"model\": {\"widht\": 1}}'").is("22023", "widht");
    refused("'m', 'nbeats', 'bars', '{close}', '{\"device\": \"gpu\"}'").is("22023", "is no device");
    refused("'m', 'nbeats', 'bars', '{close}', '{\"split\": {\"holdout\": 2}}'").is("22023", "split.holdout");
    refused("'m', 'chronos2', 'bars', '{close}', '{\"from\": \"kronos-nano\"}'")
        .is("22023", "of family kronos, not chronos2");
    refused("'m', 'chronos2', 'bars', '{close}', '{\"model\": {\"examples\": {\"least_context\": 999}}}'")
        .is("22023", "least_context");
    assert_eq!(db.value("select count(*) from training.jobs"), "0", "what is refused leaves nothing");
}

#[test]
fn a_job_that_fails_says_why() {
    let db = database("train_model_failures");
    let role = trainer(&db);
    let _trained = TrainedFiles::of(&db);
    let mut client = db.connect_as(&role);
    let mut ask = |relation: &str, options: &str| {
        client
            .execute(
                &format!("select kronos.train_model('m', 'nbeats', '{relation}', '{{close}}', {options})"),
                &[],
            )
            .unwrap();
    };
    db.run("create table short as select * from bars where ts < '2021-02-01'");
    db.run(&format!("grant select on short to {role}"));
    ask("short", &options(20));
    // A view is read as by a SELECT of the caller.
    db.run(&format!("create view seen as select * from bars; grant select on seen to {role}"));
    ask("seen", &options(20));
    work(&db);
    let rows = db.rows("select state, message from training.jobs order by job_id");
    let text = |row: usize, column: usize| rows[row][column].as_deref().unwrap_or_default();
    assert!(text(0, 0) == "failed" && text(0, 1).contains("no training windows"), "{rows:?}");
    assert_eq!((text(1, 0), text(1, 1)), ("done", ""));
    assert_eq!(
        db.value("select count(*) from training.series"),
        "0",
        "rows are kept as long as they are needed"
    );
}
