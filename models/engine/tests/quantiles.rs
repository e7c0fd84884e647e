//! Models of quantiles behind the socket: equal numbers, shared turns, cancelled work, requests of the wrong kind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use candle_core::Device;
use kronos_engine::answer::Answer;
use kronos_engine::message::{Bound, Devices, ModelSource, Refusal, Request, Settings};
use kronos_models::answer::Forecast;
use kronos_models::artifact::read_config;
use kronos_models::ask::{Ask, Terms, Wanted};
use kronos_models::chronos2::config::Config;
use kronos_models::chronos2::{Chronos2, Chronos2Files, Chronos2Options};
use kronos_models::device::Gpu;
use kronos_models::interrupt::NeverInterrupt;
use kronos_models::series::{Between, QuantileForecast, SeriesRequest};
use std::path::{Path, PathBuf};
use support::{Engine, bars, columns, described, model};

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("tests/fixtures/chronos2/models").join(name)
}

fn source(name: &str) -> ModelSource {
    let family = if name.contains("bolt") { "chronos_bolt" } else { "chronos2" };
    described(family, &format!("{name}@1"), &directory(name), &[], None)
}

fn settings() -> Settings {
    Settings { model_dir: directory("").parent().unwrap().parent().unwrap().into(), ..support::settings() }
}

fn series(key: u64, length: usize, horizon: usize) -> SeriesRequest {
    let value = |i: usize| 50.0 + key as f64 + (i as f64 * 0.7 + key as f64).sin();
    SeriesRequest::univariate((0..length).map(value).collect(), horizon)
}

const LEVELS: [f64; 3] = [0.1, 0.5, 0.9];

fn terms(context: usize, cross_learning: Option<usize>, levels: &[f64]) -> Terms {
    Terms { context, cross_learning, wanted: Wanted::Quantiles(levels.to_vec()) }
}

/// The series as a request has them.
fn asks(series: Vec<SeriesRequest>) -> Vec<Ask> {
    series.into_iter().map(|series| columns(series.targets, series.horizon)).collect()
}

fn request(model: ModelSource, series: Vec<SeriesRequest>, terms: Terms) -> Request {
    Request::Forecast { model, series: asks(series), terms }
}

fn ask(name: &str, series: Vec<SeriesRequest>, cross_learning: Option<usize>) -> Request {
    request(source(name), series, terms(96, cross_learning, &LEVELS))
}

fn quantiles(answer: Answer) -> Vec<QuantileForecast> {
    let Answer::Series(series) = answer else { panic!("{answer:?}") };
    let quantiles = |series| match series {
        Ok(Forecast::Quantiles(quantiles)) => quantiles,
        other => panic!("{other:?}"),
    };
    series.into_iter().map(quantiles).collect()
}

#[test]
fn many_callers_get_the_numbers_each_would_get_alone() {
    let engine = Engine::start(settings());
    let files = Chronos2Files { model: directory("tiny-b"), adapter: None };
    let model = Chronos2::load(&files, &Device::Cpu).unwrap();
    let callers: Vec<_> = (0..6u64)
        .map(|caller| {
            let mut connection = engine.connect();
            let requests: Vec<_> =
                (0..20).map(|i| series(100 * caller + i, 30 + caller as usize, 10 + i as usize)).collect();
            std::thread::spawn(move || {
                let answer = connection.ask(&ask("tiny-b", requests.clone(), None)).unwrap();
                (requests, quantiles(answer))
            })
        })
        .collect();
    for caller in callers {
        let (requests, answers) = caller.join().unwrap();
        for (request, answer) in requests.iter().zip(answers) {
            let alone =
                model.forecast(std::slice::from_ref(request), &Chronos2Options::default(), &NeverInterrupt);
            assert_eq!(alone.unwrap().remove(0).unwrap().at(&LEVELS, Between::Levels).unwrap(), answer);
        }
    }
    let status = engine.status();
    assert_eq!((status.models[0].counters.calls, status.models[0].counters.series), (6, 120));
    assert_eq!(status.models[0].counters.step_rows, 120);
    assert_eq!(status.devices[0].used_bytes, status.models[0].memory_bytes, "a turn gives its memory back");
}

/// Requests that wait for each other, of which some read less history, others other levels, and others learn across their
/// series, which must be no series of somebody else.
#[test]
fn every_request_is_read_as_it_asked_for_whatever_waits_beside_it() {
    let engine = Engine::start(settings());
    let files = Chronos2Files { model: directory("tiny-b"), adapter: None };
    let model = Chronos2::load(&files, &Device::Cpu).unwrap();
    let readings = [
        (96, None, vec![0.1, 0.5, 0.9]),
        (24, None, vec![0.1, 0.5, 0.9]),
        (96, None, vec![0.25, 0.5]),
        (96, Some(100), vec![0.1, 0.9]),
        (96, Some(100), vec![0.1, 0.9]),
    ];
    let asked: Vec<_> = (0..)
        .zip(readings)
        .map(|(number, (context, cross_learning, levels))| {
            let all: Vec<_> = (0..3).map(|key| series(10 * number + key, 90, 12)).collect();
            let options = Chronos2Options {
                context_length: Some(context),
                cross_learning,
                ..Chronos2Options::default()
            };
            let made = model.forecast(&all, &options, &NeverInterrupt).unwrap();
            let alone: Vec<_> =
                made.into_iter().map(|made| made.unwrap().at(&levels, Between::Levels).unwrap()).collect();
            (request(source("tiny-b"), all, terms(context, cross_learning, &levels)), alone)
        })
        .collect();

    let mut long = engine.connect();
    long.send(&ask("tiny-b", vec![series(1, 96, 2000); 100], None));
    engine
        .until("the first runs", |status| status.requests.iter().any(|request| request.started_at.is_some()));
    let waiting: Vec<_> = asked
        .iter()
        .map(|(request, _)| {
            let mut caller = engine.connect();
            caller.send(request);
            caller
        })
        .collect();
    for (mut caller, (request, alone)) in waiting.into_iter().zip(&asked) {
        assert_eq!(&quantiles(caller.answer(request).unwrap()), alone);
    }
}

#[test]
fn cross_learning_sees_the_request_and_nothing_else() {
    let engine = Engine::start(settings());
    let requests: Vec<_> = (0..4).map(|key| series(key, 40, 8)).collect();
    let apart = quantiles(engine.ask(&ask("tiny-b", requests.clone(), None)).unwrap());
    let together = quantiles(engine.ask(&ask("tiny-b", requests.clone(), Some(100))).unwrap());
    assert_ne!(apart, together);
    assert_eq!(together, quantiles(engine.ask(&ask("tiny-b", requests.clone(), Some(100))).unwrap()));
    // Two variates at most are put together: of four series the first two, and the last two.
    let pairs = quantiles(engine.ask(&ask("tiny-b", requests.clone(), Some(2))).unwrap());
    let halves = requests.chunks(2).map(|pair| ask("tiny-b", pair.to_vec(), Some(2)));
    let halves: Vec<_> = halves.flat_map(|half| quantiles(engine.ask(&half).unwrap())).collect();
    assert_eq!(pairs, halves);
}

#[test]
fn what_is_wrong_with_one_series_stays_with_it() {
    let engine = Engine::start(settings());
    let mut infinite = series(1, 30, 4);
    infinite.targets[0][7] = f64::NEG_INFINITY;
    let mut two = series(2, 30, 4);
    two.targets.push(two.targets[0].clone());
    let answer = engine.ask(&ask("tiny-bolt", vec![infinite, series(3, 30, 4), two], None)).unwrap();
    let Answer::Series(series) = answer else { panic!("{answer:?}") };
    assert!(series[0].as_ref().unwrap_err().to_string().contains("position 7"));
    assert!(series[1].is_ok());
    assert!(series[2].as_ref().unwrap_err().to_string().contains("more than one target"));
}

#[test]
fn a_request_of_the_other_kind_is_refused() {
    let engine = Engine::start(settings());
    let Request::Forecast { terms: paths, .. } = bars("a", &[], 1) else { unreachable!() };
    let refused = |engine: &Engine, request: Request| matches!(engine.ask(&request), Err(Refusal::Protocol { reason }) if reason.contains("another kind"));
    assert!(refused(&engine, request(source("tiny-b"), Vec::new(), paths)));
    // Series that learn from each other, of a model that reads each by itself.
    assert!(refused(&engine, ask("tiny-bolt", vec![series(1, 30, 4)], Some(100))));
    let engine = Engine::start(support::settings());
    assert!(refused(&engine, request(model("a"), vec![series(1, 30, 4)], terms(96, None, &LEVELS))));
}

#[test]
fn a_caller_who_hangs_up_frees_the_model() {
    let engine = Engine::start(settings());
    engine.ask(&Request::Load(source("tiny-b"))).unwrap();
    let mut leaving = engine.connect();
    leaving.send(&ask("tiny-b", vec![series(1, 96, 2000); 200], None));
    engine.until("the request runs", |status| {
        status.requests.iter().any(|request| request.started_at.is_some())
    });
    drop(leaving);
    engine.until("the request is gone", |status| status.requests.is_empty());
    assert_eq!(quantiles(engine.ask(&ask("tiny-b", vec![series(1, 30, 4)], None)).unwrap()).len(), 1);
}

/// A stand-in for a GPU, with room for one model: the arithmetic is the CPU's, the placing is what is tested.
/// Room for one model and the smallest turn of it, and for half of a second model.
fn small_gpu_bytes() -> u64 {
    let weights = directory("tiny-b").join("model.safetensors").metadata().unwrap().len();
    let config: Config = read_config(&directory("tiny-b").join("config.json")).unwrap();
    let width = config.d_model.max(config.num_heads * config.d_kv);
    let turn = 4096 * (config.d_ff + 16 * width) * size_of::<f32>();
    weights + weights / 2 + turn as u64
}

fn one_small_gpu(wanted: Option<&[usize]>) -> Result<Vec<Gpu>, String> {
    assert_eq!(wanted, Some(&[1][..]), "the ordinals of the settings are asked for");
    let name = "a small GPU".to_owned();
    Ok(vec![Gpu { device: Device::Cpu, ordinal: 1, name, total_bytes: small_gpu_bytes() }])
}

#[test]
fn a_model_that_does_not_fit_the_gpu_goes_to_the_cpu() {
    let settings = Settings { devices: Devices::Gpus(vec![1]), gpu_memory: Bound::Share(1.0), ..settings() };
    let engine = Engine::with_gpus(settings, Some(one_small_gpu));
    let load = |version: &str| {
        let model = ModelSource { version: version.into(), ..source("tiny-b") };
        engine.ask(&Request::Load(model)).unwrap();
    };
    load("first@1");
    load("second@1");
    let status = engine.status();
    let places: Vec<(&str, &str)> =
        status.models.iter().map(|model| (model.version.as_str(), model.device.as_str())).collect();
    assert!(places.contains(&("first@1", "cuda:1")) && places.contains(&("second@1", "cpu")), "{places:?}");
    let devices: Vec<(&str, u64)> =
        status.devices.iter().map(|device| (device.device.as_str(), device.models)).collect();
    assert_eq!(devices, [("cpu", 1), ("cuda:1", 1)]);
    assert!(status.devices.iter().all(|device| device.used_bytes > 0));
    // Whichever device it is on, a model answers, and gives its memory back.
    for version in ["first@1", "second@1"] {
        let model = ModelSource { version: version.into(), ..source("tiny-b") };
        let request = request(model, vec![series(1, 40, 5)], terms(96, None, &LEVELS));
        assert_eq!(quantiles(engine.ask(&request).unwrap()).len(), 1);
        engine.ask(&Request::Unload(version.into())).unwrap();
    }
    assert!(engine.status().devices.iter().all(|device| device.used_bytes == 0));
}

#[test]
fn without_a_driver_models_run_on_the_cpu() {
    let no_driver = |_: Option<&[usize]>| Err("there is no driver".to_owned());
    let engine = Engine::with_gpus(Settings { devices: Devices::Auto, ..settings() }, Some(no_driver));
    assert_eq!(quantiles(engine.ask(&ask("tiny-b", vec![series(1, 40, 5)], None)).unwrap()).len(), 1);
    let status = engine.status();
    assert_eq!((status.models[0].device.as_str(), status.devices.len()), ("cpu", 1));
}
