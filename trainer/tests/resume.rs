//! The program itself: killed without warning and started again, it ends with the bits of a run that was not.
#![allow(clippy::expect_used, clippy::unwrap_used)] // a test may stop where it is

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Bars of two series over 900 days, that move by a rule.
fn bars(path: &Path) {
    let mut text = String::from("symbol,ts,open,high,low,close\n");
    for (number, symbol) in ["A", "B"].iter().enumerate() {
        for day in 0..900_i64 {
            let noise = ((day * 7919 + number as i64 * 104_729) % 101 - 50) as f64 / 50.0;
            let close = 100.0 * (0.1 * (day as f64 * 0.05).sin() + 0.01 * noise).exp();
            let time = day * 86_400;
            let date = chrono::DateTime::from_timestamp(1_600_000_000 / 86_400 * 86_400 + time, 0).unwrap();
            let (open, high, low) = (close * 0.999, close * 1.01, close * 0.99);
            writeln!(text, "{symbol},{},{open},{high},{low},{close}", date.format("%Y-%m-%d")).unwrap();
        }
    }
    fs::write(path, text).unwrap();
}

fn train(job: &Path, out: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kronos-train"));
    command.args(["train", "--threads", "1", "--out"]).arg(out).arg(job);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The weights that a run to the end leaves, and what it said.
fn finished(job: &Path, out: &Path, weights: &[&str]) -> (Vec<Vec<u8>>, String) {
    let output = train(job, out).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let directory = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
    (weights.iter().map(|file| fs::read(directory.join(file)).unwrap()).collect(), said)
}

/// Kills a run as soon as each of `checkpoints` is there, one after the other, and compares what comes of it with a run
/// that was left alone.
fn resumes(job: &str, checkpoints: &[&str], weights: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let (data, path) = (folder.path().join("bars.csv"), folder.path().join("job.toml"));
    bars(&data);
    fs::write(&path, job.replace("FILE", data.to_str().unwrap())).unwrap();
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    let (expected, _) = finished(&path, &whole, weights);

    for checkpoint in checkpoints {
        let checkpoint = parts.join(checkpoint);
        let mut running = train(&path, &parts).spawn().unwrap();
        while !checkpoint.exists() {
            assert!(running.try_wait().unwrap().is_none(), "it ended before {}", checkpoint.display());
        }
        // SIGKILL: nothing is written on the way out.
        running.kill().unwrap();
        running.wait().unwrap();
        assert!(!parts.join("m/latest").exists(), "it had ended before it was killed");
    }
    let (found, said) = finished(&path, &parts, weights);
    assert!(said.contains("resumed after step "), "{said}");
    assert!(found == expected, "the weights differ");
    assert!(checkpoints.iter().all(|checkpoint| !parts.join(checkpoint).exists()));
}

const SOURCE: &str = r#"
[[sources]]
files = ["FILE"]
series_col = "symbol"
time_col = "ts"
targets = ["close"]
"#;

#[test]
fn n_beats_goes_on_after_a_kill_with_the_same_bits() {
    let job = format!(
        r#"name = "m"
family = "nbeats"
checkpoint_every = 5
{SOURCE}
[train]
steps = 600
batch = 32
evaluate_every = 100
accumulate = 2
[model]
context_length = 20
horizon = 3
dropout = 0.1
stacks = [{{ kind = "generic", blocks = 2, layers = 2, width = 32 }}]
"#
    );
    resumes(&job, &["m/checkpoint.safetensors"], &["model.safetensors"]);
}

#[test]
fn chronos2_goes_on_after_a_kill_with_the_same_bits() {
    let job = format!(
        r#"name = "m"
family = "chronos2"
checkpoint_every = 5
{SOURCE}
[train]
steps = 100
batch = 4
evaluate_every = 50
average = 0.9
[model]
scored = 4
scored_windows = 4
[model.examples]
context = 32
least_context = 16
horizon = 8
[model.network]
d_model = 16
d_kv = 8
d_ff = 16
num_layers = 1
num_heads = 2
"#
    );
    resumes(&job, &["m/checkpoint.safetensors"], &["model.safetensors"]);
}

/// Killed in the training of the tokenizer, and once more in that of the predictor.
#[test]
fn kronos_goes_on_after_two_kills_with_the_same_bits() {
    let source = SOURCE.replace(r#"["close"]"#, r#"["open", "high", "low", "close"]"#);
    let job = format!(
        r#"name = "m"
family = "kronos"
checkpoint_every = 5
{source}
[train]
steps = 60
batch = 4
evaluate_every = 30
average = 0.9
[model]
scored_windows = 4
windows = {{ bars = 48, least_context = 34, most_context = 40 }}
tokenizer = {{ d_model = 16, n_heads = 2, ff_dim = 16, n_enc_layers = 2, n_dec_layers = 2, s1_bits = 4, s2_bits = 4 }}
tokenizer_train = {{ steps = 60, batch = 4 }}
predictor = {{ d_model = 16, n_heads = 2, ff_dim = 16, n_layers = 1, s1_bits = 4, s2_bits = 4 }}
forecasts = {{ horizon = 3, paths = 4 }}
"#
    );
    let weights = ["tokenizer/model.safetensors", "predictor/model.safetensors"];
    resumes(&job, &["m/tokenizer/checkpoint.safetensors", "m/checkpoint.safetensors"], &weights);
}
