use super::*;
use crate::message::{Bound, Devices};
use crate::runner::{End, Runner};
use kronos_models::device::Precision;
use kronos_models::error::ModelError;
use std::path::PathBuf;
use std::time::Duration;

struct Nowhere;

impl Sink for Nowhere {
    fn deliver(&self, _: CallerId, _: RequestId, _: Delivery) {}
}

fn settings() -> Settings {
    Settings {
        threads: 1,
        memory: 1 << 30,
        batch_window: Duration::ZERO,
        max_queue: 10,
        track: true,
        model_dir: PathBuf::new(),
        built_in_dir: PathBuf::new(),
        devices: Devices::Cpu,
        gpu_memory: Bound::Share(0.5),
        gpu_precision: Precision::F32,
    }
}

/// Between a runner's look for somebody who waits and the end of its model.
#[test]
fn whoever_comes_while_a_load_is_given_up_is_not_told_that_it_was_cancelled() {
    let origin = Origin { families: &[], restarts: 0, trim: || {}, gpus: None };
    let core = Core::new(settings(), origin, Nowhere);
    let shared = &core.0;
    let source = ModelSource {
        version: "a".into(),
        family: "none".into(),
        directories: Vec::new(),
        settings: "{}".into(),
        checksums: Vec::new(),
    };
    let ticket = Arc::new(Ticket::new(7, (1, 1), source.version.clone(), &[]));
    let mut state = shared.state();
    state.slots.insert(source.version.clone(), Slot::new());
    core.put(&mut state, ticket, Work::Load);
    drop(state);
    let ended = Runner { shared, source: &source }.refuse(ModelError::Cancelled);
    assert!(matches!(ended, End::Evicted), "the runner looks at its inbox once more");
    assert_eq!(shared.state().slots["a"].inbox.len(), 1, "where the newcomer still waits");
}
