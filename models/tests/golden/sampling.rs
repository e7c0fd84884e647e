//! Tables of filtered probabilities and of calendar fields.

use super::case::stamp;
use super::folder::{flat, json, tensors};
use super::report::Report;
use kronos_models::bars::Sampling;
use kronos_models::kronos::sampling::filter_probabilities;
use serde::Deserialize;
use std::path::Path;

const SET: &str = "sampling";

#[derive(Deserialize)]
struct Filters {
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    /// Name of the rows of logits.
    rows: String,
    /// Number of the setting, as in the tensors' names.
    setting: usize,
    #[serde(rename = "T")]
    temperature: f32,
    top_k: usize,
    top_p: f32,
    kept: Vec<usize>,
    #[serde(default)]
    has_ties: bool,
    min_abs_cum_minus_top_p: Option<f64>,
}

#[derive(Deserialize)]
struct Calendar {
    fields: Vec<String>,
    rows: Vec<CalendarRow>,
}

#[derive(Deserialize)]
struct CalendarRow {
    timestamp: String,
    values: Vec<u8>,
}

pub fn run(folder: &Path, report: &mut Report) {
    let folder = folder.join(SET);
    if !folder.is_dir() {
        return;
    }
    let filters: Filters = json(&folder.join("filters.json"));
    let golden = tensors(&folder.join("filters.safetensors"));
    for entry in filters.entries {
        let Entry { rows, setting, temperature, top_k, top_p, .. } = &entry;
        let mut case = report.case(SET, &format!("{rows}, T {temperature}, top_k {top_k}, top_p {top_p}"));
        let Ok(sampling) = Sampling::new(*temperature, *top_k, *top_p) else {
            // The reference takes any top_p; ours must be above 0, and the refusal is the only thing to prove.
            case.equal("refused", &[*top_p > 0.0 && *top_p <= 1.0], &[false]);
            continue;
        };
        let logits = &golden[&format!("{rows}.logits")];
        let vocabulary = logits.dims()[1];
        let logits = flat(logits);
        let expected = flat(&golden[&format!("{rows}.probs.{setting}")]);
        let rows = logits.chunks_exact(vocabulary).zip(expected.chunks_exact(vocabulary)).zip(&entry.kept);
        let (mut got, mut wanted, mut kept, mut kept_wanted) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for ((logits, expected), &count) in rows {
            if entry.is_undecided(logits) {
                continue;
            }
            let mut ours = filter_probabilities(logits, &sampling);
            let mut theirs = expected.to_vec();
            if entry.has_ties {
                // Which of several equal logits stays is unspecified.
                ours.sort_by(f32::total_cmp);
                theirs.sort_by(f32::total_cmp);
            }
            kept.push(ours.iter().filter(|&&probability| probability > 0.0).count());
            kept_wanted.push(count);
            got.extend(ours);
            wanted.extend(theirs);
        }
        case.equal("kept", &kept, &kept_wanted);
        case.close("probabilities", &got, &wanted, 1e-5);
    }

    let calendar: Calendar = json(&folder.join("calendar.json"));
    let order = ["minute", "hour", "weekday", "day", "month"].map(String::from);
    let mut case = report.case(SET, "calendar");
    case.equal("order of the fields", &calendar.fields, &order);
    for CalendarRow { timestamp, values } in &calendar.rows {
        let got = stamp(timestamp);
        case.equal(timestamp, &[got.minute, got.hour, got.weekday, got.day, got.month], values);
    }
}

impl Entry {
    /// A row of equal logits whose cumulative probability lies on the threshold: rounding decides.
    fn is_undecided(&self, logits: &[f32]) -> bool {
        let on_threshold = self.min_abs_cum_minus_top_p.is_some_and(|distance| distance < 1e-6);
        on_threshold && logits.iter().all(|&logit| logit == logits[0])
    }
}
