//! The models an engine holds, the least recently used going first when memory is short.

use super::{Failure, Limits, ModelSource, Reply, Request};
use candle_core::Device;
use kronos_models::artifact::verify;
use kronos_models::bars::BarOptions;
use kronos_models::error::{ModelError, Result};
use kronos_models::interrupt::Interrupt;
use kronos_models::kronos::Kronos;

/// Models in memory, the most recently used last.
#[derive(Debug, Default)]
pub struct Models {
    loaded: Vec<(String, Kronos)>,
}

impl Models {
    /// Answers one request.
    pub fn answer(
        &mut self,
        request: Request,
        limits: Limits,
        interrupt: &dyn Interrupt,
    ) -> Result<Reply, Failure> {
        Ok(match request {
            Request::Bars { model, series, options } => {
                self.load(&model, limits, interrupt)?;
                let free = limits.memory.saturating_sub(self.memory_bytes());
                let options = BarOptions { memory_limit: options.memory_limit.min(free), ..options };
                Reply::Bars(self.newest()?.forecast(&series, &options, interrupt)?)
            }
            Request::Load(model) => {
                self.load(&model, limits, interrupt)?;
                Reply::Load
            }
            Request::Unload(version) => {
                let before = self.loaded.len();
                self.loaded.retain(|(loaded, _)| *loaded != version);
                Reply::Unload(self.loaded.len() < before)
            }
        })
    }

    /// Makes a model the newest of those loaded.
    fn load(&mut self, model: &ModelSource, limits: Limits, interrupt: &dyn Interrupt) -> Result<()> {
        if let Some(at) = self.loaded.iter().position(|(version, _)| *version == model.version) {
            let found = self.loaded.remove(at);
            self.loaded.push(found);
            return Ok(());
        }
        // The file is as large as the tensors it becomes, give or take its header.
        let needed = model
            .checksums
            .iter()
            .map(|(path, _)| std::fs::metadata(path).map_or(0, |file| file.len()))
            .sum();
        if needed > limits.memory {
            return Err(ModelError::MemoryLimit { what: "the model", needed, limit: limits.memory });
        }
        while !self.loaded.is_empty() && self.memory_bytes() + needed > limits.memory {
            self.loaded.remove(0);
        }
        for (path, expected) in &model.checksums {
            interrupt.check()?;
            verify(path, expected)?;
        }
        interrupt.check()?;
        self.loaded.push((model.version.clone(), Kronos::load(&model.files, &Device::Cpu)?));
        Ok(())
    }

    fn newest(&self) -> Result<&Kronos, Failure> {
        let newest = self.loaded.last().map(|(_, model)| model);
        newest.ok_or_else(|| Failure::Broken { reason: "the model just loaded is gone".into() })
    }

    /// Bytes of all weights.
    fn memory_bytes(&self) -> u64 {
        self.loaded.iter().map(|(_, model)| model.memory_bytes()).sum()
    }
}
