//! Whatever arrives on the socket, decoding it ends in a message or a reason, within a small multiple of its size.
//!
//! 2,000 streams by default; `PROPTEST_CASES` sets another number.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use kronos_engine::frame::{FrameReader, MAX_BODY, write};
use kronos_engine::message::{Reply, Request};
use kronos_models::ask::{Ask, Covariate, KnownCovariate, Terms, Values, Wanted};
use peak_alloc::PeakAlloc;
use proptest::prelude::*;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// One test at a time: the allocator counts what all threads hold.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one decoded message may take: serde asks for at most 1 MiB ahead of the elements it has seen, once per level of
/// nesting, and an element in memory is at most so many times its shortest encoding.
fn bound(bytes: usize) -> usize {
    3 * (1 << 20) + 16 * bytes
}

fn valid() -> Vec<Vec<u8>> {
    let encoded = |message: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        message(&mut bytes);
        bytes
    };
    let request = support::bars("a", &[support::series(1, 6, 2), support::series(2, 4, 3)], 3);
    let requests = [
        request,
        with_categories(),
        Request::Load(support::model("b")),
        Request::Status,
        Request::Configure(support::settings()),
    ];
    let replies = [
        Reply::Paths {
            index: 0,
            channels: 6,
            horizon: 2,
            samples: 1,
            context_used: 9,
            values: vec![1.5; 12],
        },
        Reply::Refused(kronos_models::ModelError::NonFinite { step: 3 }.into()),
        Reply::Done,
    ];
    let requests = requests.iter().map(|message| encoded(&|out| write(message, out).unwrap()));
    requests.chain(replies.iter().map(|message| encoded(&|out| write(message, out).unwrap()))).collect()
}

/// A request with covariates of every kind.
fn with_categories() -> Request {
    let categories = || Values::Categories([Some("a"), None, Some("b")].into_iter().collect());
    let name = || "x".to_owned();
    let ask = Ask {
        past: vec![Covariate { name: name(), values: Values::Numbers(vec![1.0; 3]) }],
        known: vec![KnownCovariate { name: name(), past: categories(), future: categories() }],
        statics: vec![Covariate { name: name(), values: categories() }],
        ..support::columns(vec![vec![1.0; 3]; 2], 3)
    };
    let terms = Terms { context: 3, cross_learning: Some(9), wanted: Wanted::Quantiles(vec![0.5]) };
    Request::Forecast { model: support::model("a"), series: vec![ask; 3], terms }
}

#[derive(Debug, Clone)]
enum Damage {
    Flip(usize, u8),
    Set(usize, u8),
    Truncate(usize),
    Insert(usize, Vec<u8>),
    /// Corrects the length in the header, so that the body is what changed.
    Length,
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = 0..4096usize;
    prop_oneof![
        (at.clone(), 0..8u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        (at.clone(), prop_oneof![Just(0xff), Just(0x7f), Just(0x80), any::<u8>()])
            .prop_map(|(at, to)| Damage::Set(at, to)),
        at.clone().prop_map(Damage::Truncate),
        (at, prop_oneof![Just(vec![0xff; 9]), prop::collection::vec(any::<u8>(), 1..40)])
            .prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        Just(Damage::Length),
    ]
}

fn apply(bytes: &mut Vec<u8>, damage: Damage) {
    let length = bytes.len().max(1);
    match damage {
        Damage::Flip(at, bit) => {
            bytes.iter_mut().skip(at % length).take(1).for_each(|byte| *byte ^= 1 << bit)
        }
        Damage::Set(at, to) => bytes.iter_mut().skip(at % length).take(1).for_each(|byte| *byte = to),
        Damage::Truncate(at) => bytes.truncate(at % length),
        Damage::Insert(at, new) => {
            let at = at % length;
            let at = at.min(bytes.len());
            bytes.splice(at..at, new);
        }
        Damage::Length => {
            let body = (bytes.len().saturating_sub(8) as u32).to_le_bytes();
            if let Some(place) = bytes.get_mut(4..8) {
                place.copy_from_slice(&body);
            }
        }
    }
}

/// Decodes everything in a stream as requests or as replies; the peak of memory this took.
fn decode(bytes: &[u8], as_request: bool) -> usize {
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let mut reader = FrameReader::default();
    for piece in bytes.chunks(97) {
        reader.push(piece);
        loop {
            let more = match as_request {
                true => reader.next_message::<Request>().map(|message| message.is_some()),
                false => reader.next_message::<Reply>().map(|message| message.is_some()),
            };
            match more {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    return ALLOCATOR.peak_usage() - before;
                }
            }
        }
    }
    ALLOCATOR.peak_usage() - before
}

#[test]
fn damaged_streams_are_refused_within_bounded_memory() {
    let _turn = turn();
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2_000);
    let valid = valid();
    let mut runner =
        proptest::test_runner::TestRunner::new(ProptestConfig { cases, ..ProptestConfig::default() });
    let damaged = (0..valid.len(), prop::collection::vec(damage(), 1..6), any::<bool>(), any::<bool>());
    runner
        .run(&damaged, |(which, damages, correct, as_request)| {
            let mut bytes = valid[which].clone();
            damages.into_iter().for_each(|damage| apply(&mut bytes, damage));
            if correct {
                apply(&mut bytes, Damage::Length);
            }
            let took = decode(&bytes, as_request);
            prop_assert!(took <= bound(bytes.len()), "{took} bytes for a stream of {}", bytes.len());
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_length_beyond_the_limit_allocates_nothing() {
    let _turn = turn();
    let mut bytes = b"KRN\x02".to_vec();
    bytes.extend(u32::try_from(MAX_BODY + 1).unwrap().to_le_bytes());
    assert!(decode(&bytes, true) < 4096);
    // Within the limit, memory comes with the bytes and not with the promise of them.
    bytes[4..8].copy_from_slice(&u32::try_from(MAX_BODY).unwrap().to_le_bytes());
    assert!(decode(&bytes, true) < 4096);
}

#[test]
fn messages_survive_the_journey_in_pieces_of_any_size() {
    let _turn = turn();
    for size in [1, 7, 4096] {
        let messages = [
            support::bars("a", &[support::series(1, 6, 2)], 3),
            Request::Status,
            Request::Unload("x".into()),
        ];
        let mut bytes = Vec::new();
        messages.iter().for_each(|message| write(message, &mut bytes).unwrap());
        let mut reader = FrameReader::default();
        let mut got: Vec<Request> = Vec::new();
        for piece in bytes.chunks(size) {
            reader.push(piece);
            while let Some(message) = reader.next_message().unwrap() {
                got.push(message);
            }
        }
        assert_eq!(got, messages);
    }
}

#[test]
fn every_error_of_a_model_is_the_same_after_the_journey() {
    let _turn = turn();
    use kronos_models::ModelError as E;
    let errors = [
        E::InvalidParameter { name: "horizon", expected: "at least 1".into(), got: "0".into() },
        E::ShapeMismatch { what: "stamps", got: 1, expected: 2 },
        E::ContextTooShort { needed: 1, got: 0 },
        E::HorizonTooLong { horizon: 9, max_context: 8 },
        E::MissingValue { what: "a bar's value", index: 3 },
        E::ArtifactMissing { path: "/a".into() },
        E::ArtifactIo { path: "/a".into(), source: std::io::Error::from_raw_os_error(5) },
        E::ArtifactCorrupt { path: "/a".into(), reason: "x".into() },
        E::ChecksumMismatch { path: "/a".into(), expected: "1".into(), actual: "2".into() },
        E::UnknownFamily { family: "oracle".into(), known: vec!["kronos".into()] },
        E::Unsupported { family: "kronos", capability: "x".into() },
        E::MemoryLimit { what: "the model", needed: 2, limit: 1 },
        E::OutOfMemory { what: "the model", needed: 2 },
        E::NonFinite { step: 3 },
        E::Cancelled,
    ];
    for error in errors {
        let text = error.to_string();
        let mut bytes = Vec::new();
        write(&kronos_engine::fault::Fault::from(error), &mut bytes).unwrap();
        let mut reader = FrameReader::default();
        reader.push(&bytes);
        let fault: kronos_engine::fault::Fault = reader.next_message().unwrap().unwrap();
        assert_eq!(E::from(fault).to_string(), text);
    }
}
