//! The whole state of a run in one file, replaced atomically.

use super::error::{Result, TrainError};
use super::optimiser::AdamW;
use super::panel::hexadecimal;
use super::schedule::Plateau;
use super::trainable::{Parameter, Trainable, set_weights, weights};
use kronos_job::regime::Options;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Version of the file's layout.
const FORMAT: u32 = 1;

/// Where a run keeps its checkpoint, and how often it writes one.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    path: PathBuf,
    pub(super) every: u64,
}

/// Everything that changes during a run, apart from the weights and the moments.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) step: u64,
    pub(super) plateau: Plateau,
    pub(super) best_loss: f64,
    pub(super) best_step: u64,
    /// Evaluations since the best.
    pub(super) stale: u32,
    pub(super) stopped: bool,
    /// Sum and number of the training losses since the last evaluation.
    pub(super) train_loss: (f64, u64),
    pub(super) history: Vec<(u64, f64, f64)>,
    pub(super) best_weights: Vec<Vec<f32>>,
    /// Running mean of the weights; empty where none is taken.
    pub(super) average: Vec<Vec<f32>>,
    /// Whether an evaluation has begun and not ended; never in a file.
    pub(super) evaluation_due: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            step: 0,
            plateau: Plateau::default(),
            best_loss: f64::INFINITY,
            best_step: 0,
            stale: 0,
            stopped: false,
            train_loss: (0.0, 0),
            history: Vec::new(),
            best_weights: Vec::new(),
            average: Vec::new(),
            evaluation_due: false,
        }
    }
}

/// The state as it is written: numbers by their bits, for decimal text may lose the last one, and JSON has no infinity.
#[derive(Serialize, Deserialize)]
struct Written {
    format: u32,
    run: String,
    step: u64,
    plateau: (u64, u64, u32),
    best_loss: u64,
    best_step: u64,
    stale: u32,
    stopped: bool,
    train_loss: (u64, u64),
    history: Vec<(u64, u64, u64)>,
}

/// A checkpoint that was read.
pub(super) struct Saved {
    state: State,
    weights: Vec<Vec<f32>>,
    moments: Vec<(Vec<f32>, Vec<f32>)>,
}

impl Checkpoints {
    /// A checkpoint `checkpoint.safetensors` in `directory`, written after every `every` steps and at the end.
    pub fn new(directory: &Path, every: u64) -> Self {
        Self { path: directory.join("checkpoint.safetensors"), every: every.max(1) }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the checkpoint, as after the artifact has been written.
    pub fn clear(&self) -> Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(&self.path, error)),
            _ => Ok(()),
        }
    }

    pub(super) fn save<T: Trainable + ?Sized>(
        &self,
        network: &T,
        options: &Options,
        state: &State,
        adam: &AdamW,
    ) -> Result<()> {
        let parameters = network.parameters();
        let moments = adam.moments()?;
        let (first, second): (Vec<_>, Vec<_>) = moments.into_iter().unzip();
        let groups = [
            ("weight", weights(parameters)?),
            ("first", first),
            ("second", second),
            ("best", state.best_weights.clone()),
            ("average", state.average.clone()),
        ];
        let mut tensors = Vec::new();
        for (group, values) in &groups {
            for (parameter, values) in parameters.iter().zip(values) {
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                tensors.push((format!("{group}/{}", parameter.name), parameter.var.dims().to_vec(), bytes));
            }
        }
        let views = tensors
            .iter()
            .map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
            .collect::<Result<Vec<_>, safetensors::SafeTensorError>>();
        let written = serde_json::to_string(&state.written(identity(network, options)?));
        let other =
            |error: &dyn std::fmt::Display| failed(&self.path, std::io::Error::other(error.to_string()));
        let metadata = HashMap::from([("state".to_owned(), written.map_err(|error| other(&error))?)]);
        let bytes = views
            .and_then(|views| safetensors::serialize(views, Some(metadata)))
            .map_err(|error| other(&error))?;
        write_atomically(&self.path, &bytes)
    }

    /// The checkpoint, when there is one.
    pub(super) fn load<T: Trainable + ?Sized>(
        &self,
        network: &T,
        options: &Options,
    ) -> Result<Option<Saved>> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&self.path, error)),
        };
        let other = |reason: String| TrainError::OtherRun { path: self.path.clone(), reason };
        let unreadable = |error: &dyn std::fmt::Display| other(format!("it cannot be read: {error}"));
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| unreadable(&error))?;
        let state = header.metadata().as_ref().and_then(|metadata| metadata.get("state"));
        let written: Written =
            serde_json::from_str(state.map_or("", String::as_str)).map_err(|error| unreadable(&error))?;
        if written.format != FORMAT {
            return Err(other(format!("its format is {}, expected {FORMAT}", written.format)));
        }
        if written.run != identity(network, options)? {
            return Err(other("data, network or options have changed since it was written".into()));
        }
        let tensors = SafeTensors::deserialize(&bytes).map_err(|error| unreadable(&error))?;
        let group = |group: &str| -> Result<Vec<Vec<f32>>> {
            let read = |parameter: &Parameter| {
                let view = tensors
                    .tensor(&format!("{group}/{}", parameter.name))
                    .map_err(|error| unreadable(&error))?;
                if view.dtype() != Dtype::F32 || view.shape() != parameter.var.dims() {
                    return Err(other(format!("\"{}\" has another shape", parameter.name)));
                }
                Ok(view.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
            };
            network.parameters().iter().map(read).collect()
        };
        let average = if options.average.is_some() { group("average")? } else { Vec::new() };
        let state = State { best_weights: group("best")?, average, ..State::from(&written) };
        let moments = group("first")?.into_iter().zip(group("second")?).collect();
        Ok(Some(Saved { state, weights: group("weight")?, moments }))
    }
}

impl Saved {
    /// Puts weights and moments back.
    pub(super) fn restore(self, parameters: &[Parameter], adam: &mut AdamW) -> Result<State> {
        set_weights(parameters, &self.weights)?;
        adam.restore(self.state.step, self.moments)?;
        Ok(self.state)
    }
}

impl State {
    fn written(&self, run: String) -> Written {
        let Plateau { factor, best, stale } = self.plateau;
        Written {
            format: FORMAT,
            run,
            step: self.step,
            plateau: (factor.to_bits(), best.to_bits(), stale),
            best_loss: self.best_loss.to_bits(),
            best_step: self.best_step,
            stale: self.stale,
            stopped: self.stopped,
            train_loss: (self.train_loss.0.to_bits(), self.train_loss.1),
            history: self.history.iter().map(|(step, a, b)| (*step, a.to_bits(), b.to_bits())).collect(),
        }
    }
}

impl From<&Written> for State {
    fn from(written: &Written) -> Self {
        let (factor, best, stale) = written.plateau;
        Self {
            step: written.step,
            plateau: Plateau { factor: f64::from_bits(factor), best: f64::from_bits(best), stale },
            best_loss: f64::from_bits(written.best_loss),
            best_step: written.best_step,
            stale: written.stale,
            stopped: written.stopped,
            train_loss: (f64::from_bits(written.train_loss.0), written.train_loss.1),
            history: written
                .history
                .iter()
                .map(|&(step, a, b)| (step, f64::from_bits(a), f64::from_bits(b)))
                .collect(),
            best_weights: Vec::new(),
            average: Vec::new(),
            evaluation_due: false,
        }
    }
}

/// The SHA-256 of everything that must not change within a run.
fn identity<T: Trainable + ?Sized>(network: &T, options: &Options) -> Result<String> {
    let options = serde_json::to_string(options)
        .map_err(|error| super::error::invalid("options", "numbers that JSON can hold", error))?;
    let mut hash = Sha256::new();
    hash.update(options.as_bytes());
    hash.update(network.identity().as_bytes());
    for parameter in network.parameters() {
        hash.update(format!("{} {:?}\n", parameter.name, parameter.var.dims()).as_bytes());
    }
    Ok(hexadecimal(&hash.finalize()))
}

/// Writes a file beside its place, flushes it to the disk and renames it: a reader sees the old one or the new one.
pub(super) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write;
    let beside = path.with_extension("partial");
    let written = fs::File::create(&beside)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&beside, path));
    written.map_err(|error| failed(path, error))
}

pub(super) fn failed(path: &Path, source: std::io::Error) -> TrainError {
    TrainError::Write { path: path.to_path_buf(), source }
}
