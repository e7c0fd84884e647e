//! One series step by step with everything visible: what parity tests compare with the reference.

use super::Kronos;
use super::batch::{Batch, Finished};
use super::normalise::Stats;
use super::series::{Part, Series};
use super::tokenizer::Token;
use crate::bars::{BarOptions, BarRequest, CHANNELS};
use crate::error::{ModelError, Result};
use crate::interrupt::Interrupt;
use std::sync::{Mutex, PoisonError};

/// A forecast with its intermediate results.
#[derive(Debug)]
pub struct Replay {
    /// Statistics of the context.
    pub stats: Stats,
    /// Tokens of the newest context bars, at most a window of them.
    pub context: Vec<Token>,
    /// Tokens of each path.
    pub tokens: Vec<Vec<Token>>,
    /// Logits of the coarse token, [path][step].
    pub s1_logits: Vec<Vec<Vec<f32>>>,
    /// Logits of the fine token, [path][step].
    pub s2_logits: Vec<Vec<Vec<f32>>>,
    /// The decoded window of each path, context and forecast, normalised: [path][row].
    pub decoded: Vec<Vec<[f32; CHANNELS]>>,
    /// The reference's forecast: mean over paths in normalised space, then in units of the context; not made coherent.
    pub mean: Vec<[f32; CHANNELS]>,
}

type Recorded = Vec<Vec<Vec<f32>>>;

impl Kronos {
    /// Forecasts one series and keeps what happened on the way.
    ///
    /// With `forced` the tokens of each path are taken from it instead of being drawn: [path][step].
    ///
    /// # Errors
    /// As [`Kronos::forecast`].
    pub fn replay(
        &self,
        request: &BarRequest,
        options: &BarOptions,
        forced: Option<&[Vec<Token>]>,
        interrupt: &dyn Interrupt,
    ) -> Result<Replay> {
        let logits: Mutex<[Recorded; 2]> =
            Mutex::new(std::array::from_fn(|_| vec![Vec::new(); options.samples]));
        let mut batch = Batch::new(self);
        batch.admit(request, options, interrupt)?;
        let finished = loop {
            batch.steps_with(usize::MAX, interrupt, &|series: &Series, path, step, part, row| {
                let mut logits = logits.lock().unwrap_or_else(PoisonError::into_inner);
                logits[part as usize][path].push(row.to_vec());
                match forced {
                    None => series.draw(path, step, part, row),
                    Some(forced) => {
                        forced.get(path)?.get(step).map(|t| if part == Part::S1 { t.s1 } else { t.s2 })
                    }
                }
            })?;
            if let Some((_, finished)) = batch.take_finished(interrupt)?.pop() {
                break finished?;
            }
        };
        let [s1_logits, s2_logits] = logits.into_inner().unwrap_or_else(PoisonError::into_inner);
        let Finished { series, values } = finished;
        let start = (series.context.len() + request.horizon).saturating_sub(self.max_context);
        let rows = self.network.decode_window(&series.context[start..], interrupt)?;
        let decoded: Vec<Vec<[f32; CHANNELS]>> = values
            .chunks_exact(request.horizon * CHANNELS)
            .map(|path| rows.as_chunks().0.iter().chain(path.as_chunks().0).copied().collect())
            .collect();
        Ok(Replay {
            mean: mean(&values, request.horizon, &series.stats)?,
            stats: series.stats,
            context: series.context,
            tokens: series.finished,
            s1_logits,
            s2_logits,
            decoded,
        })
    }
}

/// Sequential float32 sums over paths, as the reference forms them.
fn mean(values: &[f32], horizon: usize, stats: &Stats) -> Result<Vec<[f32; CHANNELS]>> {
    let mut sum = vec![0f32; horizon * CHANNELS];
    let mut paths = 0f32;
    for path in values.chunks_exact(horizon * CHANNELS) {
        sum.iter_mut().zip(path).for_each(|(sum, v)| *sum += v);
        paths += 1.0;
    }
    sum.iter_mut().for_each(|sum| *sum /= paths);
    let rows: Vec<[f32; CHANNELS]> =
        sum.chunks_exact(CHANNELS).map(|row| stats.denormalise(row).map(|value| value as f32)).collect();
    match rows.iter().position(|row| !row.iter().all(|v| v.is_finite())) {
        Some(step) => Err(ModelError::NonFinite { step: step + 1 }),
        None => Ok(rows),
    }
}
