//! Requests from the inputs of a case.

use super::folder::{Case, Golden, flat, json, wide};
use candle_core::Tensor;
use kronos_models::chronos2::covariates::{Category, distinct, ranks, target_means};
use kronos_models::series::{KnownCovariate, SeriesRequest};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// One item of an input file; null is missing.
#[derive(Deserialize)]
pub struct Item {
    target: Target,
    #[serde(default)]
    past_covariates: BTreeMap<String, Vec<Value>>,
    #[serde(default)]
    future_covariates: BTreeMap<String, Vec<Value>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Target {
    One(Vec<Option<f64>>),
    Many(Vec<Vec<Option<f64>>>),
}

/// The requests of a case at one horizon.
pub fn requests(case: &Case, folder: &Path, golden: &Golden, horizon: usize) -> Vec<SeriesRequest> {
    if let Some(file) = &case.inputs_file {
        let mut by_horizon: BTreeMap<String, Vec<Item>> = json(&folder.join(file));
        return prepare(&by_horizon.remove(&horizon.to_string()).unwrap(), horizon, &[], true);
    }
    series(golden).iter().map(|series| request(series, horizon)).collect()
}

/// The tensors `in.NN` in order.
pub fn series(golden: &Golden) -> Vec<&Tensor> {
    let mut names: Vec<&String> = golden.keys().filter(|name| name.starts_with("in.")).collect();
    names.sort();
    names.into_iter().map(|name| &golden[name]).collect()
}

/// One target, or one per row.
pub fn request(series: &Tensor, horizon: usize) -> SeriesRequest {
    let targets = if series.rank() == 1 {
        vec![wide(&flat(series))]
    } else {
        series.to_vec2::<f32>().unwrap().iter().map(|row| wide(row)).collect()
    };
    SeriesRequest { targets, horizon, ..SeriesRequest::default() }
}

/// Items with covariates: categories become numbers, known covariates are those with a future or a name among `known`.
pub fn prepare(
    items: &[Item],
    horizon: usize,
    known: &[String],
    target_encoding: bool,
) -> Vec<SeriesRequest> {
    let value = |value: &Option<f64>| value.unwrap_or(f64::NAN);
    let is_known =
        |item: &Item, name: &String| item.future_covariates.contains_key(name) || known.contains(name);
    items
        .iter()
        .map(|item| {
            let targets: Vec<Vec<f64>> = match &item.target {
                Target::One(target) => vec![target.iter().map(value).collect()],
                Target::Many(targets) => {
                    targets.iter().map(|target| target.iter().map(value).collect()).collect()
                }
            };
            let mut request = SeriesRequest { targets, horizon, ..SeriesRequest::default() };
            for (name, past) in &item.past_covariates {
                let future = item.future_covariates.get(name).map_or(&[][..], Vec::as_slice);
                let (past, mut future) = if past.iter().chain(future).any(Value::is_string) {
                    let (past, future) = (categories(past), categories(future));
                    if request.targets.len() == 1 && target_encoding {
                        target_means(&request.targets[0], &past, &future)
                    } else {
                        let all = items.iter().flat_map(|item| categories(&item.past_covariates[name]));
                        let known = distinct(all.collect::<BTreeSet<_>>());
                        (ranks(&known, &past), ranks(&known, &future))
                    }
                } else {
                    (numbers(past), numbers(future))
                };
                if is_known(item, name) {
                    future.resize(horizon, f64::NAN);
                    request.known_covariates.push(KnownCovariate { past, future });
                } else {
                    request.past_covariates.push(past);
                }
            }
            request
        })
        .collect()
}

fn numbers(values: &[Value]) -> Vec<f64> {
    values.iter().map(|value| value.as_f64().unwrap_or(f64::NAN)).collect()
}

fn categories(values: &[Value]) -> Vec<Category<'_>> {
    values.iter().map(Value::as_str).collect()
}

/// History and known future of every row of a request, in the order of the reference.
pub fn rows(request: &SeriesRequest) -> Vec<(&[f64], Option<&[f64]>)> {
    let plain = request.targets.iter().chain(&request.past_covariates).map(|row| (row.as_slice(), None));
    let known =
        request.known_covariates.iter().map(|known| (known.past.as_slice(), Some(known.future.as_slice())));
    plain.chain(known).collect()
}
