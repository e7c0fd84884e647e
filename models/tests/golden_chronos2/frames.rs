//! Whole frames through the reference's front door: rows of several items in any order, a second frame of what is
//! known of the future, columns of any type.

use super::folder::{By, chronos2, json};
use super::inputs::{Item, prepare};
use super::predict::{BATCH_SIZE, Tolerance, as_they_are};
use super::report::Report;
use kronos_models::chronos2::Chronos2Options;
use kronos_models::interrupt::NeverInterrupt;
use serde::Deserialize;
use serde_json::{Value, json as value};
use std::collections::HashMap;
use std::path::Path;

#[derive(Deserialize)]
struct File {
    model: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    df: Frame,
    future_df: Option<Frame>,
    args: Arguments,
    expected: Frame,
    /// Item, target, location, scale.
    loc_scale: Vec<(Value, String, f64, f64)>,
}

#[derive(Deserialize)]
struct Frame {
    columns: Vec<String>,
    rows: Vec<Vec<Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    prediction_length: usize,
    #[serde(default = "target")]
    target: Names,
    #[serde(default = "item_id")]
    id_column: String,
    #[serde(default = "timestamp")]
    timestamp_column: String,
    #[serde(default = "deciles")]
    quantile_levels: Vec<f64>,
    #[serde(default)]
    cross_learning: bool,
    batch_size: Option<usize>,
    context_length: Option<usize>,
    /// The frequency, where two rows do not tell it: of the stamps, not of the numbers.
    #[serde(rename = "freq")]
    _frequency: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Names {
    One(String),
    Many(Vec<String>),
}

fn target() -> Names {
    Names::One("target".into())
}

fn item_id() -> String {
    "item_id".into()
}

fn timestamp() -> String {
    "timestamp".into()
}

fn deciles() -> Vec<f64> {
    (1..10).map(|tenth| f64::from(tenth) / 10.0).collect()
}

impl Frame {
    fn column(&self, name: &str) -> usize {
        self.columns.iter().position(|column| column == name).unwrap_or_else(|| panic!("no column {name}"))
    }

    /// The rows of an item by time.
    fn of(&self, item: &Value, id: &str, time: &str) -> Vec<&Vec<Value>> {
        let (id, time) = (self.column(id), self.column(time));
        let mut rows: Vec<_> = self.rows.iter().filter(|row| row[id] == *item).collect();
        rows.sort_by_key(|row| row[time].as_str().unwrap().to_owned());
        rows
    }
}

/// Booleans are categories, by the names the reference gives them.
fn cell(value: &Value) -> Value {
    match value {
        Value::Bool(yes) => Value::from(if *yes { "True" } else { "False" }),
        other => other.clone(),
    }
}

/// Runs every file `predict_df.*.json` of a folder.
pub fn run(folder: &Path, report: &mut Report) {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.file_name().unwrap().to_string_lossy().starts_with("predict_df."));
    files.sort();
    for path in files {
        let file: File = json(&path);
        for case in &file.cases {
            one(folder, &file.model, case, report);
        }
    }
}

fn one(folder: &Path, name: &str, case: &Case, report: &mut Report) {
    let mut noted = report.case(name, &format!("frame {}", case.name));
    let model = chronos2(folder, name, By::Kernels, &HashMap::new(), &mut noted);
    let Arguments { id_column: id, timestamp_column: time, prediction_length: horizon, .. } = &case.args;
    let targets = match &case.args.target {
        Names::One(name) => std::slice::from_ref(name),
        Names::Many(names) => names,
    };
    // Items in the order they come out.
    let mut items: Vec<Value> = Vec::new();
    for row in &case.expected.rows {
        let item = &row[case.expected.column(id)];
        if !items.contains(item) {
            items.push(item.clone());
        }
    }
    let covariates: Vec<&String> = case
        .df
        .columns
        .iter()
        .filter(|column| *column != id && *column != time && !targets.contains(column))
        .collect();
    let requests: Vec<Item> = items
        .iter()
        .map(|item| {
            let take = |frame: &Frame, column: &str| -> Vec<Value> {
                let at = frame.column(column);
                frame.of(item, id, time).into_iter().map(|row| cell(&row[at])).collect()
            };
            let mut future = serde_json::Map::new();
            if let Some(frame) = &case.future_df {
                for column in frame.columns.iter().filter(|column| *column != id && *column != time) {
                    future.insert(column.clone(), Value::Array(take(frame, column)));
                }
            }
            let past: serde_json::Map<String, Value> = covariates
                .iter()
                .map(|column| ((*column).clone(), Value::Array(take(&case.df, column))))
                .collect();
            let columns: Vec<Vec<Value>> = targets.iter().map(|target| take(&case.df, target)).collect();
            serde_json::from_value(
                value!({ "target": columns, "past_covariates": past, "future_covariates": future }),
            )
            .unwrap()
        })
        .collect();
    let requests = prepare(&requests, *horizon, &[], true);
    let options = Chronos2Options {
        context_length: case.args.context_length,
        cross_learning: case.args.cross_learning.then_some(case.args.batch_size.unwrap_or(BATCH_SIZE)),
        ..Chronos2Options::default()
    };
    let forecasts = model.forecast(&requests, &options, &NeverInterrupt).unwrap();
    let one_pass = model.config().chronos_config.max_output_patches * model.config().patch();
    let tolerance = Tolerance { unrolled: *horizon > one_pass, noise: false };
    let level_columns: Vec<usize> =
        case.args.quantile_levels.iter().map(|level| case.expected.column(&level.to_string())).collect();
    for (item, forecast) in items.iter().zip(forecasts) {
        let got = as_they_are(&forecast.unwrap(), &case.args.quantile_levels);
        let mut expected = Vec::with_capacity(got.len());
        let mut scales = Vec::with_capacity(got.len());
        for target in targets {
            let (_, _, location, scale) =
                case.loc_scale.iter().find(|row| row.0 == *item && row.1 == *target).unwrap();
            for row in case.expected.of(item, id, time) {
                if row[case.expected.column("target_name")] == *target.as_str() {
                    expected.extend(level_columns.iter().map(|&at| row[at].as_f64().unwrap() as f32));
                    scales.extend(level_columns.iter().map(|_| (*location as f32, *scale as f32)));
                }
            }
        }
        noted.close_by(&format!("quantiles {item}"), &got, &expected, |i| {
            tolerance.at(expected[i], scales[i].0, scales[i].1)
        });
    }
}
