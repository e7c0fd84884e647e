//! What travels arrives as it was sent: series, options, bounds.
#![allow(clippy::unwrap_used)]

use kronos_engine::message::Bound;
use kronos_models::ask::{Ask, Drawing};
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
    let mut ask = Ask::from(request.clone());
    let back = BarRequest::of(&ask, 9).unwrap();
    assert_eq!((&back.bars, &back.stamps, back.horizon), (&request.bars, &request.stamps, 1));
    assert_eq!(back.stream, request.stream);
    // By name, wherever they stand.
    ask.targets.reverse();
    assert_eq!(BarRequest::of(&ask, 9).unwrap().bars, request.bars);
    ask.targets[0].values.push(1.0);
    assert!(BarRequest::of(&ask, 9).unwrap_err().to_string().contains("has length 1, expected 2"));
    ask.targets[0].values.pop();
    let close = ask.targets.remove(2);
    assert!(BarRequest::of(&ask, 9).unwrap_err().to_string().contains("no close"));
    ask.targets.extend([close.clone(), close]);
    assert!(BarRequest::of(&ask, 9).unwrap_err().to_string().contains("got close"));
}

#[test]
fn of_a_long_series_the_newest_bars_are_used() {
    let stamp = |minute| Stamp { minute, hour: 2, weekday: 3, day: 4, month: 5 };
    let bars: Vec<_> = (0..5).map(|i| [f64::from(i); 6]).collect();
    let stamps: Vec<_> = (0..7).map(stamp).collect();
    let ask = Ask::from(BarRequest { bars, stamps, horizon: 2, stream: Stream::from_key(1) });
    let newest = BarRequest::of(&ask, 2).unwrap();
    assert_eq!(newest.bars, [[3.0; 6], [4.0; 6]]);
    assert_eq!(newest.stamps, [3, 4, 5, 6].map(stamp));
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
