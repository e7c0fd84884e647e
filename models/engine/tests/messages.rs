//! What travels arrives as it was sent: series, options, bounds.
#![allow(clippy::unwrap_used)]

use kronos_engine::message::{Bound, Drawing, Series};
use kronos_models::bars::{BarOptions, BarRequest, Sampling, Stamp, Window};
use kronos_models::random::Stream;

#[test]
fn a_series_is_the_same_after_the_journey() {
    let stamp = |minute| Stamp { minute, hour: 2, weekday: 3, day: 4, month: 5 };
    let request = BarRequest {
        bars: vec![[1.0, 2.0, 0.5, 1.5, 9.0, 13.5]],
        stamps: vec![stamp(1), stamp(59)],
        horizon: 1,
        stream: Stream::from_key(u64::MAX - 7),
    };
    let back = BarRequest::from(Series::from(request.clone()));
    assert_eq!((back.bars, back.stamps, back.horizon), (request.bars, request.stamps, 1));
    assert_eq!(back.stream, request.stream);
}

#[test]
fn paths_are_drawn_by_the_options_that_were_asked_for() {
    for window in [Window::Shorten, Window::Slide] {
        let sampling = Sampling::new(0.7, 5, 0.9).unwrap();
        let options = BarOptions { samples: 33, sampling, window, memory_limit: 1 };
        let back = Drawing::of(&options).options(77).unwrap();
        assert_eq!((back.samples, back.window, back.memory_limit), (33, window, 77));
        assert_eq!(back.sampling, sampling);
    }
    let cold = Drawing { samples: 1, temperature: 0.0, top_k: 0, top_p: 1.0, slide: false };
    assert!(cold.options(1).is_err());
}

#[test]
fn a_share_of_a_device_is_that_of_its_memory() {
    assert_eq!((Bound::Share(0.25).of(8000), Bound::Bytes(500).of(8000)), (2000, 500));
}
