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

/// The defaults are of use: on a simulated market with known volatility their 90 % intervals hold what they say, roughly,
/// and their median stays near the last close.
#[test]
fn they_forecast_sanely() {
    let db = unconfigured("built_in_sane");
    db.run(
        "create table sim as select * from kronos.simulate_bars(
           (select array_agg('S' || i) from generate_series(1, 30) as i), n => 300, bucket_width => '1 hour', seed => 11)",
    );
    for (point, call) in [
        ("close", "kronos.kronos_predict('sim', 8, as_of => %, level => 0.9, samples => 100)"),
        ("forecast", "kronos.chronos_predict('sim', '{close}', 8, as_of => %, level => 0.9)"),
    ] {
        // Cut eight bars before the end, so that every forecast has its outcome.
        let call = call.replace('%', "(select min(time) from (select time, row_number() over (partition by symbol order by time desc) as age from sim) as s where age = 8)");
        let share = |what: &str| -> f64 {
            db.value(&format!(
                "select avg(({what})::int::float8) from {call} as f join sim as s on s.symbol = f.series and s.time = f.ts"
            ))
            .parse()
            .unwrap()
        };
        let covered = share("s.close between f.lower and f.upper");
        assert!((0.7..=0.995).contains(&covered), "{call}: {covered}");
        let near = share(&format!("abs(ln(f.{point} / s.close)) < 0.2"));
        assert!(near > 0.9, "{call}: {near}");
    }
}
