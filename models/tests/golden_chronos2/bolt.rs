//! Chronos-Bolt: stages and forecasts.

use super::folder::{By, Case, Golden, flat, wide};
use super::inputs;
use super::predict::{Tolerance, is_noise};
use super::report;
use super::stages::{Shown, compare_scalings, hidden};
use candle_core::Device;
use kronos_models::chronos_bolt::ChronosBolt;
use kronos_models::chronos2::normalise::Scaling;
use kronos_models::device::Precision;
use kronos_models::interrupt::NeverInterrupt;
use kronos_models::layers::accelerated::Place;
use kronos_models::series::interpolate;
use std::collections::HashMap;
use std::path::Path;

pub fn run(case: &Case, directory: &Path, by: By, golden: &Golden, noted: &mut report::Case) {
    let model = match by {
        By::Kernels => ChronosBolt::load(directory, &Device::Cpu),
        By::Accelerated => {
            ChronosBolt::load_accelerated(directory, &Place::new(&Device::Cpu, Precision::F32))
        }
    }
    .unwrap();
    match case.kind.as_str() {
        "bolt_stages" => stages(&model, golden, noted),
        "bolt_predict" => predict(case, &model, golden, noted),
        kind => noted.fail("kind", format!("{kind:?} is not known")),
    }
}

fn stages(model: &ChronosBolt, golden: &Golden, noted: &mut report::Case) {
    let contexts = golden["in.context"].to_vec2::<f32>().unwrap();
    let scalings: Vec<Scaling> = contexts.iter().map(|context| Scaling::of(&wide(context), false)).collect();
    compare_scalings(&scalings, golden, noted);
    let normalised: Vec<Vec<f32>> = contexts
        .iter()
        .zip(&scalings)
        .map(|(context, scaling)| context.iter().map(|&value| scaling.apply(value.into())).collect())
        .collect();
    let mut stages = HashMap::new();
    let outputs = model
        .forward_observed(&normalised, &NeverInterrupt, &mut |name, tensor| {
            stages.insert(name.to_string(), tensor.clone());
        })
        .unwrap();
    let patches = contexts[0].len().div_ceil(model.config().chronos_config.input_patch_size);
    let shown = Shown::new(stages, &(0..contexts.len()).collect::<Vec<_>>(), patches);
    shown.compare_tokens(golden, noted);
    let mut names: Vec<&str> = golden.keys().filter_map(|name| name.strip_prefix("out.")).collect();
    names.sort_unstable();
    for stage in names {
        match stage {
            "loc" | "scale" | "attention_mask" | "quantiles" | "quantiles_norm" => {}
            _ if stage.starts_with("dec") => {
                let expected = flat(&golden[&format!("out.{stage}")]);
                noted.close_by(stage, &flat(&shown.stages[stage]), &expected, |i| hidden(expected[i]));
            }
            _ => shown.compare(stage, golden, noted),
        }
    }
    let expected = flat(&golden["out.quantiles_norm"]);
    let norm = |i: usize| 2e-4 * (1.0 + f64::from(expected[i].abs()));
    noted.close_by("quantiles_norm", &outputs.concat(), &expected, norm);
    let expected = flat(&golden["out.quantiles"]);
    let got: Vec<f32> = outputs
        .iter()
        .zip(&scalings)
        .flat_map(|(output, scaling)| output.iter().map(|&z| scaling.invert(z) as f32))
        .collect();
    let (loc, scale) = (flat(&golden["out.loc"]), flat(&golden["out.scale"]));
    let tolerance = Tolerance { unrolled: false, noise: false };
    let per_row = outputs[0].len();
    noted.close_by("quantiles", &got, &expected, |i| {
        tolerance.at(expected[i], loc[i / per_row], scale[i / per_row])
    });
}

fn predict(case: &Case, model: &ChronosBolt, golden: &Golden, noted: &mut report::Case) {
    let location = golden["locscale"].to_vec2::<f32>().unwrap();
    for &horizon in &case.horizons {
        let requests: Vec<_> =
            inputs::series(golden).into_iter().map(|series| inputs::request(series, horizon)).collect();
        let forecasts = model.forecast(&requests, &NeverInterrupt).unwrap();
        let pred = golden[&format!("h{horizon}.pred")].to_vec3::<f32>().unwrap();
        for (item, forecast) in forecasts.into_iter().enumerate() {
            let forecast = forecast.unwrap();
            let unrolled = horizon > model.config().chronos_config.prediction_length;
            let tolerance = Tolerance { unrolled, noise: is_noise(case, item) };
            let mut compare = |stage: String, got: Vec<f32>, expected: Vec<f32>| {
                noted.close_by(&stage, &got, &expected, |i| {
                    tolerance.at(expected[i], location[item][0], location[item][1])
                });
            };
            let got = forecast.values.iter().flatten().flatten().map(|&value| value as f32).collect();
            compare(format!("h{horizon}.pred.{item:02}"), got, pred[item].concat());
            for (set, levels) in case.quantile_levels.iter().enumerate() {
                let (quantiles, mean) =
                    (format!("h{horizon}.quantiles{set}"), format!("h{horizon}.mean{set}"));
                let (Some(expected), Some(median)) = (golden.get(&quantiles), golden.get(&mean)) else {
                    continue;
                };
                // The reference picks its own levels as they are. For any other it repeats the outermost values, puts
                // all in order, and takes the repeated ones for levels 0 and 1.
                let own = levels.iter().all(|level| model.levels().contains(level));
                let knots = [&[0.0], model.levels(), &[1.0]].concat();
                let at = |step: usize, level: f64| {
                    let column: Vec<f64> = forecast.values[0].iter().map(|values| values[step]).collect();
                    if own {
                        return interpolate(&forecast.levels, &column, level) as f32;
                    }
                    let mut column = [&column[..1], &column, &column[column.len() - 1..]].concat();
                    column.sort_by(f64::total_cmp);
                    interpolate(&knots, &column, level) as f32
                };
                let steps = 0..horizon;
                let got = steps.clone().flat_map(|step| levels.iter().map(move |&level| (step, level)));
                let got = got.map(|(step, level)| at(step, level)).collect();
                compare(format!("{quantiles}.{item:02}"), got, flat(&expected.get(item).unwrap()));
                let got =
                    steps.map(|step| forecast.values[0][model.levels().len() / 2][step] as f32).collect();
                compare(format!("{mean}.{item:02}"), got, flat(&median.get(item).unwrap()));
            }
        }
    }
}
