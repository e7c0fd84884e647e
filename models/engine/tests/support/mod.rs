//! An engine on a socket of its own, the fixture model, and a caller that waits.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)] // each test binary uses a part of it

use kronos_engine::answer::{Answer, Assembly};
use kronos_engine::core::Origin;
use kronos_engine::frame::{FrameReader, write};
use kronos_engine::message::{
    Bound, Devices, FilePath, ModelSource, Refusal, Reply, Request, Settings, Status,
};
use kronos_engine::server;
use kronos_models::artifact::sha256_file;
use kronos_models::ask::{Ask, Channel, Drawing, Terms, Wanted};
use kronos_models::bars::{BarOptions, BarRequest, Sampling, Stamp, Window};
use kronos_models::device::{Opener, Precision};
use kronos_models::families::FAMILIES;
use kronos_models::family::{self, Directory, Family};
use kronos_models::random::Stream;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("tests/fixtures/kronos")
}

/// A model of a directory as a registration describes it, with the digests of its weights.
pub fn described(
    family: &str,
    version: &str,
    directory: &Path,
    parts: &[(&'static str, PathBuf)],
    max_context: Option<usize>,
) -> ModelSource {
    described_by(family::find(FAMILIES, family).unwrap(), version, directory, parts, max_context)
}

/// As [`described`], by any family.
pub fn described_by(
    family: &dyn Family,
    version: &str,
    directory: &Path,
    parts: &[(&'static str, PathBuf)],
    max_context: Option<usize>,
) -> ModelSource {
    let parts = parts.iter().cloned().collect();
    let directory = Directory { path: directory, parts: &parts, locate: &Path::to_path_buf };
    let found = family.describe(&directory).unwrap();
    let mut settings = found.settings;
    settings.insert("max_context".into(), max_context.unwrap_or(found.context.own).into());
    let named = |(name, path): (&str, PathBuf)| (name.to_owned(), FilePath(path));
    let weights = found.files.into_iter().map(|(path, _)| path);
    let weights = weights.filter(|path| path.extension().is_some_and(|ending| ending == "safetensors"));
    ModelSource {
        version: version.into(),
        family: family.facts().name.into(),
        directories: found.directories.into_iter().map(named).collect(),
        settings: family::Settings::of(settings.into()).text(),
        checksums: weights.map(|path| (FilePath(path.clone()), sha256_file(&path).unwrap())).collect(),
    }
}

/// The fixture model under a version of its own, so that tests can hold several.
pub fn model(version: &str) -> ModelSource {
    described("kronos", version, &fixtures().join("tiny55"), &[], Some(128))
}

pub fn settings() -> Settings {
    Settings {
        threads: 1,
        memory: 1 << 30,
        batch_window: Duration::from_millis(5),
        max_queue: 1000,
        track: true,
        model_dir: fixtures(),
        built_in_dir: fixtures(),
        devices: Devices::Cpu,
        gpu_memory: Bound::Share(0.8),
        gpu_precision: Precision::F32,
    }
}

/// Bytes that hold the fixture model, its files counted or itself.
pub fn model_bytes() -> u64 {
    let engine = Engine::start(settings());
    engine.ask(&Request::Load(model("a"))).unwrap();
    let files = model("a").checksums.iter().map(|(path, _)| path.0.metadata().unwrap().len()).sum();
    engine.status().models[0].memory_bytes.max(files)
}

pub const ORIGIN: Origin = Origin { families: FAMILIES, restarts: 0, trim: || {}, gpus: None };

/// A series that differs with `key`.
pub fn series(key: u64, context: usize, horizon: usize) -> BarRequest {
    let bar = |i: usize| {
        let close = 100.0 + (i as f64 * 0.3 + key as f64).sin();
        [close, close + 0.5, close - 0.5, close + 0.1, 10.0, 1000.0]
    };
    let stamp =
        |i: usize| Stamp { minute: 0, hour: (i % 24) as u8, weekday: (i / 24 % 7) as u8, day: 1, month: 1 };
    BarRequest {
        bars: (0..context).map(bar).collect(),
        stamps: (0..context + horizon).map(stamp).collect(),
        horizon,
        stream: Stream::from_key(key),
    }
}

pub fn options(samples: usize) -> BarOptions {
    let sampling = Sampling::new(1.0, 0, 0.9).unwrap();
    BarOptions { samples, sampling, window: Window::Shorten, memory_limit: u64::MAX }
}

pub fn bars(version: &str, requests: &[BarRequest], samples: usize) -> Request {
    Request::Forecast {
        model: model(version),
        series: requests.iter().cloned().map(Ask::from).collect(),
        terms: paths_of(&options(samples)),
    }
}

/// The terms of sample paths after the whole history.
pub fn paths_of(options: &BarOptions) -> Terms {
    let wanted = Wanted::Paths(Drawing::of(options));
    Terms { context: usize::MAX, cross_learning: None, wanted }
}

/// Columns without covariates as a request has them.
pub fn columns(targets: Vec<Vec<f64>>, horizon: usize) -> Ask {
    let channel = |(place, values)| Channel { name: format!("y{place}"), values };
    Ask { targets: targets.into_iter().enumerate().map(channel).collect(), horizon, ..Ask::default() }
}

/// An engine that serves a socket in a folder of its own.
pub struct Engine {
    folder: tempfile::TempDir,
}

impl Engine {
    pub fn start(settings: Settings) -> Self {
        Self::with_gpus(settings, None)
    }

    /// An engine that opens GPUs in this way.
    pub fn with_gpus(settings: Settings, gpus: Option<Opener>) -> Self {
        Self::of(settings, Origin { gpus, ..ORIGIN })
    }

    /// An engine of another origin.
    pub fn of(settings: Settings, origin: Origin) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
        std::thread::spawn(move || server::serve(listener, settings, origin));
        Self { folder }
    }

    pub fn connect(&self) -> Caller {
        let stream = UnixStream::connect(self.folder.path().join("socket")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Caller { stream, reader: FrameReader::default() }
    }

    pub fn ask(&self, request: &Request) -> Result<Answer, Refusal> {
        self.connect().ask(request)
    }

    pub fn status(&self) -> Status {
        match self.ask(&Request::Status).unwrap() {
            Answer::Status(status) => *status,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until the engine's state is as wanted.
    #[track_caller]
    pub fn until(&self, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
        let since = Instant::now();
        loop {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            assert!(since.elapsed() < Duration::from_secs(30), "{what}: {status:?}");
            std::thread::yield_now();
        }
    }
}

pub struct Caller {
    pub stream: UnixStream,
    reader: FrameReader,
}

impl Caller {
    pub fn send(&mut self, request: &Request) {
        let mut bytes = Vec::new();
        write(request, &mut bytes).unwrap();
        self.stream.write_all(&bytes).unwrap();
    }

    /// The next reply; `None` when the engine hung up.
    pub fn receive(&mut self) -> Option<Reply> {
        let mut piece = [0; 4096];
        loop {
            if let Some(reply) = self.reader.next_message().unwrap() {
                return Some(reply);
            }
            match self.stream.read(&mut piece).unwrap() {
                0 => return None,
                count => self.reader.push(&piece[..count]),
            }
        }
    }

    pub fn ask(&mut self, request: &Request) -> Result<Answer, Refusal> {
        self.send(request);
        self.answer(request)
    }

    pub fn answer(&mut self, request: &Request) -> Result<Answer, Refusal> {
        let mut assembly = Assembly::new(request.series_count());
        loop {
            let reply = self.receive().expect("the engine hung up");
            if let Some(answer) = assembly.take(reply)? {
                return Ok(answer);
            }
        }
    }
}
