//! A series' numbers depend on itself alone: not on the batch, its order, the memory limit or the threads.
#![allow(clippy::unwrap_used)] // Also in what the tests share, which clippy does not take for a test.

use candle_core::Device;
use kronos_models::bars::{Bar, BarOptions, BarPaths, BarRequest, Sampling, Stamp, Window};
use kronos_models::error::ModelError;
use kronos_models::interrupt::{Interrupt, NeverInterrupt};
use kronos_models::kronos::batch::Batch;
use kronos_models::kronos::sampling::draw;
use kronos_models::kronos::{Kronos, KronosFiles};
use kronos_models::random::Stream;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The window of the fixture.
const MAX_CONTEXT: usize = 64;

fn model() -> Kronos {
    let set = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kronos/tiny55");
    let files = KronosFiles {
        predictor: set.join("predictor"),
        tokenizer: set.join("tokenizer"),
        max_context: MAX_CONTEXT,
    };
    Kronos::load(&files, &Device::Cpu).unwrap()
}

fn options(samples: usize) -> BarOptions {
    BarOptions {
        samples,
        sampling: Sampling::new(1.0, 0, 0.95).unwrap(),
        window: Window::Shorten,
        memory_limit: 1 << 30,
    }
}

/// A random walk of its own for each series.
fn request(series: u64, context: usize, horizon: usize) -> BarRequest {
    let walk = Stream::from_key(series + 99);
    let mut price = 100.0;
    let bars: Vec<Bar> = (0..context as u32)
        .map(|i| {
            let open = price;
            price *= 1.0 + 0.02 * (walk.uniform(i, 0, 0) - 0.5);
            let (high, low) = (open.max(price) * 1.001, open.min(price) * 0.999);
            let volume = 1000.0 * (0.5 + walk.uniform(i, 1, 0));
            [open, high, low, price, volume, volume * price]
        })
        .collect();
    let stamps = (0..context + horizon)
        .map(|i| Stamp {
            minute: 0,
            hour: (i % 24) as u8,
            weekday: (i / 24 % 7) as u8,
            day: (1 + i / 24) as u8,
            month: 3,
        })
        .collect();
    BarRequest { bars, stamps, horizon, stream: Stream::from_key(series) }
}

fn forecast(model: &Kronos, requests: &[BarRequest], options: &BarOptions) -> Vec<BarPaths> {
    let results = model.forecast(requests, options, &NeverInterrupt).unwrap();
    results.into_iter().map(Result::unwrap).collect()
}

#[test]
fn a_series_alone_equals_itself_in_any_batch_and_order() {
    let model = model();
    let requests: Vec<BarRequest> =
        (0..40).map(|s| request(s, 1 + (s as usize * 7) % 60, 1 + (s as usize * 5) % 13)).collect();
    let together = forecast(&model, &requests, &options(3));
    let reversed: Vec<BarRequest> = requests.iter().rev().cloned().collect();
    let mut again = forecast(&model, &reversed, &options(3));
    again.reverse();
    assert_eq!(together, again);
    for (request, together) in requests.iter().zip(&together) {
        assert_eq!(&forecast(&model, std::slice::from_ref(request), &options(3))[0], together);
    }
    assert_ne!(together[0].bars[0], together[1].bars[0]);
}

#[test]
fn more_paths_leave_the_first_paths_as_they_were() {
    let model = model();
    let request = [request(5, 40, 9)];
    let few = forecast(&model, &request, &options(2));
    let many = forecast(&model, &request, &options(33));
    assert_eq!(few[0].bars, many[0].bars[..2 * 9]);
    let distinct: std::collections::HashSet<u64> =
        many[0].bars.chunks(9).map(|path| path[8][3].to_bits()).collect();
    assert!(distinct.len() > 20, "only {} of 33 paths differ", distinct.len());
}

/// Draw 0 of a path and step is the coarse token's and draw 1 the fine one's: with one uniform number for both, the fine
/// token of a bar would follow from its coarse one.
#[test]
fn both_tokens_of_every_bar_are_drawn_by_uniform_numbers_of_their_own() {
    let model = model();
    let request = request(5, 40, 9);
    let options = options(4);
    let replay = model.replay(&request, &options, None, &NeverInterrupt).unwrap();
    for (path, tokens) in replay.tokens.iter().enumerate() {
        for (step, token) in tokens.iter().enumerate() {
            let drawn = |logits: &[f32], number| {
                draw(logits, &options.sampling, request.stream.uniform(path as u32, step as u32, number))
            };
            let expected = (drawn(&replay.s1_logits[path][step], 0), drawn(&replay.s2_logits[path][step], 1));
            assert_eq!((Some(token.s1), Some(token.s2)), expected, "path {path}, step {step}");
        }
    }
}

#[test]
fn a_memory_limit_costs_time_not_numbers() {
    let model = model();
    let requests: Vec<BarRequest> = (0..4).map(|s| request(s, 50, 10)).collect();
    let roomy = forecast(&model, &requests, &options(16));
    let tight = BarOptions { memory_limit: 300_000, ..options(16) };
    assert_eq!(roomy, forecast(&model, &requests, &tight));
    let hopeless = BarOptions { memory_limit: 1000, ..options(16) };
    let refused = model.forecast(&requests, &hopeless, &NeverInterrupt).unwrap();
    assert!(
        refused.iter().all(|r| matches!(r, Err(ModelError::MemoryLimit { limit: 1000, .. }))),
        "{refused:?}"
    );
}

#[test]
fn one_thread_equals_many() {
    let model = model();
    let requests: Vec<BarRequest> = (0..5).map(|s| request(s, 50, 10)).collect();
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| forecast(&model, &requests, &options(16)))
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn a_series_may_join_and_leave_between_any_two_steps() {
    let model = model();
    let requests: Vec<BarRequest> = (0..3).map(|s| request(s, 30, 8)).collect();
    let expected = forecast(&model, &requests, &options(2));
    let mut batch = Batch::new(&model);
    let first = batch.admit(&requests[0], &options(2), &NeverInterrupt).unwrap();
    for _ in 0..3 {
        batch.step(&NeverInterrupt).unwrap();
    }
    assert_eq!(batch.progress(first), Some((4, 9)));
    let dropped = batch.admit(&requests[1], &options(2), &NeverInterrupt).unwrap();
    batch.step(&NeverInterrupt).unwrap();
    let last = batch.admit(&requests[2], &options(2), &NeverInterrupt).unwrap();
    batch.remove(dropped);
    let mut finished = Vec::new();
    while !batch.is_empty() {
        batch.step(&NeverInterrupt).unwrap();
        for (id, done) in batch.take_finished(&NeverInterrupt).unwrap() {
            finished.push((id, done.unwrap().into_paths().unwrap()));
        }
    }
    assert_eq!(finished, [(first, expected[0].clone()), (last, expected[2].clone())]);
}

#[test]
fn several_steps_at_once_end_with_the_first_series_and_change_no_numbers() {
    let model = model();
    let requests: Vec<BarRequest> = [3, 8, 5].map(|horizon| request(horizon, 30, horizon as usize)).into();
    let expected = forecast(&model, &requests, &options(3));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    pool.install(|| {
        let mut batch = Batch::new(&model);
        let ids: Vec<_> =
            requests.iter().map(|r| batch.admit(r, &options(3), &NeverInterrupt).unwrap()).collect();
        let mut done = Vec::new();
        let mut steps = Vec::new();
        while !batch.is_empty() {
            steps.push(batch.steps(4, &NeverInterrupt).unwrap());
            for (id, finished) in batch.take_finished(&NeverInterrupt).unwrap() {
                done.push((id, finished.unwrap().into_paths().unwrap()));
            }
        }
        assert_eq!(steps, [3, 2, 3]);
        assert_eq!(done, [0, 2, 1].map(|i| (ids[i], expected[i].clone())));
    });
}

#[test]
fn sliding_equals_the_cache_while_nothing_slides_and_the_context_is_shortened_otherwise() {
    let model = model();
    let slide = BarOptions { window: Window::Slide, ..options(3) };
    let fits = [request(1, 50, 15)];
    assert_eq!(forecast(&model, &fits, &slide), forecast(&model, &fits, &options(3)));

    let long = request(1, 60, 15);
    let shortened = &forecast(&model, std::slice::from_ref(&long), &options(3))[0];
    assert_eq!(shortened.context_used, MAX_CONTEXT - 15 + 1);
    let mut cut = long.clone();
    cut.bars.drain(..10);
    cut.stamps.drain(..10);
    assert_eq!(&forecast(&model, &[cut], &options(3))[0], shortened);
    let slid = &forecast(&model, &[long], &slide)[0];
    assert_eq!(slid.context_used, 60);
    assert_ne!(slid.bars, shortened.bars);
}

#[test]
fn every_bar_of_every_path_is_coherent() {
    let model = model();
    for paths in forecast(&model, &[request(3, 45, 12), request(4, 2, 20)], &options(50)) {
        for [open, high, low, close, volume, amount] in paths.bars {
            assert!(low <= open.min(close) && open.max(close) <= high && volume >= 0.0 && amount >= 0.0);
        }
    }
}

#[test]
fn what_is_wrong_with_one_series_stays_with_it() {
    let model = model();
    let mut nan = request(1, 20, 5);
    nan.bars[7][2] = f64::NAN;
    let mut misfit = request(2, 20, 5);
    misfit.stamps.pop();
    let mut stamp = request(3, 20, 5);
    stamp.stamps[3].month = 13;
    let empty = BarRequest { bars: Vec::new(), ..request(4, 0, 5) };
    let requests = [request(0, 20, 5), nan, misfit, stamp, empty, request(6, 20, 65), request(7, 20, 5)];
    let results = model.forecast(&requests, &options(2), &NeverInterrupt).unwrap();
    assert!(matches!(results[1], Err(ModelError::MissingValue { index: 7, .. })));
    assert!(matches!(results[2], Err(ModelError::ShapeMismatch { got: 24, expected: 25, .. })));
    assert!(matches!(results[3], Err(ModelError::MissingValue { index: 3, .. })));
    assert!(matches!(results[4], Err(ModelError::ContextTooShort { .. })));
    assert!(matches!(results[5], Err(ModelError::HorizonTooLong { horizon: 65, max_context: MAX_CONTEXT })));
    for good in [0, 6] {
        let alone = forecast(&model, &requests[good..=good], &options(2));
        assert_eq!(results[good].as_ref().unwrap(), &alone[0]);
    }
}

/// Cancels at the n-th question.
struct After(AtomicUsize);

impl Interrupt for After {
    fn check(&self) -> kronos_models::Result<()> {
        let left = self.0.load(Ordering::Relaxed);
        self.0.store(left.saturating_sub(1), Ordering::Relaxed);
        if left == 0 { Err(ModelError::Cancelled) } else { Ok(()) }
    }
}

#[test]
fn a_cancel_is_heard_everywhere() {
    let model = model();
    let requests: Vec<BarRequest> = (0..2).map(|s| request(s, 30, 6)).collect();
    let mut asked = 0;
    loop {
        let result = model.forecast(&requests, &options(2), &After(AtomicUsize::new(asked)));
        if result.is_ok() {
            break;
        }
        assert!(matches!(result, Err(ModelError::Cancelled)));
        asked += 1;
    }
    // Both prefills, five cached steps of three blocks each, and both decodings ask at every block.
    assert!(asked > 25, "asked {asked} times only");
}
