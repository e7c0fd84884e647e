//! Weights from a formula: published sizes without published weights.

use super::folder::{By, flat, json};
use super::report::Case as Noted;
use candle_core::{Device, Tensor};
use kronos_models::artifact::Tensors;
use kronos_models::chronos2::Chronos2;
use kronos_models::chronos2::config::Config;
use rayon::prelude::*;
use serde::Deserialize;
use std::collections::HashMap;
use std::path::Path;

/// One model of `recipe.json`.
#[derive(Deserialize)]
struct Recipe {
    config: Config,
    n_params: usize,
    tensors: HashMap<String, Facts>,
}

#[derive(Deserialize)]
struct Facts {
    shape: Vec<usize>,
    first: f32,
    last: f32,
    sum_f64: f64,
}

/// The model of that name, its weights checked against the facts that the folder states.
pub fn model(folder: &Path, name: &str, by: By, noted: &mut Noted) -> Chronos2 {
    let mut recipes: HashMap<String, serde_json::Value> = json(&folder.join("recipe.json"));
    let recipe = recipes.remove(name).unwrap_or_else(|| panic!("no recipe and no folder for {name}"));
    let Recipe { config, n_params, tensors: facts } = serde_json::from_value(recipe).unwrap();
    let specs = config.tensors().unwrap();
    noted.equal(
        "parameters",
        &[specs.iter().map(|s| s.shape.iter().product::<usize>()).sum::<usize>()],
        &[n_params],
    );
    let tensors: Tensors = specs
        .par_iter()
        .map(|spec| {
            let values = values(&spec.name, &spec.shape, &config);
            (spec.name.clone(), Tensor::from_vec(values, spec.shape.as_slice(), &Device::Cpu).unwrap())
        })
        .collect();
    for (name, facts) in facts {
        let tensor = &tensors[&name];
        let values = flat(tensor);
        noted.equal(&format!("{name} shape"), tensor.dims(), &facts.shape);
        noted.equal(
            &format!("{name} ends"),
            &[values[0], values[values.len() - 1]],
            &[facts.first, facts.last],
        );
        let sum: f64 = values.iter().map(|&value| f64::from(value)).sum();
        noted.close(
            &format!("{name} sum"),
            &[(sum - facts.sum_f64) as f32],
            &[0.0],
            1e-6 * (1.0 + facts.sum_f64.abs()),
        );
    }
    by.model(&config, &tensors)
}

fn values(key: &str, shape: &[usize], config: &Config) -> Vec<f32> {
    let base = key.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let value = range(key, shape, config);
    (0..shape.iter().product::<usize>() as u64)
        .map(|j| {
            let unit = (splitmix64(base.wrapping_add(j)) >> 40) as f64 / f64::from(1 << 23) - 1.0;
            value(j as usize, unit) as f32
        })
        .collect()
}

fn splitmix64(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ x >> 31
}

/// What becomes of element j with the uniform number u, by the kind of tensor.
fn range<'c>(key: &str, shape: &[usize], config: &'c Config) -> Box<dyn Fn(usize, f64) -> f64 + 'c> {
    let fan_in = *shape.last().unwrap() as f64;
    if key.ends_with("norm.weight") {
        return Box::new(|_, u| 1.05 + 0.45 * u);
    }
    if key == "shared.weight" {
        return Box::new(|_, u| 1.7 * u);
    }
    if key == "output_patch_embedding.output_layer.bias" {
        let (levels, patch) = (&config.chronos_config.quantiles, config.patch());
        return Box::new(move |j, u| 1.5 * (2.0 * levels[j / patch] - 1.0) + 0.1 * u);
    }
    if key.ends_with(".bias") {
        return Box::new(|_, u| 0.3 * u);
    }
    let gain = if key.ends_with("self_attention.q.weight") {
        1.3 / (config.d_kv as f64).sqrt()
    } else if key.ends_with("self_attention.k.weight") {
        1.3
    } else if key.starts_with("output_patch_embedding.") && !key.contains("hidden_layer") {
        0.45
    } else {
        1.0
    };
    let width = (3.0 / fan_in).sqrt() * gain;
    Box::new(move |_, u| width * u)
}
