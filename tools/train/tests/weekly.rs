//! One command trains, evaluates and refreshes the list of the series a model forecasts best, as a weekly job would.
#![allow(clippy::expect_used, clippy::unwrap_used)] // a test may stop where it is

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Closes of three series over 900 days: one that alternates, which is easily learnt, and two that move at random, to `shift`.
fn closes(path: &Path, shift: u64) {
    let mut text = String::from("symbol,ts,close\n");
    for (number, symbol) in ["EASY", "HARD", "NOISE"].iter().enumerate() {
        let (mut level, mut state) = (100.0_f64, 2_463_534_242 + number as u64 + shift);
        for day in 0..900_i64 {
            // Marsaglia's xorshift.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let noise = (state % 2001) as f64 / 1000.0 - 1.0;
            let close = match number {
                0 => 100.0 * (1.0 + 0.01 * ((day % 2) as f64) + 0.0002 * noise),
                _ => level,
            };
            level *= 1.0 + 0.01 * noise;
            let date =
                chrono::DateTime::from_timestamp(1_600_000_000 / 86_400 * 86_400 + day * 86_400, 0).unwrap();
            writeln!(text, "{symbol},{},{close}", date.format("%Y-%m-%d")).unwrap();
        }
    }
    fs::write(path, text).unwrap();
}

/// What a command of `kronos-train` prints.
fn printed(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_kronos-train"))
        .args(["--threads", "1"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn each_week_leaves_a_version_and_a_list_of_the_promoted_one() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (data, job, out, best) = (at("closes.csv"), at("job.toml"), at("out"), at("best.csv"));
    let text = format!(
        r#"name = "m"
family = "nbeats"
residuals = true
[[sources]]
files = ["{data}"]
series_col = "symbol"
time_col = "ts"
targets = ["close"]
[train]
steps = 300
batch = 32
evaluate_every = 100
[train.optimiser]
learning_rate = 5e-3
[model]
context_length = 6
horizon = 2
holdout_stride = 5
stacks = [{{ kind = "generic", blocks = 1, layers = 2, width = 16 }}]
"#
    );
    fs::write(&job, text).unwrap();
    let week = |shift| {
        closes(Path::new(&data), shift);
        let directory = printed(&["weekly", &job, "--out", &out, "--top", "2", "--list", &best]);
        (directory.trim().to_owned(), fs::read_to_string(&best).unwrap())
    };

    let (first, list) = week(0);
    let rows: Vec<Vec<&str>> = list.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(
        rows[0][..6],
        ["rank", "series", "n_30", "mae_30", "mae_over_naive_30", "directional_accuracy_30"]
    );
    assert_eq!((rows.len(), rows[0].len()), (3, 14), "{list}");
    // A move of one per cent that comes every other day: known to a tenth, and its direction every time.
    assert_eq!(
        (rows[1][0], rows[1][1], rows[1][2], rows[1][6], rows[1][10]),
        ("1", "EASY", "30", "60", "90")
    );
    let number = |row: usize, column: usize| rows[row][column].parse::<f64>().unwrap();
    for span in 0..3 {
        assert!(number(1, 3 + 4 * span) < 0.001 && number(1, 4 + 4 * span) < 0.1, "{list}");
        assert_eq!(number(1, 5 + 4 * span), 1.0, "{list}");
        // Nobody knows the moves of the others.
        assert!(number(2, 4 + 4 * span) > 0.9, "{list}");
    }
    let residuals = fs::read_to_string(Path::new(&first).join("residuals.csv")).unwrap();
    assert!(
        residuals.starts_with("series,cutoff,step,actual,q") && residuals.contains("\nHARD,"),
        "{residuals}"
    );

    let (second, changed) = week(1);
    assert_ne!((&first, &list), (&second, &changed), "new data make another version and another list");
    let digest = Path::new(&first).file_name().unwrap().to_str().unwrap();
    printed(&["promote", "--out", &out, "m", digest]);
    closes(Path::new(&data), 0);
    let promoted = printed(&["rank", &job, "--out", &out, "--top", "2"]);
    assert_eq!(promoted, list, "the list is that of the promoted version, not of the newest");
}
