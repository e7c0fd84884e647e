//! Training of the tokenizer: windows in, reconstruction losses out.

use super::{
    BarSources, BatchShape, CLOSE, EVALUATED, TrainableTokenizer, normalise_window, trained_parameters,
};
use crate::error::Result;
use crate::{Noise, Parameter, Pick, Trainable, Validation};
use candle_core::{Device, Tensor};
use kronos_models::bars::CHANNELS;
use kronos_models::interrupt::Interrupt;

fn rows(windows: &[Vec<[f32; CHANNELS]>], device: &Device) -> Result<Tensor> {
    let values: Vec<f32> = windows.iter().flatten().flatten().copied().collect();
    let count = values.len() / CHANNELS;
    Ok(Tensor::from_vec(values, (count, CHANNELS), device)?)
}

/// Training of the tokenizer.
#[derive(Debug)]
pub struct TokenizerTask<'d> {
    network: TrainableTokenizer,
    parameters: Vec<Parameter>,
    data: &'d BarSources,
    weights: [f32; CHANNELS],
    device: Device,
}

impl<'d> TokenizerTask<'d> {
    /// Trains `network` on `data`, with a weight for the squared error of each channel.
    pub fn new(
        network: TrainableTokenizer,
        data: &'d BarSources,
        weights: [f32; CHANNELS],
        device: &Device,
    ) -> Self {
        let parameters = trained_parameters(network.parameters());
        Self { network, parameters, data, weights, device: device.clone() }
    }

    /// The network.
    pub fn network(&self) -> &TrainableTokenizer {
        &self.network
    }

    /// The weighted mean over channels.
    fn weighted(&self, squares: &[f32]) -> f64 {
        let terms = squares.iter().zip(&self.weights).map(|(square, weight)| f64::from(square * weight));
        terms.sum::<f64>() / CHANNELS as f64
    }
}

impl Trainable for TokenizerTask<'_> {
    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn loss(&self, picks: &[Pick], noise: Noise) -> Result<Tensor> {
        let windows: Vec<_> = picks.iter().map(|pick| normalise_window(&self.data.draw(pick))).collect();
        let shape = BatchShape { windows: windows.len(), length: self.data.rule().bars };
        let x = rows(&windows, &self.device)?;
        Ok(self.network.weighted_loss(&x, shape, &self.weights, noise.key())?.total)
    }

    /// The weighted mean squared error of the full reconstruction after the cut.
    fn validate(&self, interrupt: &dyn Interrupt) -> Result<Validation> {
        let all: Vec<_> = self.data.validation().map(|(_, window)| window).collect();
        let (mut squares, mut coarse_squares, mut closes, mut count) = (0f64, 0f64, 0f64, 0f64);
        let mut used = std::collections::HashSet::new();
        for windows in all.chunks(EVALUATED) {
            interrupt.check()?;
            let shape = BatchShape { windows: windows.len(), length: self.data.rule().bars };
            let normalised: Vec<_> = windows.iter().map(normalise_window).collect();
            let x = rows(&normalised, &self.device)?;
            let made = self.network.forward(&x, shape, None)?;
            let error = |y: &Tensor| -> Result<Vec<Vec<f32>>> { Ok((y - &x)?.sqr()?.to_vec2::<f32>()?) };
            let (full, coarse) = (error(&made.full)?, error(&made.coarse)?);
            for (row, code) in made.code.to_vec2::<f32>()?.iter().enumerate() {
                used.insert(code.iter().fold(0u64, |bits, value| bits << 1 | u64::from(*value > 0.0)));
                if row % shape.length >= windows[row / shape.length].context {
                    squares += self.weighted(&full[row]);
                    coarse_squares += self.weighted(&coarse[row]);
                    closes += f64::from(full[row][CLOSE]);
                    count += 1.0;
                }
            }
        }
        let scores = vec![
            ("coarse".to_owned(), coarse_squares / count),
            ("close".to_owned(), closes / count),
            ("distinct_codes".to_owned(), used.len() as f64),
        ];
        Ok(Validation { loss: squares / count, scores })
    }

    fn identity(&self) -> String {
        format!(
            "kronos-tokenizer {:?} {:?} {:?} {}",
            self.network.config(),
            self.weights,
            self.data.rule(),
            self.data.fingerprint()
        )
    }
}
