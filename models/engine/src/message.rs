//! What an engine is asked and what it answers: plain data, the same in a process and on the wire.

use crate::fault::Fault;
use kronos_models::bars::{Bar, BarOptions, BarRequest, Sampling, Stamp, Window};
use kronos_models::device::Precision;
use kronos_models::error::{ModelError, Result};
use kronos_models::kronos::KronosFiles;
use kronos_models::random::Stream;
use kronos_models::series::{QuantileForecast, SeriesRequest};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What an engine can be asked. One caller has at most one request in work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// Draw sample paths for each series.
    Bars {
        /// The model.
        model: ModelSource,
        /// One entry per series.
        series: Vec<Series>,
        /// Shared by all of them.
        drawing: Drawing,
    },
    /// Forecast quantiles of each series.
    Quantiles {
        /// The model.
        model: ModelSource,
        /// One entry per series.
        series: Vec<SeriesRequest>,
        /// Shared by all of them.
        reading: Reading,
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
            Self::Bars { series, .. } => series.len(),
            Self::Quantiles { series, .. } => series.len(),
            _ => 0,
        }
    }
}

/// A model as an engine finds it: the files of one registered version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelSource {
    /// `name@digest`, the key of every cache.
    pub version: String,
    /// Where the weights lie.
    pub files: ModelFiles,
    /// Files with their registered SHA-256 in hexadecimal, checked when the model is loaded.
    pub checksums: Vec<(FilePath, String)>,
}

impl ModelSource {
    /// Every path the engine is asked to read.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let directories = match &self.files {
            ModelFiles::Kronos(files) => vec![files.predictor.as_path(), files.tokenizer.as_path()],
            ModelFiles::Chronos2 { model, adapter } => {
                adapter.iter().chain([model]).map(|FilePath(path)| path.as_path()).collect()
            }
            ModelFiles::ChronosBolt(FilePath(model)) | ModelFiles::NBeats(FilePath(model)) => {
                vec![model.as_path()]
            }
        };
        directories.into_iter().chain(self.checksums.iter().map(|(FilePath(path), _)| path.as_path()))
    }
}

/// The files of a model, by its family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModelFiles {
    /// Sample paths of bars.
    Kronos(#[serde(with = "Files")] KronosFiles),
    /// Quantiles of any columns.
    Chronos2 {
        /// Directory of the model.
        model: FilePath,
        /// Directory of an adapter to merge.
        adapter: Option<FilePath>,
    },
    /// Quantiles of one column.
    ChronosBolt(FilePath),
    /// Quantiles of columns, each by itself.
    NBeats(FilePath),
}

impl ModelFiles {
    /// Whether the model answers [`Request::Bars`]; the others answer [`Request::Quantiles`].
    pub fn forecast_bars(&self) -> bool {
        matches!(self, Self::Kronos(_))
    }

    /// Whether there is a network of the family for GPUs; the others run on the CPU.
    pub fn run_on_gpus(&self) -> bool {
        matches!(self, Self::Kronos(_) | Self::Chronos2 { .. })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "KronosFiles")]
struct Files {
    #[serde(with = "path")]
    predictor: PathBuf,
    #[serde(with = "path")]
    tokenizer: PathBuf,
    max_context: usize,
}

/// A path, which need not be UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilePath(#[serde(with = "path")] pub PathBuf);

/// Paths travel as the bytes that Unix knows them by.
pub(crate) mod path {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::PathBuf;

    pub fn serialize<S: Serializer>(path: &std::path::Path, serializer: S) -> Result<S::Ok, S::Error> {
        path.as_os_str().as_bytes().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        Ok(PathBuf::from(OsString::from_vec(Vec::deserialize(deserializer)?)))
    }
}

/// One series to forecast; [`BarRequest`] as it travels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// The context, oldest first.
    pub bars: Vec<Bar>,
    /// Minute, hour, weekday, day, month of the context bars and of the forecast bars.
    pub stamps: Vec<[u8; 5]>,
    /// Bars to forecast.
    pub horizon: u32,
    /// Key of the random stream.
    pub stream: u64,
}

impl From<BarRequest> for Series {
    fn from(request: BarRequest) -> Self {
        let fields = |s: &Stamp| [s.minute, s.hour, s.weekday, s.day, s.month];
        Self {
            stamps: request.stamps.iter().map(fields).collect(),
            bars: request.bars,
            // A horizon beyond this has been refused long before; the model refuses the largest one as well.
            horizon: u32::try_from(request.horizon).unwrap_or(u32::MAX),
            stream: request.stream.key(),
        }
    }
}

impl From<Series> for BarRequest {
    fn from(series: Series) -> Self {
        let stamp =
            |[minute, hour, weekday, day, month]: [u8; 5]| Stamp { minute, hour, weekday, day, month };
        Self {
            bars: series.bars,
            stamps: series.stamps.into_iter().map(stamp).collect(),
            horizon: series.horizon as usize,
            stream: Stream::from_key(series.stream),
        }
    }
}

/// How the paths of a request are drawn: [`BarOptions`] without the memory, which the engine knows better.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Drawing {
    /// Sample paths per series.
    pub samples: u32,
    /// See [`Sampling::temperature`].
    pub temperature: f32,
    /// See [`Sampling::top_k`].
    pub top_k: u32,
    /// See [`Sampling::top_p`].
    pub top_p: f32,
    /// Whether the window slides, see [`Window`].
    pub slide: bool,
}

impl Drawing {
    /// The drawing of these options.
    pub fn of(options: &BarOptions) -> Self {
        let bounded = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            samples: bounded(options.samples),
            temperature: options.sampling.temperature(),
            top_k: bounded(options.sampling.top_k()),
            top_p: options.sampling.top_p(),
            slide: options.window == Window::Slide,
        }
    }

    /// These options with `memory_limit` bytes.
    ///
    /// # Errors
    /// [`ModelError::InvalidParameter`] for a knob outside its domain.
    pub fn options(&self, memory_limit: u64) -> Result<BarOptions> {
        Ok(BarOptions {
            samples: self.samples as usize,
            sampling: Sampling::new(self.temperature, self.top_k as usize, self.top_p)?,
            window: if self.slide { Window::Slide } else { Window::Shorten },
            memory_limit,
        })
    }
}

/// How quantiles are forecast and read off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Longest history used, in points; at most the model's.
    pub context: usize,
    /// Variates that inform each other across series; `None`: every series by itself.
    pub cross_learning: Option<usize>,
    /// Levels to read, within the model's own.
    pub levels: Vec<f64>,
}

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
        /// Steps per path.
        horizon: u32,
        /// Paths of the series in all.
        samples: u32,
        /// Context bars the model used.
        context_used: u32,
        /// Bars that follow those sent before, path after path.
        bars: Vec<Bar>,
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

/// Microseconds since the Unix epoch.
pub type UnixMicros = i64;

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
    pub counters: crate::statistics::Counters,
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
