//! The models that come with the extension: registered by CREATE EXTENSION, used where nothing is configured, kept.

use kronos_tests::{Database, bars, project_root};
use serde_json::Value;

/// A database in which nobody has configured a model.
fn unconfigured(name: &str) -> Database {
    let db = Database::new(name);
    db.run("select kronos.set_alias('kronos-default', null)");
    db.run(&bars("bars", &["AAA", "BBB"], 150));
    db
}

/// What the project lists, by name.
fn listed() -> Vec<Value> {
    let text = std::fs::read_to_string(project_root().join("models/artifacts/manifest.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["models"].as_array().unwrap().clone()
}

#[test]
fn every_listed_model_is_registered_with_its_digests() {
    let db = unconfigured("built_in_registered");
    assert_eq!(db.value("select count(*) from kronos.models where built_in"), listed().len().to_string());
    for model in listed() {
        let (name, files) = (model["name"].as_str().unwrap(), model["files"].as_object().unwrap());
        assert!(model["train_cutoff"].as_str().unwrap() <= "2023-03-01");
        let known = |what: &str| {
            db.value(&format!("select {what} from kronos.models where built_in and name = '{name}'"))
        };
        assert_eq!(known("family"), model["family"].as_str().unwrap());
        assert_eq!(known("train_cutoff"), model["train_cutoff"].as_str().unwrap());
        assert_eq!(known("license"), model["license"].as_str().unwrap());
        assert!(known("uri").starts_with(&format!("$share/{name}/")));
        for (file, sha256) in files {
            let path = format!("$share/{}/{file}", model["directory"].as_str().unwrap());
            assert_eq!(known(&format!("files ->> '{path}'")), sha256.as_str().unwrap());
        }
    }
    assert_eq!(db.value("select bool_and(ok) from kronos.diagnostics() where \"check\" = 'weights'"), "t");
}

#[test]
fn they_answer_where_nothing_is_configured() {
    let db = unconfigured("built_in_answer");
    let version =
        |sql: &str| db.value(&format!("select distinct split_part(model_version, '@', 1) from {sql}"));
    assert_eq!(version("kronos.kronos_predict('bars', 3)"), "kronos-nano");
    assert_eq!(version("kronos.chronos_predict('bars', '{close}', 3)"), "chronos-nano");
    assert_eq!(version("kronos.forecast(null, 'bars', '{close}', 3)"), "kronos-nano");
    // A model of one's own goes first, as soon as an alias or the setting names it.
    db.run("select kronos.set_alias('kronos-default', 'kronos-fixture')");
    assert_eq!(version("kronos.kronos_predict('bars', 3)"), "kronos-fixture");
    db.run("select kronos.set_alias('kronos-default', null)");
    db.error("set kronos.default_model = 'nobody'; select * from kronos.kronos_predict('bars', 3)")
        .is("42704", "model \"nobody\" does not exist");
}

#[test]
fn they_cannot_be_dropped_and_nobody_else_reads_the_share_directory() {
    let db = unconfigured("built_in_kept");
    let version = db.value("select version from kronos.models where name = 'kronos-nano' and built_in");
    db.error("select kronos.drop_model('kronos-nano')")
        .is("2BP01", &format!("cannot drop model \"{version}\" because it comes with the extension"))
        .hint("kronos.default_model");
    db.error("select kronos.register_model('mine', 'kronos', '$share/kronos-nano')").is(
        "22023",
        "model uri \"$share/kronos-nano\" begins with a \"$\", which is kept for models that come with the extension",
    );
}

/// What a model did on one source of its test data when it was scored: coverage of the 90 % interval, its width, mean absolute error.
fn recorded(listed: &Value, model: &str, source: &str) -> [f64; 3] {
    let folder = project_root().join("models/artifacts").join(listed["directory"].as_str().unwrap());
    let text = std::fs::read_to_string(folder.join("METRICS.json")).unwrap();
    let metrics: Value = serde_json::from_str(&text).unwrap();
    let tests = metrics["test"].as_array().unwrap();
    let row = tests.iter().find(|row| row["model"] == model && row["source"] == source).unwrap();
    ["coverage", "width", "mae"].map(|name| row[name].as_f64().unwrap())
}

/// Three hundred forecasts of a market that they were not trained on, whose symbols move by themselves: outcomes inside the intervals
/// of one step are independent, and their number is binomial.
#[test]
fn their_intervals_hold_what_they_held_when_they_were_scored() {
    let db = unconfigured("built_in_coverage");
    db.run(
        "create table sim as select * from kronos.simulate_bars(
           (select array_agg('S' || i) from generate_series(1, 30) as i), n => 300, bucket_width => '1 hour', seed => 11,
           options => '{\"correlation\": 0}')",
    );
    for name in ["kronos-nano", "chronos-nano"] {
        let listed = listed().into_iter().find(|model| model["name"] == name).unwrap();
        db.run(&format!(
            "drop table if exists b;
             create table b as select b.* from kronos.models m cross join lateral kronos.backtest(m.version, 'sim', 4, num_windows => 10,
               baselines => '{{naive}}', options => '{{\"samples\": 100}}') b where m.name = '{name}' and m.built_in"
        ));
        let [coverage, width, mae] = recorded(&listed, name, "simulated");
        let [_, naive_width, naive_mae] = recorded(&listed, "naive", "simulated");
        let inside = db.rows(
            "select count(*), sum((actual between lower and upper)::int) from b where model_version <> 'naive' group by step order by step",
        );
        assert_eq!(inside.len(), 4);
        for (step, row) in inside.iter().enumerate() {
            let [n, inside] = [0, 1].map(|column| row[column].as_deref().unwrap().parse::<f64>().unwrap());
            assert_eq!(n, 300.0);
            // 3.3 standard deviations are left once in a thousand times.
            let bound = 3.3 * (n * coverage * (1.0 - coverage)).sqrt();
            assert!((inside - n * coverage).abs() < bound, "{name} step {}: {inside} of {n}", step + 1);
        }
        // As wide beside the naive intervals, and as near to what came, as they were then.
        let beside: Vec<f64> = ["(upper - lower) / last_value", "abs(ln(forecast / actual))"]
            .map(|figure| {
                let mean = |of: &str| format!("avg({figure}) filter (where model_version {of} 'naive')");
                db.value(&format!("select {} / {} from b", mean("<>"), mean("="))).parse().unwrap()
            })
            .to_vec();
        assert!((beside[0] / (width / naive_width) - 1.0).abs() < 0.1, "{name}: {beside:?}");
        assert!((beside[1] / (mae / naive_mae) - 1.0).abs() < 0.1, "{name}: {beside:?}");
    }
}
