//! What an engine is asked and what it answers: plain data, the same in a process and on the wire.

use crate::clock::UnixMicros;
use crate::fault::Fault;
use crate::path;
use crate::statistics::Counters;
use kronos_models::ask::{Ask, Terms};
use kronos_models::device::Precision;
use kronos_models::error::{ModelError, Result};
use kronos_models::family::{self, Capabilities, Families, Family, Files, Settings as FamilySettings};
use kronos_models::series::QuantileForecast;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What an engine can be asked. One caller has at most one request in work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// Forecast each series.
    Forecast {
        /// The model.
        model: ModelSource,
        /// One entry per series.
        series: Vec<Ask>,
        /// Shared by all of them.
        terms: Terms,
    },
    /// Load a model ahead of its first use.
    Load(ModelSource),
    /// Give the memory of a model version back, once its requests are answered.
    Unload(String),
    /// What the engine holds and does.
    Status,
    /// Begin all statistics anew.
    ResetStatistics,
    /// Work by other settings from now on; from the process that started the engine only.
    Configure(Settings),
}

impl Request {
    /// How many series the answer has.
    pub fn series_count(&self) -> usize {
        match self {
            Self::Forecast { series, .. } => series.len(),
            _ => 0,
        }
    }
}

/// A model as an engine finds it: the files of one registered version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelSource {
    /// `name@digest`, the key of every cache.
    pub version: String,
    /// Its family, by name.
    pub family: String,
    /// The directories that the family reads, by the names it has for them.
    pub directories: Vec<(String, FilePath)>,
    /// What the family has written down of the model, in JSON.
    pub settings: String,
    /// Files with their registered SHA-256 in hexadecimal, checked when the model is loaded.
    pub checksums: Vec<(FilePath, String)>,
}

impl ModelSource {
    /// Every path the engine is asked to read.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let directories = self.directories.iter().map(|(_, FilePath(path))| path.as_path());
        directories.chain(self.checksums.iter().map(|(FilePath(path), _)| path.as_path()))
    }

    /// Its family out of these.
    ///
    /// # Errors
    /// [`ModelError::UnknownFamily`].
    pub fn family(&self, families: Families) -> Result<&'static dyn Family> {
        family::find(families, &self.family)
    }

    /// What the model can do.
    ///
    /// # Errors
    /// As for [`ModelSource::family`]; [`ModelError::InvalidParameter`] for settings that are not the family's.
    pub fn capabilities(&self, families: Families) -> Result<Capabilities> {
        let family = self.family(families)?;
        let known = FamilySettings::parse(&self.settings).and_then(|settings| family.capabilities(&settings));
        known.ok_or_else(|| self.unsettled(family))
    }

    /// What its family is given to load it.
    ///
    /// # Errors
    /// As for [`ModelSource::capabilities`].
    pub fn files(&self, family: &'static dyn Family) -> Result<Files> {
        let settings = FamilySettings::parse(&self.settings).ok_or_else(|| self.unsettled(family))?;
        let directories =
            self.directories.iter().map(|(name, FilePath(path))| (name.clone(), path.clone())).collect();
        Ok(Files { directories, settings })
    }

    fn unsettled(&self, family: &'static dyn Family) -> ModelError {
        ModelError::InvalidParameter {
            name: "settings",
            expected: format!("those of a model of family \"{}\"", family.facts().name),
            got: self.settings.clone(),
        }
    }
}

/// A path, which need not be UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilePath(#[serde(with = "path")] pub PathBuf);

/// How an engine works; all of it may change while requests are in work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// CPU threads of the device, at least 1.
    pub threads: usize,
    /// Bytes that models, caches and results may take together.
    pub memory: u64,
    /// How long requests wait for the other callers that the model has lately served, to join its batch with them.
    pub batch_window: Duration,
    /// Requests that may wait before further ones are refused.
    pub max_queue: usize,
    /// Whether statistics are counted.
    pub track: bool,
    /// The directory that models are read from.
    #[serde(with = "path")]
    pub model_dir: PathBuf,
    /// The directory of the models that come with the program, the only other one.
    #[serde(with = "path")]
    pub built_in_dir: PathBuf,
    /// Where models run; looked at when the first model is loaded.
    pub devices: Devices,
    /// Memory that models, caches and results may take on each GPU.
    pub gpu_memory: Bound,
    /// Precision of models that are loaded on a GPU from now on.
    pub gpu_precision: Precision,
}

/// Where models may run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Devices {
    /// On every GPU found, else on the CPU.
    Auto,
    /// On the CPU only.
    Cpu,
    /// On these GPUs, by ordinal, else on the CPU.
    Gpus(Vec<usize>),
}

/// A bound on the memory of a device.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Bound {
    /// A share of what the device has, in (0, 1].
    Share(f64),
    /// Bytes.
    Bytes(u64),
}

impl Bound {
    /// The bound in bytes on a device with `total` bytes.
    pub fn of(self, total: u64) -> u64 {
        match self {
            Self::Share(share) => (total as f64 * share) as u64,
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// What an engine sends, possibly in several pieces; see [`Reply::is_last`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// The request is in work, or waits; sent from time to time as a sign of life.
    Progress(Progress),
    /// The next paths of one series, in order.
    Paths {
        /// Which series of the request.
        index: u32,
        /// Channels of a step.
        channels: u32,
        /// Steps per path.
        horizon: u32,
        /// Paths of the series in all.
        samples: u32,
        /// Steps of the history that the model used.
        context_used: u32,
        /// Values that follow those sent before, path after path and step after step.
        values: Vec<f64>,
    },
    /// The quantiles of one series, at the levels asked for.
    Quantiles {
        /// Which series of the request.
        index: u32,
        /// The quantiles.
        forecast: QuantileForecast,
    },
    /// One series has no forecast.
    Fault {
        /// Which series of the request.
        index: u32,
        /// Why.
        fault: Fault,
    },
    /// Every series of the request has been answered.
    Done,
    /// The model is loaded.
    Loaded(LoadedModel),
    /// Whether the version had been loaded.
    Unloaded(bool),
    /// What the engine holds and does.
    Status(Box<Status>),
    /// Done as told.
    Acknowledged,
    /// There is no answer.
    Refused(Refusal),
}

impl Reply {
    /// Whether nothing follows to the same request.
    pub fn is_last(&self) -> bool {
        !matches!(self, Self::Progress(_) | Self::Paths { .. } | Self::Quantiles { .. } | Self::Fault { .. })
    }
}

/// How far a request has come, in decode steps; its contexts count one each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Whether none of its series has been admitted yet.
    pub queued: bool,
    /// Steps done.
    pub done: u64,
    /// Steps in all.
    pub total: u64,
}

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Refusal {
    /// The model or its files refused.
    Model(Fault),
    /// Too many requests wait.
    QueueFull {
        /// Requests that may wait.
        limit: usize,
    },
    /// The engine itself broke.
    Broken {
        /// What is known of the cause.
        reason: String,
    },
    /// The caller may not ask that, or asks in a way nobody understands.
    Protocol {
        /// What is wrong with it.
        reason: String,
    },
}

impl Refusal {
    /// The model answers something else than what is asked of it.
    pub(crate) fn of_another_kind(version: &str) -> Self {
        Self::Protocol { reason: format!("model \"{version}\" makes forecasts of another kind") }
    }
}

impl From<ModelError> for Refusal {
    fn from(error: ModelError) -> Self {
        Self::Model(error.into())
    }
}

/// A model in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedModel {
    /// `name@digest`.
    pub version: String,
    /// Bytes of its weights.
    pub memory_bytes: u64,
}

/// What an engine holds and does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The engine as a process.
    pub engine: EngineStatus,
    /// Its devices.
    pub devices: Vec<DeviceStatus>,
    /// Every model it has served or tried to load.
    pub models: Vec<ModelStatus>,
    /// Requests that wait or run.
    pub requests: Vec<RequestStatus>,
}

/// An engine as a process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EngineStatus {
    /// Its process.
    pub pid: u32,
    /// When it began.
    pub started_at: UnixMicros,
    /// How many engines of this supervisor ended before it.
    pub restarts: u64,
    /// Resident memory.
    pub resident_bytes: u64,
    /// Callers connected.
    pub connections: u64,
    /// Requests that wait.
    pub queued: u64,
    /// Requests in work.
    pub running: u64,
}

/// A device of an engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceStatus {
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// What it is.
    pub name: String,
    /// Bytes reserved for weights, caches and results.
    pub used_bytes: u64,
    /// Bytes that may be reserved.
    pub limit_bytes: u64,
    /// Share of the last second it computed.
    pub utilization: f64,
    /// Models loaded on it.
    pub models: u64,
}

/// Whether a model is in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModelState {
    /// In memory.
    Loaded,
    /// Being read.
    Loading,
    /// The last attempt to load it failed.
    Failed,
    /// Not in memory.
    Idle,
}

/// A model and what it has done since the statistics began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelStatus {
    /// `name@digest`.
    pub version: String,
    /// The device it runs on.
    pub device: String,
    /// Whether it is in memory.
    pub state: ModelState,
    /// Bytes of its weights.
    pub memory_bytes: u64,
    /// Counters.
    pub counters: Counters,
    /// When counting began.
    pub since: UnixMicros,
}

/// A request that waits or runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestStatus {
    /// Number of the request within the engine.
    pub id: u64,
    /// Process of the caller.
    pub pid: u32,
    /// The model.
    pub version: String,
    /// Series asked for.
    pub series: u64,
    /// When it came.
    pub queued_at: UnixMicros,
    /// When its first series was admitted.
    pub started_at: Option<UnixMicros>,
    /// How far it has come.
    pub progress: Progress,
}
