//! Single operations, each by itself.

use super::folder::{Golden, flat, json, relative, tensors, wide};
use super::inputs::{self, Item};
use super::predict::same;
use super::report::{Case as Noted, Report};
use kronos_models::chronos_bolt::bucket;
use kronos_models::chronos2::covariates::target_means;
use kronos_models::chronos2::normalise::Scaling;
use kronos_models::chronos2::unroll::{masses, weighted_quantiles};
use kronos_models::layers::rope::Rope;
use kronos_models::series::interpolate;
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

/// `ops.json`.
#[derive(Deserialize)]
struct Facts {
    #[serde(rename = "instance_norm.names")]
    names: Vec<String>,
    t5_bucket: HashMap<String, Value>,
    target_encode: Vec<TargetEncoding>,
    prepare_list_of_dicts: Vec<Preparation>,
    /// The rotations, each with base and positions.
    #[serde(flatten)]
    others: HashMap<String, Value>,
}

#[derive(Deserialize)]
struct TargetEncoding {
    name: String,
    target: Vec<Option<f64>>,
    item: Vec<usize>,
    category: Vec<Option<String>>,
    future_item: Vec<usize>,
    future_category: Vec<Option<String>>,
    expected_past: Vec<f32>,
    expected_future: Vec<f32>,
}

#[derive(Deserialize)]
struct Preparation {
    name: String,
    prediction_length: usize,
    kwargs: HashMap<String, Value>,
    inputs: Vec<Item>,
    expected: Vec<Prepared>,
}

#[derive(Deserialize)]
struct Prepared {
    context: Vec<Vec<Option<f32>>>,
    future_covariates: Vec<Vec<Option<f32>>>,
}

/// Runs `ops.safetensors` and `ops.json`.
pub fn run(folder: &Path, report: &mut Report) {
    let (values, facts) = (folder.join("ops.safetensors"), folder.join("ops.json"));
    let (golden, facts): (Golden, Facts) = (tensors(&values), json(&facts));
    let mut noted = report.case("operations", "");
    instance_norm(&golden, &facts, &mut noted);
    quantiles(&golden, &mut noted);
    rotations(&golden, &facts, &mut noted);
    let distances: Vec<i64> =
        serde_json::from_value(facts.t5_bucket["relative_position_key_minus_query"].clone()).unwrap();
    let got: Vec<usize> = distances.iter().map(|&distance| bucket(distance, 32, 128)).collect();
    let expected = facts.t5_bucket.iter().find(|(key, _)| key.starts_with("bidirectional")).unwrap().1;
    noted.equal("t5_bucket", &got, &serde_json::from_value::<Vec<usize>>(expected.clone()).unwrap());
    encodings(&facts, &mut noted);
}

fn instance_norm(golden: &Golden, facts: &Facts, noted: &mut Noted) {
    for (index, name) in facts.names.iter().enumerate() {
        // The reference's scale of this one is rounding noise.
        if name == "constant_0p1" {
            continue;
        }
        let x = wide(&flat(&golden[&format!("instance_norm.{index:02}.x")]));
        for (variant, arcsinh) in [("asinh", true), ("plain", false)] {
            let scaling = Scaling::of(&x, arcsinh);
            let present = |value: f32| if value.is_nan() { 0.0 } else { value };
            let expected = flat(&golden[&format!("instance_norm.{index:02}.{variant}")]);
            let expected: Vec<f32> = expected.into_iter().map(present).collect();
            let got: Vec<f32> = x.iter().map(|&value| present(scaling.apply(value))).collect();
            // The reference's mean is in float32: where the offset is large, so is its error beside the scale.
            let offset = 1e-6 * scaling.loc.abs() / scaling.scale;
            noted.close_by(&format!("instance_norm.{variant} {name}"), &got, &expected, |i| {
                offset + 2e-4 * (1.0 + f64::from(expected[i].abs()))
            });
        }
    }
}

fn quantiles(golden: &Golden, noted: &mut Noted) {
    let decimal = |value: f32| (f64::from(value) * 1e6).round() / 1e6;
    let levels = |name: &str| -> Vec<f64> { flat(&golden[name]).into_iter().map(decimal).collect() };
    let (knots, queries) = (levels("interpolate.levels"), levels("interpolate.query"));
    let rows = |name: &str| golden[name].to_vec2::<f32>().unwrap();
    let got: Vec<f32> = rows("interpolate.values")
        .iter()
        .flat_map(|row| {
            queries.iter().map(|&query| interpolate(&knots, &wide(row), query) as f32).collect::<Vec<_>>()
        })
        .collect();
    let expected = flat(&golden["interpolate.expected"]);
    noted.close_by("interpolate", &got, &expected, |i| relative(expected[i]));

    let deciles: Vec<f64> = (1..10).map(|tenth| f64::from(tenth) / 10.0).collect();
    for (name, levels) in [("prob_mass.q21", &knots), ("prob_mass.unrolled9", &deciles)] {
        let got: Vec<f32> = masses(levels).into_iter().map(|mass| mass as f32).collect();
        let expected = flat(&golden[name]);
        noted.close_by(name, &got, &expected, |i| relative(expected[i]));
    }

    let weights = flat(&golden["weighted_quantile.weights"]);
    let levels = levels("weighted_quantile.levels");
    let got: Vec<f32> = rows("weighted_quantile.samples")
        .iter()
        .flat_map(|row| {
            let mut samples: Vec<(f64, f64)> = wide(row).into_iter().zip(wide(&weights)).collect();
            weighted_quantiles(&mut samples, &levels)
        })
        .map(|value| value as f32)
        .collect();
    let expected = flat(&golden["weighted_quantile.expected"]);
    noted.close_by("weighted_quantile", &got, &expected, |i| relative(expected[i]));
}

fn rotations(golden: &Golden, facts: &Facts, noted: &mut Noted) {
    for (name, fact) in facts.others.iter().filter(|(name, _)| name.starts_with("rope.")) {
        let mut rows = golden[&format!("{name}.q")].to_vec2::<f32>().unwrap();
        let positions: Vec<usize> = serde_json::from_value(fact["positions"].clone()).unwrap();
        let rope = Rope::new(rows[0].len(), fact["theta"].as_f64().unwrap());
        let table = rope.table(positions.iter().max().unwrap() + 1);
        rows.iter_mut().zip(positions).for_each(|(row, position)| table.rotate(row, position));
        let expected = flat(&golden[&format!("{name}.q_rotated")]);
        noted.close_by(name, &rows.concat(), &expected, |i| 1e-4 * (1.0 + f64::from(expected[i].abs())));
    }
}

fn encodings(facts: &Facts, noted: &mut Noted) {
    for case in &facts.target_encode {
        let (mut past, mut future) = (vec![0.0; case.item.len()], vec![0.0; case.future_item.len()]);
        for item in 0..=*case.item.iter().max().unwrap() {
            let at =
                |items: &[usize]| -> Vec<usize> { (0..items.len()).filter(|&i| items[i] == item).collect() };
            let (here, ahead) = (at(&case.item), at(&case.future_item));
            let target: Vec<f64> = here.iter().map(|&i| case.target[i].unwrap_or(f64::NAN)).collect();
            let here_categories: Vec<_> = here.iter().map(|&i| case.category[i].as_deref()).collect();
            let ahead_categories: Vec<_> =
                ahead.iter().map(|&i| case.future_category[i].as_deref()).collect();
            let (got_past, got_future) = target_means(&target, &here_categories, &ahead_categories);
            here.iter().zip(got_past).for_each(|(&i, value)| past[i] = value);
            ahead.iter().zip(got_future).for_each(|(&i, value)| future[i] = value);
        }
        same(&format!("target_encode {} past", case.name), past.into_iter(), &case.expected_past, noted);
        same(
            &format!("target_encode {} future", case.name),
            future.into_iter(),
            &case.expected_future,
            noted,
        );
    }
    for case in &facts.prepare_list_of_dicts {
        let known: Vec<String> = case
            .kwargs
            .get("known_covariates_names")
            .map_or(Vec::new(), |names| serde_json::from_value(names.clone()).unwrap());
        let target_encoding = case.kwargs.get("use_target_encoding").is_none_or(|value| value != false);
        let requests = inputs::prepare(&case.inputs, case.prediction_length, &known, target_encoding);
        let missing = |value: &Option<f32>| value.unwrap_or(f32::NAN);
        for (request, expected) in requests.iter().zip(&case.expected) {
            let rows = inputs::rows(request);
            let context: Vec<f32> = expected.context.iter().flatten().map(missing).collect();
            let got = rows.iter().flat_map(|(history, _)| history.iter().copied());
            same(&format!("prepare {} context", case.name), got, &context, noted);
            let future: Vec<f32> = expected.future_covariates.iter().flatten().map(missing).collect();
            let unknown = vec![f64::NAN; case.prediction_length];
            let got = rows.iter().flat_map(|(_, future)| future.unwrap_or(&unknown).to_vec());
            same(&format!("prepare {} future", case.name), got, &future, noted);
        }
    }
}
