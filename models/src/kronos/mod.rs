//! Kronos, the foundation model for bars.

use crate::bars::{BarOptions, BarPaths, BarRequest};
use crate::error::Result;
use crate::interrupt::Interrupt;
use candle_core::Device;
use std::path::PathBuf;

/// Where the two halves of a Kronos model lie, and the window the pair was trained for.
#[derive(Debug, Clone)]
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
    max_context: usize,
}

impl Kronos {
    /// Reads both halves, strictly.
    pub fn load(_files: &KronosFiles, _device: &Device) -> Result<Self> {
        unimplemented!()
    }

    /// The longest window of the predictor.
    pub fn max_context(&self) -> usize {
        self.max_context
    }

    /// Bytes the weights take on the device.
    pub fn memory_bytes(&self) -> u64 {
        0
    }

    /// Forecasts every series of `requests`; one failing series does not stop the others.
    ///
    /// A series' numbers do not depend on the other series of the call, nor on their order, bit for bit on CPU.
    pub fn forecast(
        &self,
        _requests: &[BarRequest],
        _options: &BarOptions,
        _interrupt: &dyn Interrupt,
    ) -> Result<Vec<Result<BarPaths>>> {
        unimplemented!()
    }
}
