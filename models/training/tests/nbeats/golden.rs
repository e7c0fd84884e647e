//! Parity with neuralforecast: the same weights and inputs give the same outputs, block kind by block kind.
//!
//! `make_golden.py` beside this file made the values.

use super::{config, stack};
use candle_core::{Device, Tensor};
use kronos_models::artifact::Tensors;
use kronos_models::device::Precision;
use kronos_models::interrupt::NeverInterrupt;
use kronos_models::layers::accelerated::Place;
use kronos_models::layers::packed::Packed;
use kronos_models::nbeats::config::{Config, Kind, Stack};
use kronos_models::nbeats::network::Network;
use std::collections::HashMap;

fn golden() -> HashMap<String, Tensor> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/nbeats/golden.safetensors");
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

fn case(stacks: Vec<Stack>) -> Config {
    Config {
        context_length: 18,
        horizon: 6,
        quantile_levels: vec![0.05, 0.5, 0.95],
        growth: 0.0,
        stacks,
        ..config(&[])
    }
}

#[test]
fn outputs_are_those_of_neuralforecast() {
    let of = |kind, blocks, order, shared| Stack {
        blocks,
        shared,
        degree: (kind == Kind::Trend).then_some(order),
        harmonics: (kind == Kind::Seasonality).then_some(order),
        ..stack(kind)
    };
    let cases = [
        ("generic", vec![of(Kind::Generic, 2, 0, false)]),
        ("trend", vec![of(Kind::Trend, 2, 2, false)]),
        ("seasonality", vec![of(Kind::Seasonality, 2, 1, false)]),
        (
            "all",
            vec![
                of(Kind::Trend, 2, 3, false),
                of(Kind::Seasonality, 2, 2, false),
                of(Kind::Generic, 1, 0, false),
            ],
        ),
        ("shared", vec![of(Kind::Trend, 3, 2, true), of(Kind::Seasonality, 2, 2, true)]),
    ];
    let golden = golden();
    for (name, stacks) in cases {
        let config = case(stacks);
        let tensors: Tensors = config
            .tensors()
            .unwrap()
            .into_iter()
            .map(|spec| {
                let tensor = golden[&format!("{name}/{}", spec.name)].clone();
                assert_eq!(tensor.dims(), spec.shape, "{name}: {}", spec.name);
                (spec.name, tensor)
            })
            .collect();
        let values =
            |part: &str| golden[&format!("{name}/{part}")].flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let inputs = values("inputs");
        let place = Place::new(&Device::Cpu, Precision::F32);
        let kernels = Network::load(&Packed, &config, &tensors).unwrap();
        let placed = Network::load(&place, &config, &tensors).unwrap();
        let expected = values("outputs");
        let largest = expected.iter().fold(0f32, |most, value| most.max(value.abs()));
        for (by, outputs) in [
            ("the kernels", kernels.forward(&inputs, &NeverInterrupt).unwrap()),
            ("candle's operations", placed.forward(&inputs, &NeverInterrupt).unwrap()),
        ] {
            let worst = outputs.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
            assert_eq!(outputs.len(), expected.len());
            assert!(worst <= 3e-6 * largest, "{name} by {by}: {worst} of {largest}");
        }
    }
}
