//! The program itself: killed without warning and started again, it ends with the bits of a run that was not.
#![allow(clippy::expect_used, clippy::unwrap_used)] // a test may stop where it is

use std::fmt::Write;
use std::fs;
use std::io::{BufRead, BufReader};
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

/// Where a run is killed: when it says of a part that it was evaluated at step 20, by when it has left a checkpoint.
struct Kill {
    /// The part.
    part: &'static str,
    /// Its checkpoint.
    checkpoint: &'static str,
}

/// Steps of a run, at the least.
const STEPS: u64 = 100;

/// Kills a run in each of `kills`, one after the other, and compares what comes of it with a run that was left alone.
///
/// `job` is that of so many steps. A run that was through with its part by the time it was killed, as where the test had no
/// turn meanwhile, proves nothing: it is begun again with twice the steps.
fn resumes(job: impl Fn(u64) -> String, kills: &[Kill], weights: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (data, path) = (at("bars.csv"), at("job.toml"));
    bars(&data);
    let in_time = |steps: &u64| {
        fs::write(&path, job(*steps).replace("FILE", data.to_str().unwrap())).unwrap();
        let parts = at(&format!("parts {steps}"));
        kills.iter().enumerate().all(|(number, kill)| killed(&path, &parts, kill, number > 0))
    };
    let steps = (0..).map(|doublings| STEPS << doublings).find(in_time).unwrap();
    let (parts, whole) = (at(&format!("parts {steps}")), at("whole"));
    let (expected, _) = finished(&path, &whole, weights);
    let (found, said) = finished(&path, &parts, weights);
    assert!(said.contains("resumed after step "), "{said}");
    assert!(found == expected, "the weights differ");
    assert!(kills.iter().all(|kill| !parts.join(kill.checkpoint).exists()), "a checkpoint is left");
}

/// Whether a run was killed before it was through with the part; one that goes on from a checkpoint says so.
fn killed(job: &Path, out: &Path, kill: &Kill, goes_on: bool) -> bool {
    let mut running = train(job, out).spawn().unwrap();
    let mut lines = BufReader::new(running.stderr.take().unwrap()).lines().map(|line| line.unwrap());
    let mut said = Vec::new();
    let mut until = |prefix: &str| {
        while !said.last().is_some_and(|line: &String| line.starts_with(prefix)) {
            match lines.next() {
                Some(line) => said.push(line),
                None => return false,
            }
        }
        true
    };
    let reached = until(kill.part) && until("step 20:");
    // SIGKILL: nothing is written on the way out.
    running.kill().unwrap();
    running.wait().unwrap();
    assert!(reached, "it ended early: {said:?}");
    assert!(out.join(kill.checkpoint).exists(), "it had left no checkpoint: {said:?}");
    assert!(!goes_on || said.iter().any(|line| line.starts_with("resumed after step ")), "{said:?}");
    let is_next_part = |line: String| line.contains(": at most ");
    !lines.any(is_next_part) && !out.join("m/latest").exists()
}

const CHECKPOINT: &str = "m/checkpoint.safetensors";

const SOURCE: &str = r#"
[[sources]]
files = ["FILE"]
series_col = "symbol"
time_col = "ts"
targets = ["close"]
"#;

#[test]
fn n_beats_goes_on_after_a_kill_with_the_same_bits() {
    let job = |steps| {
        format!(
            r#"name = "m"
family = "nbeats"
checkpoint_every = 5
{SOURCE}
[train]
steps = {steps}
batch = 32
evaluate_every = 20
accumulate = 2
[model]
context_length = 20
horizon = 3
dropout = 0.1
stacks = [{{ kind = "generic", blocks = 2, layers = 2, width = 32 }}]
"#
        )
    };
    resumes(job, &[Kill { part: "network", checkpoint: CHECKPOINT }], &["model.safetensors"]);
}

#[test]
fn chronos2_goes_on_after_a_kill_with_the_same_bits() {
    let job = |steps| {
        format!(
            r#"name = "m"
family = "chronos2"
checkpoint_every = 5
{SOURCE}
[train]
steps = {steps}
batch = 4
evaluate_every = 20
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
        )
    };
    resumes(job, &[Kill { part: "network", checkpoint: CHECKPOINT }], &["model.safetensors"]);
}

/// Killed in the training of the tokenizer, and once more in that of the predictor.
#[test]
fn kronos_goes_on_after_two_kills_with_the_same_bits() {
    let source = SOURCE.replace(r#"["close"]"#, r#"["open", "high", "low", "close"]"#);
    let job = |steps| {
        format!(
            r#"name = "m"
family = "kronos"
checkpoint_every = 5
{source}
[train]
steps = {steps}
batch = 4
evaluate_every = 20
average = 0.9
[model]
scored_windows = 4
windows = {{ bars = 48, least_context = 34, most_context = 40 }}
tokenizer = {{ d_model = 16, n_heads = 2, ff_dim = 16, n_enc_layers = 2, n_dec_layers = 2, s1_bits = 4, s2_bits = 4 }}
tokenizer_train = {{ steps = {steps}, batch = 4, evaluate_every = 20 }}
predictor = {{ d_model = 16, n_heads = 2, ff_dim = 16, n_layers = 1, s1_bits = 4, s2_bits = 4 }}
forecasts = {{ horizon = 3, paths = 4 }}
"#
        )
    };
    let weights = ["tokenizer/model.safetensors", "predictor/model.safetensors"];
    let tokenizer = "m/tokenizer/checkpoint.safetensors";
    let kills = [
        Kill { part: "tokenizer", checkpoint: tokenizer },
        Kill { part: "predictor", checkpoint: CHECKPOINT },
    ];
    resumes(job, &kills, &weights);
}
