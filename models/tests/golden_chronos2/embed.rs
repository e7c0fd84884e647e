//! Hidden states of whole series.

use super::folder::{Golden, flat};
use super::inputs;
use super::report;
use super::stages::{Shown, compare_scalings, hidden};
use kronos_models::chronos2::normalise::Scaling;
use kronos_models::chronos2::{Chronos2, Variate};
use std::collections::HashMap;

pub fn run(model: &Chronos2, golden: &Golden, noted: &mut report::Case) {
    let config = &model.config().chronos_config;
    for (item, series) in inputs::series(golden).into_iter().enumerate() {
        let request = inputs::request(series, 1);
        let tail = |row: &[f64]| row[row.len().saturating_sub(config.context_length)..].to_vec();
        let histories: Vec<Vec<f64>> = request.targets.iter().map(|target| tail(target)).collect();
        let scalings: Vec<Scaling> =
            histories.iter().map(|history| Scaling::of(history, config.use_arcsinh)).collect();
        let named = |name: &str| golden[&format!("out.{name}.{item:02}")].clone();
        let location =
            HashMap::from([("out.loc".to_string(), named("loc")), ("out.scale".into(), named("scale"))]);
        compare_scalings(&scalings, &location, noted);
        let group = histories
            .iter()
            .zip(&scalings)
            .map(|(history, scaling)| Variate {
                context: history.iter().map(|&value| scaling.apply(value)).collect(),
                future: Vec::new(),
                wanted: true,
            })
            .collect();
        let mut stages = HashMap::new();
        let mut see = |name: &str, tensor: &candle_core::Tensor| {
            stages.insert(name.to_string(), tensor.clone());
        };
        model.network().unwrap().forward_observed(&[group], 1, &mut see).unwrap();
        let expected = named("embed").to_vec3::<f32>().unwrap();
        // The reference pads to the longest of its batch: patches, the separator, one patch of the future.
        let patches = expected[0].len() - 2;
        let shown = Shown::new(stages, &(0..histories.len()).collect::<Vec<_>>(), patches);
        let expected: Vec<f32> =
            shown.tokens.iter().flat_map(|&(row, at)| expected[row][at].clone()).collect();
        let stage = format!("embed.{item:02}");
        noted.close_by(&stage, &flat(&shown.stages["final_norm"]), &expected, |i| hidden(expected[i]));
    }
}
