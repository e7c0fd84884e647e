//! What can happen to the worker of one feed, and proptest's choices of it.

use std::time::Duration;

use kronos_venue::Protocol;
use proptest::prelude::*;

use crate::world::{Fault, Refusal};

/// A worker is killed.
#[derive(Clone, Copy, Debug)]
pub struct Kill {
    /// Since it started.
    pub after: Duration,
    /// Batches that were on their way into the database.
    pub unsaved: usize,
}

/// What happens to the worker of one feed.
#[derive(Clone, Debug)]
pub struct Case {
    pub protocol: Protocol,
    pub faults: Vec<Fault>,
    pub handshakes: Vec<Refusal>,
    pub requests: Vec<Refusal>,
    /// How far REST is behind the stream.
    pub lag: Duration,
    pub kills: Vec<Kill>,
    /// Batches of one transaction.
    pub at_once: usize,
    /// Transactions that are repeated at the end: a worker that was killed while it emptied its spill file reads the
    /// file again from the start.
    pub again: usize,
}

impl Case {
    /// Nothing happens.
    pub fn clean(protocol: Protocol) -> Self {
        Case {
            protocol,
            faults: Vec::new(),
            handshakes: Vec::new(),
            requests: Vec::new(),
            lag: Duration::ZERO,
            kills: Vec::new(),
            at_once: 100,
            again: 0,
        }
    }
}

fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let fault = prop_oneof![
        6 => Just(Fault::None),
        2 => Just(Fault::Drop),
        1 => Just(Fault::Duplicate),
        2 => Just(Fault::Late),
        1 => Just(Fault::Garbage),
        1 => Just(Fault::Truncate),
        1 => Just(Fault::Close),
        1 => Just(Fault::Silence),
    ];
    proptest::collection::vec(fault, 0..60)
}

fn refusals() -> impl Strategy<Value = Vec<Refusal>> {
    let refusal = prop_oneof![
        2 => Just(Refusal::None),
        1 => Just(Refusal::Error),
        1 => Just(Refusal::RateLimit),
        1 => Just(Refusal::Lost),
    ];
    proptest::collection::vec(refusal, 0..8)
}

fn kills() -> impl Strategy<Value = Vec<Kill>> {
    // The trades are out after 24 s, and repaired some time later.
    let kill = (0u64..60_000, 0usize..6);
    let kill = kill.prop_map(|(after, unsaved)| Kill { after: Duration::from_millis(after), unsaved });
    proptest::collection::vec(kill, 0..3)
}

/// Any of all that, to feeds of `protocols`.
pub fn cases(protocols: &'static [Protocol]) -> impl Strategy<Value = Case> {
    let protocol = proptest::sample::select(protocols);
    let storing = (40usize..200, 0usize..10);
    // A gap is given up some 25 s after it was seen.
    (protocol, faults(), handshakes_and_requests(), 0u64..20_000, kills(), storing).prop_map(
        |(protocol, faults, (handshakes, requests), lag, kills, (at_once, again))| Case {
            protocol,
            faults,
            handshakes,
            requests,
            lag: Duration::from_millis(lag),
            kills,
            at_once,
            again,
        },
    )
}

fn handshakes_and_requests() -> impl Strategy<Value = (Vec<Refusal>, Vec<Refusal>)> {
    (refusals(), refusals())
}
