//! A job whose data hold the future is refused before its first step.
#![allow(clippy::expect_used, clippy::unwrap_used)] // a test may stop where it is

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// Bars of 900 days, and what each day is told in the last column: the close of the day before or of the day after.
fn bars(path: &Path, ahead: i64) {
    let mut price = 100.0;
    let closes: Vec<f64> = (0..902_u64)
        .map(|day| {
            // An irregular walk: no move tells of the next.
            price *= 1.0 + 0.02 * ((day * day * 7919 % 101) as f64 / 100.0 - 0.5);
            price
        })
        .collect();
    let mut text = String::from("ts,open,high,low,close,told\n");
    for day in 1..=900_i64 {
        let close = closes[day as usize];
        let date =
            chrono::DateTime::from_timestamp(1_600_000_000 / 86_400 * 86_400 + day * 86_400, 0).unwrap();
        let (open, high, low) = (close * 0.999, close * 1.01, close * 0.99);
        let told = closes[(day + ahead) as usize];
        writeln!(text, "{},{open},{high},{low},{close},{told}", date.format("%Y-%m-%d")).unwrap();
    }
    fs::write(path, text).unwrap();
}

fn trained(folder: &Path, job: &str, ahead: i64) -> Output {
    let (data, path) = (folder.join("bars.csv"), folder.join("job.toml"));
    bars(&data, ahead);
    let source = format!("[[sources]]\nfiles = [\"{}\"]\ntime_col = \"ts\"\n", data.display());
    fs::write(&path, format!("name = \"m\"\n{}", job.replace("SOURCE", &source))).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kronos-train"));
    command.args(["train", "--threads", "1", "--out"]).arg(folder.join("out")).arg(&path);
    command.output().unwrap()
}

/// The job is refused where the last column tells of tomorrow, and runs where it tells of yesterday.
fn refuses_the_future(job: &str, column: &str) {
    let folder = tempfile::tempdir().unwrap();
    let refused = trained(folder.path(), job, 1);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains(&format!("column \"{column}\" holds the future")),
        "{said}"
    );
    assert!(!folder.path().join("out/m/checkpoint.safetensors").exists(), "and not a step was made");
    let honest = trained(folder.path(), job, -1);
    assert!(honest.status.success(), "{}", String::from_utf8_lossy(&honest.stderr));
}

#[test]
fn a_group_of_chronos2_that_knows_tomorrow_is_refused() {
    let job = r#"family = "chronos2"
SOURCE
targets = ["close", "told"]
[train]
steps = 1
batch = 2
evaluate_every = 1
[model]
scored = 4
scored_windows = 2
[model.examples]
context = 32
least_context = 16
horizon = 8
targets = [0]
[model.network]
d_model = 16
d_kv = 8
d_ff = 16
num_layers = 1
num_heads = 2
"#;
    refuses_the_future(job, "told");
}

/// The last column is taken for the volume.
#[test]
fn a_volume_of_kronos_that_knows_tomorrow_is_refused() {
    let job = r#"family = "kronos"
SOURCE
targets = ["open", "high", "low", "close", "told"]
[train]
steps = 1
batch = 2
evaluate_every = 1
[model]
scored_windows = 2
windows = { bars = 48, least_context = 34, most_context = 40 }
tokenizer = { d_model = 16, n_heads = 2, ff_dim = 16, n_enc_layers = 2, n_dec_layers = 2, s1_bits = 4, s2_bits = 4 }
tokenizer_train = { steps = 1, batch = 2, evaluate_every = 1 }
predictor = { d_model = 16, n_heads = 2, ff_dim = 16, n_layers = 1, s1_bits = 4, s2_bits = 4 }
forecasts = { horizon = 3, paths = 2 }
"#;
    refuses_the_future(job, "volume");
}
