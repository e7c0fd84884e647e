//! The engine behind its socket: equal numbers, shared batches, cancelled work, bounded memory, refused nonsense.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use candle_core::Device;
use kronos_engine::answer::Answer;
use kronos_engine::core::Core;
use kronos_engine::fault::Fault;
use kronos_engine::job::{CallerId, Delivery, RequestId, Sink};
use kronos_engine::message::{FilePath, ModelState, Refusal, Reply, Request, Settings, Status};
use kronos_engine::statistics::Counters;
use kronos_models::answer::Forecast;
use kronos_models::bars::BarPaths;
use kronos_models::interrupt::NeverInterrupt;
use kronos_models::kronos::{Kronos, KronosFiles};
use std::io::{Read, Write};
use std::sync::mpsc::{Sender, channel};
use support::{Engine, ORIGIN, bars, model, model_bytes, options, series, settings};

fn paths(answer: Answer) -> Vec<BarPaths> {
    match answer {
        Answer::Series(series) => series
            .into_iter()
            .map(|series| match series.unwrap() {
                Forecast::Paths(paths) => BarPaths::of(&paths).unwrap(),
                other => panic!("{other:?}"),
            })
            .collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_batch_of_many_callers_gives_the_numbers_of_each_alone() {
    let engine = Engine::start(settings());
    let [predictor, tokenizer] =
        ["predictor", "tokenizer"].map(|part| support::fixtures().join("tiny55").join(part));
    let files = KronosFiles { predictor, tokenizer, max_context: 128 };
    let kronos = Kronos::load(&files, &Device::Cpu).unwrap();
    let callers: Vec<_> = (0..8)
        .map(|caller| {
            let requests: Vec<_> =
                (0..3).map(|i| series(caller * 10 + i, 20 + caller as usize, 12)).collect();
            let mut connection = engine.connect();
            std::thread::spawn(move || {
                let request = bars("a", &requests, 5);
                let answers: Vec<_> = (0..4).map(|_| paths(connection.ask(&request).unwrap())).collect();
                (requests, answers)
            })
        })
        .collect();
    for caller in callers {
        let (requests, answers) = caller.join().unwrap();
        let alone: Vec<_> = kronos
            .forecast(&requests, &options(5), &NeverInterrupt)
            .unwrap()
            .into_iter()
            .map(|series| series.unwrap())
            .collect();
        for answer in answers {
            assert_eq!(answer, alone);
        }
    }
    let status = engine.until("requests end", |status| status.requests.is_empty());
    let counters = &status.models[0].counters;
    assert_eq!((counters.calls, counters.series, counters.rows, counters.errors), (32, 96, 96 * 12, 0));
    assert!(counters.step_rows > counters.steps * 15, "requests shared their steps: {counters:?}");
    assert_eq!(
        status.devices[0].used_bytes, status.models[0].memory_bytes,
        "caches and results were given back"
    );
}

#[test]
fn a_short_request_does_not_wait_for_a_long_one() {
    let engine = Engine::start(settings());
    let mut long = engine.connect();
    // More paths than a batch takes, for as long as the window allows.
    long.send(&bars("a", &vec![series(1, 20, 100); 200], 100));
    engine.until("the long request runs", |status| status.requests.iter().any(|r| !r.progress.queued));
    paths(engine.ask(&bars("a", &[series(2, 20, 2)], 1)).unwrap());
    let status = engine.status();
    assert_eq!(status.requests.len(), 1, "the long one is still at it");
    assert!(status.requests[0].progress.done < status.requests[0].progress.total);
}

#[test]
fn newcomers_join_with_callers_who_are_about_to_ask_again_while_the_batch_goes_on() {
    let engine = Engine::start(Settings { batch_window: std::time::Duration::from_secs(50), ..settings() });
    let (mut long, mut early, mut late) = (engine.connect(), engine.connect(), engine.connect());
    long.send(&bars("a", &[series(1, 20, 100)], 2000));
    engine.until("the long request runs", |status| status.requests.iter().any(|r| !r.progress.queued));
    let short = bars("a", &[series(2, 20, 2)], 1);
    let first = paths(early.ask(&short).unwrap());
    late.send(&short);
    let progress = |status: &Status| {
        let long = status.requests.iter().find(|request| !request.progress.queued);
        long.map(|long| long.progress.done)
    };
    let before = progress(&engine.until("the newcomer waits", |status| status.engine.queued == 1));
    let status = engine.until("the batch goes on", |status| progress(status) > before);
    assert_eq!(status.engine.queued, 1, "the newcomer still waits for the caller served a moment ago");
    assert_eq!(paths(early.ask(&short).unwrap()), first);
    assert_eq!(paths(late.answer(&short).unwrap()), first);
}

#[test]
fn progress_is_told_and_a_hang_up_frees_everything() {
    let engine = Engine::start(settings());
    let mut callers: Vec<_> = (0..4).map(|_| engine.connect()).collect();
    for (key, caller) in callers.iter_mut().enumerate() {
        caller.send(&bars("a", &vec![series(key as u64, 20, 100); 500], 100));
    }
    engine.until("progress", |status| {
        status.requests.len() == 4 && status.requests.iter().all(|r| r.progress.done > 0)
    });
    // Finished series may come before it.
    let told = std::iter::from_fn(|| callers[0].receive()).find_map(|reply| match reply {
        Reply::Progress(progress) => Some(progress),
        _ => None,
    });
    assert_eq!(told.expect("the engine hung up").total, 500 * 101);
    drop(callers);
    let status = engine.until("slots are free", |status| {
        status.requests.is_empty() && status.devices[0].used_bytes == status.models[0].memory_bytes
    });
    assert_eq!(status.engine.running, 0);
}

#[test]
fn a_full_queue_refuses() {
    let engine = Engine::start(Settings { max_queue: 1, memory: model_bytes() + 700_000, ..settings() });
    // Fills the memory, so that the next one waits.
    let mut first = engine.connect();
    first.send(&bars("a", &vec![series(1, 100, 20); 100], 50));
    engine.until("the first runs", |status| status.requests.iter().any(|r| !r.progress.queued));
    let mut second = engine.connect();
    second.send(&Request::Load(model("b")));
    engine.until("the second waits", |status| status.engine.queued == 1);
    let refused = engine.ask(&bars("a", &[series(1, 20, 2)], 1)).unwrap_err();
    assert_eq!(refused, Refusal::QueueFull { limit: 1 });
}

#[test]
fn idle_models_make_room_and_too_large_ones_are_refused() {
    let one = model_bytes();
    let engine = Engine::start(Settings { memory: one * 5 / 2, ..settings() });
    for version in ["a", "b", "c"] {
        engine.ask(&Request::Load(model(version))).unwrap();
    }
    let status = engine.until("two are left", |status| status.devices[0].models == 2);
    let state = |version: &str| status.models.iter().find(|model| model.version == version).unwrap().state;
    assert_eq!(
        [state("a"), state("b"), state("c")],
        [ModelState::Idle, ModelState::Loaded, ModelState::Loaded]
    );
    assert!(status.devices[0].used_bytes <= status.devices[0].limit_bytes);

    assert!(matches!(engine.ask(&Request::Unload("c".into())), Ok(Answer::Unloaded(true))));
    assert!(matches!(engine.ask(&Request::Unload("c".into())), Ok(Answer::Unloaded(false))));
    let status = engine.status();
    assert_eq!(
        status.devices[0].used_bytes,
        status.models.iter().map(|model| model.memory_bytes).sum::<u64>()
    );
    assert_eq!(status.devices[0].models, 1);

    let engine = Engine::start(Settings { memory: 1000, ..settings() });
    let refused = engine.ask(&Request::Load(model("a"))).unwrap_err();
    assert!(matches!(refused, Refusal::Model(Fault::MemoryLimit { limit: 1000, .. })), "{refused:?}");
    assert_eq!(engine.status().models[0].state, ModelState::Failed);
}

#[test]
fn one_series_that_exceeds_the_memory_leaves_the_others_alone() {
    let engine = Engine::start(Settings { memory: model_bytes() + 300_000, ..settings() });
    let requests = [series(1, 10, 5), series(2, 100, 20), series(3, 10, 5)];
    let answer = engine.ask(&bars("a", &requests, 400)).unwrap();
    let Answer::Series(answers) = answer else { panic!("{answer:?}") };
    assert!(answers[0].is_ok() && answers[2].is_ok(), "{answers:?}");
    let Err(error @ kronos_models::ModelError::MemoryLimit { .. }) = &answers[1] else {
        panic!("{answers:?}")
    };
    let counters = &engine.status().models[0].counters;
    assert_eq!((counters.calls, counters.series, counters.rows, counters.errors), (1, 3, 10, 1));
    assert_eq!(counters.last_error, Some(error.to_string()));
}

#[test]
fn nothing_is_counted_where_nobody_wants_it_and_counting_can_begin_anew() {
    let engine = Engine::start(Settings { track: false, ..settings() });
    let request = bars("a", &[series(1, 20, 2)], 1);
    paths(engine.ask(&request).unwrap());
    assert_eq!(engine.status().models[0].counters, Counters::default());

    let engine = Engine::start(settings());
    paths(engine.ask(&request).unwrap());
    engine.ask(&Request::Load(model("b"))).unwrap();
    engine.ask(&Request::Unload("b".into())).unwrap();
    let before = engine.status();
    assert_eq!((before.models.len(), before.models[0].counters.calls), (2, 1));
    assert!(matches!(engine.ask(&Request::ResetStatistics), Ok(Answer::Acknowledged)));
    let after = engine.status();
    // What is not in memory is forgotten with its counters.
    assert_eq!((after.models.len(), after.models[0].version.as_str()), (1, "a"));
    assert_eq!(after.models[0].counters, Counters::default());
    assert!(after.models[0].since >= before.models[0].since);
}

#[test]
fn a_request_before_the_answer_to_the_one_before_ends_the_connection() {
    let engine = Engine::start(settings());
    let mut hasty = engine.connect();
    hasty.send(&bars("a", &vec![series(1, 20, 100); 200], 100));
    engine.until("the first runs", |status| status.requests.iter().any(|r| !r.progress.queued));
    hasty.send(&Request::Status);
    let reply = std::iter::from_fn(|| hasty.receive()).find(Reply::is_last);
    assert!(
        matches!(&reply, Some(Reply::Refused(Refusal::Protocol { reason })) if reason.contains("before the answer")),
        "{reply:?}"
    );
    assert_eq!(hasty.receive(), None, "and the connection is closed");
    engine.until("its request has gone with it", |status| status.requests.is_empty());
}

#[test]
fn files_outside_the_directory_of_models_are_not_read() {
    let engine = Engine::start(settings());
    for path in ["/etc", &format!("{}/../../..", support::fixtures().display())] {
        let mut source = model("a");
        source.directories[1].1 = FilePath(path.into());
        let refused = engine.ask(&Request::Load(source)).unwrap_err();
        assert!(
            matches!(&refused, Refusal::Protocol { reason } if reason.contains("directory of models")),
            "{refused:?}"
        );
    }
}

#[test]
fn a_changed_file_is_refused_by_name() {
    let engine = Engine::start(settings());
    let mut source = model("a");
    source.checksums[0].1 = "0".repeat(64);
    let refused = engine.ask(&Request::Load(source)).unwrap_err();
    assert!(matches!(&refused, Refusal::Model(Fault::ChecksumMismatch { .. })), "{refused:?}");
    assert!(engine.ask(&Request::Load(model("a"))).is_ok(), "the next attempt starts anew");
}

#[test]
fn nonsense_ends_its_own_connection_only() {
    let engine = Engine::start(settings());
    for nonsense in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"KRN\x63\0\0\0\0",
        b"KRN\x02\xff\xff\xff\xff",
        b"KRN\x02\x01\0\0\0\xee",
    ] {
        let mut caller = engine.connect();
        caller.stream.write_all(nonsense).unwrap();
        let reply = caller.receive();
        assert!(matches!(reply, Some(Reply::Refused(Refusal::Protocol { .. }))), "{reply:?}");
        assert_eq!(caller.stream.read(&mut [0; 8]).unwrap(), 0, "and the connection is closed");
    }
    let mut caller = engine.connect();
    let refused = caller.ask(&Request::Configure(settings())).unwrap_err();
    assert!(matches!(&refused, Refusal::Protocol { reason } if reason.contains("supervisor")), "{refused:?}");
    engine.ask(&Request::Load(model("a"))).unwrap();
}

struct Deliveries(Sender<(RequestId, Delivery)>);

impl Sink for Deliveries {
    fn deliver(&self, _: CallerId, request: RequestId, delivery: Delivery) {
        self.0.send((request, delivery)).ok();
    }
}

#[test]
fn settings_change_under_load_without_losing_a_request() {
    let (sender, replies) = channel();
    let core = Core::new(settings(), ORIGIN, Deliveries(sender));
    let request = bars("a", &vec![series(1, 20, 50); 20], 4);
    let asked: Vec<RequestId> = (0..6).map(|caller| core.submit(caller, 1, request.clone(), 1)).collect();
    for threads in [2, 1, 3] {
        let changed = Settings { threads, batch_window: std::time::Duration::ZERO, ..settings() };
        core.submit(99, 1, Request::Configure(changed), 1);
    }
    let mut done = Vec::new();
    let mut first: Option<Vec<Reply>> = None;
    let mut pieces: std::collections::HashMap<RequestId, Vec<Reply>> = Default::default();
    while done.len() < asked.len() {
        let (id, delivery) = replies.recv().unwrap();
        match delivery.into_reply() {
            Reply::Done => {
                let mut got = pieces.remove(&id).unwrap();
                got.sort_by_key(
                    |reply| if let Reply::Paths { index, .. } = reply { *index } else { u32::MAX },
                );
                assert_eq!(first.get_or_insert_with(|| got.clone()), &got);
                done.push(id);
            }
            Reply::Acknowledged => {}
            reply @ Reply::Paths { .. } => pieces.entry(id).or_default().push(reply),
            other => panic!("{other:?}"),
        }
    }
}
