//! Kronos, the foundation model for bars (arXiv 2508.02739; reference implementation shiyu-coder/Kronos at 67b630e).
//!
//! A tokenizer turns each bar into a coarse and a fine token; a decoder-only transformer predicts the next pair from past
//! pairs and calendar fields. The reference recomputes the whole window for every step and every path. Here a context is
//! encoded and prefilled once per series, all paths of all series decode together on top of it, and only the newest
//! position's logits are computed: [`batch`].

mod accelerated;
pub mod batch;
pub mod config;
pub mod family;
mod network;
pub mod normalise;
pub mod predictor;
pub mod replay;
pub mod sampling;
mod series;
mod spread;
mod step;
pub mod tokenizer;

use crate::artifact::{Tensors, read_config, read_tensors};
use crate::bars::{BarOptions, BarPaths, BarRequest};
use crate::device::Precision;
use crate::error::{ModelError, Result};
use crate::interrupt::Interrupt;
use crate::layers::accelerated::Place;
use crate::model::SeriesId;
use accelerated::Halves;
use batch::Batch;
use candle_core::Device;
use config::{PredictorConfig, TokenizerConfig};
use network::Network;
use predictor::Predictor;
use std::path::{Path, PathBuf};
use tokenizer::Tokenizer;

/// Paths decoded together before more series are admitted: enough to be bound by arithmetic instead of memory.
const ROWS_IN_FLIGHT: usize = 512;

/// Bars of contexts after which no further series joins a pass of the encoder: enough to be bound by arithmetic.
const BARS_PER_PASS: usize = 2048;

/// Where the two halves of a Kronos model lie, and the window the pair was trained for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KronosFiles {
    /// Directory of the predictor: `config.json`, `model.safetensors`.
    pub predictor: PathBuf,
    /// Directory of the tokenizer.
    pub tokenizer: PathBuf,
    /// The longest window the predictor was trained for; the files do not say it.
    pub max_context: usize,
}

/// A tokenizer and a predictor, ready to forecast.
#[derive(Debug)]
pub struct Kronos {
    network: Network,
    max_context: usize,
}

impl Kronos {
    /// Reads both halves, strictly: for the kernels on the CPU, for candle's operations in float32 on another device.
    ///
    /// # Errors
    /// What [`read_config`] and [`read_tensors`] say of the files; [`ModelError::InvalidParameter`] when the halves do
    /// not belong together; [`ModelError::OutOfMemory`] when the device has no room.
    pub fn load(files: &KronosFiles, device: &Device) -> Result<Self> {
        if !device.is_cpu() {
            return Self::load_accelerated(files, &Place::new(device, Precision::F32));
        }
        let Parts { tokenizer, predictor } = Parts::read(files)?;
        Self::from_parts(
            Tokenizer::new(&tokenizer.0, &tokenizer.1)?,
            Predictor::new(&predictor.0, &predictor.1)?,
            files.max_context,
        )
    }

    /// Reads both halves, strictly, and computes in candle's operations.
    ///
    /// # Errors
    /// As [`Kronos::load`].
    pub fn load_accelerated(files: &KronosFiles, place: &Place) -> Result<Self> {
        let Parts { tokenizer, predictor } = Parts::read(files)?;
        Self::accelerated(
            place,
            (&tokenizer.0, &tokenizer.1),
            (&predictor.0, &predictor.1),
            files.max_context,
        )
    }

    /// Joins two halves that compute in candle's operations.
    ///
    /// # Errors
    /// As [`Kronos::from_parts`], and those of the device.
    pub fn accelerated(
        place: &Place,
        tokenizer: (&TokenizerConfig, &Tensors),
        predictor: (&PredictorConfig, &Tensors),
        max_context: usize,
    ) -> Result<Self> {
        check_fit(tokenizer.0, predictor.0, max_context)?;
        let halves = Halves::load(place, tokenizer, predictor)?;
        Ok(Self { network: Network::Accelerated(Box::new(halves)), max_context })
    }

    /// Joins two halves.
    ///
    /// # Errors
    /// [`ModelError::InvalidParameter`] when their token sizes differ or the window is empty.
    pub fn from_parts(tokenizer: Tokenizer, predictor: Predictor, max_context: usize) -> Result<Self> {
        check_fit(tokenizer.config(), predictor.config(), max_context)?;
        let (tokenizer, predictor) = (Box::new(tokenizer), Box::new(predictor));
        Ok(Self { network: Network::Kernels { tokenizer, predictor }, max_context })
    }

    /// The tokenizer, where the kernels compute.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        match &self.network {
            Network::Kernels { tokenizer, .. } => Some(tokenizer),
            Network::Accelerated(_) => None,
        }
    }

    /// The predictor, where the kernels compute.
    pub fn predictor(&self) -> Option<&Predictor> {
        match &self.network {
            Network::Kernels { predictor, .. } => Some(predictor),
            Network::Accelerated(_) => None,
        }
    }

    /// The longest window of the predictor.
    pub fn max_context(&self) -> usize {
        self.max_context
    }

    /// Bytes the weights take on the device.
    pub fn memory_bytes(&self) -> u64 {
        self.network.bytes() as u64
    }

    /// Forecasts every series of `requests`; one failing series does not stop the others.
    ///
    /// A series' numbers do not depend on the other series of the call, nor on their order, bit for bit on CPU.
    ///
    /// # Errors
    /// [`ModelError::Cancelled`] and backend errors end the call. What is wrong with one series is in its place of the
    /// result: [`ModelError::InvalidParameter`], [`ModelError::HorizonTooLong`], [`ModelError::ShapeMismatch`],
    /// [`ModelError::MissingValue`], [`ModelError::MemoryLimit`], [`ModelError::NonFinite`].
    pub fn forecast(
        &self,
        requests: &[BarRequest],
        options: &BarOptions,
        interrupt: &dyn Interrupt,
    ) -> Result<Vec<Result<BarPaths>>> {
        let mut results: Vec<Option<Result<BarPaths>>> = requests.iter().map(|_| None).collect();
        let mut waiting = requests.iter().enumerate().peekable();
        let mut batch = Batch::new(self);
        let mut in_flight: Vec<(SeriesId, usize, u64)> = Vec::new();
        loop {
            // Several at a time, until the batch is full.
            loop {
                let mut used: u64 = in_flight.iter().map(|(_, _, bytes)| bytes).sum();
                let (mut rows, mut bars) = (batch.rows(), 0);
                let mut entrants: Vec<(usize, u64, (&BarRequest, BarOptions))> = Vec::new();
                while let Some(&(index, request)) = waiting.peek() {
                    match self.plan(request, options) {
                        Ok(plan) => {
                            let fits = used + plan.bytes <= options.memory_limit
                                && rows < ROWS_IN_FLIGHT
                                && bars < BARS_PER_PASS;
                            if !(fits || in_flight.is_empty() && entrants.is_empty()) {
                                break;
                            }
                            (used, rows, bars) = (used + plan.bytes, rows + plan.wave, bars + plan.context);
                            entrants.push((index, plan.bytes, (request, *options)));
                        }
                        Err(error) => results[index] = Some(Err(error)),
                    }
                    waiting.next();
                }
                if entrants.is_empty() {
                    break;
                }
                let together: Vec<(&BarRequest, BarOptions)> =
                    entrants.iter().map(|(_, _, entrant)| *entrant).collect();
                for ((index, bytes, _), admitted) in
                    entrants.into_iter().zip(batch.admit_all(&together, interrupt)?)
                {
                    match admitted {
                        Ok(id) => in_flight.push((id, index, bytes)),
                        Err(error) => results[index] = Some(Err(error)),
                    }
                }
            }
            if batch.is_empty() {
                break;
            }
            batch.steps(usize::MAX, interrupt)?;
            for (id, finished) in batch.take_finished(interrupt)? {
                if let Some(at) = in_flight.iter().position(|(other, ..)| *other == id) {
                    let (_, index, _) = in_flight.swap_remove(at);
                    results[index] = Some(finished.and_then(batch::Finished::into_paths));
                }
            }
        }
        // Every request was refused or finished above; an absent result would be a defect and is reported as one.
        Ok(results.into_iter().map(|r| r.unwrap_or(Err(ModelError::Cancelled))).collect())
    }
}

/// What the files of a model say.
struct Parts {
    tokenizer: (TokenizerConfig, Tensors),
    predictor: (PredictorConfig, Tensors),
}

impl Parts {
    fn read(files: &KronosFiles) -> Result<Self> {
        let (weights, config) = ("model.safetensors", "config.json");
        let tokenizer: TokenizerConfig = read_config(&files.tokenizer.join(config))?;
        let predictor: PredictorConfig = read_config(&files.predictor.join(config))?;
        let specs = |path: &Path, specs: Result<_>| {
            specs.map_err(|e| ModelError::ArtifactCorrupt { path: path.join(config), reason: e.to_string() })
        };
        let tokenizer_specs = specs(&files.tokenizer, tokenizer.tensors())?;
        let predictor_specs = specs(&files.predictor, predictor.tensors())?;
        let read = |path: &Path, specs: &[_]| read_tensors(&path.join(weights), specs, &Device::Cpu);
        Ok(Self {
            tokenizer: (tokenizer, read(&files.tokenizer, &tokenizer_specs)?),
            predictor: (predictor, read(&files.predictor, &predictor_specs)?),
        })
    }
}

/// Whether both halves and the window belong together.
fn check_fit(t: &TokenizerConfig, p: &PredictorConfig, max_context: usize) -> Result<()> {
    if (t.s1_bits, t.s2_bits) != (p.s1_bits, p.s2_bits) {
        return Err(ModelError::InvalidParameter {
            name: "tokenizer",
            expected: format!("one with {} + {} bits, as the predictor has", p.s1_bits, p.s2_bits),
            got: format!("{} + {} bits", t.s1_bits, t.s2_bits),
        });
    }
    if max_context < 2 {
        return Err(ModelError::InvalidParameter {
            name: "max_context",
            expected: "at least 2".into(),
            got: max_context.to_string(),
        });
    }
    Ok(())
}
