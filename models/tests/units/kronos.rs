//! Kronos, whose reference adds an absolute number to each standard deviation.

use crate::{BINARY, UNITS, built_in, furthest, walk};
use candle_core::Device;
use kronos_models::bars::{Bar, BarOptions, BarPaths, BarRequest, Sampling, Stamp, Window, complete};
use kronos_models::forecast::summarise;
use kronos_models::interrupt::NeverInterrupt;
use kronos_models::kronos::{Kronos, KronosFiles};
use kronos_models::quantile::QuantileLevels;
use kronos_models::random::Stream;

const CONTEXT: usize = 120;
const HORIZON: usize = 6;

fn model() -> Kronos {
    let folder = built_in("kronos-nano");
    let files = KronosFiles {
        predictor: folder.join("predictor"),
        tokenizer: folder.join("tokenizer"),
        max_context: 144,
    };
    Kronos::load(&files, &Device::Cpu).unwrap()
}

/// The same market in another unit of prices and another of volumes.
fn market(prices: f64, volumes: f64) -> BarRequest {
    let stream = Stream::from_key(5);
    let closes = walk(3, CONTEXT + 1);
    let bar = |i: usize| -> Bar {
        let (open, close) = (closes[i], closes[i + 1]);
        let spread = 1.0 + 0.004 * stream.uniform(i as u32, 1, 0);
        let bar = [open, open.max(close) * spread, open.min(close) / spread, close];
        let volume = 1000.0 * (0.5 + stream.uniform(i as u32, 2, 0));
        complete(bar.map(|price| price * prices), Some(volume * volumes), None)
    };
    let stamp = |i: usize| Stamp {
        minute: 0,
        hour: (i % 24) as u8,
        weekday: (i / 24 % 7) as u8,
        day: (1 + i / 24 % 28) as u8,
        month: 7,
    };
    BarRequest {
        bars: (0..CONTEXT).map(bar).collect(),
        stamps: (0..CONTEXT + HORIZON).map(stamp).collect(),
        horizon: HORIZON,
        stream: Stream::from_key(9),
    }
}

fn forecast(model: &Kronos, markets: &[BarRequest]) -> Vec<BarPaths> {
    let options = BarOptions {
        samples: 64,
        sampling: Sampling::new(1.0, 0, 0.9).unwrap(),
        window: Window::Shorten,
        memory_limit: u64::MAX,
    };
    model.forecast(markets, &options, &NeverInterrupt).unwrap().into_iter().map(Result::unwrap).collect()
}

/// Mean, ends of the interval and median of the close at each step, then the mean volume.
fn told(paths: &BarPaths) -> (Vec<f64>, Vec<f64>) {
    let levels = QuantileLevels::new(vec![0.5]).unwrap();
    let steps = summarise(paths, 0.0, 0.9, &levels);
    let close = |step: &kronos_models::forecast::BarStep| {
        let spread = step.spread.as_ref().unwrap();
        [step.mean[3], spread.lower, spread.upper, spread.quantiles[0]]
    };
    (steps.iter().flat_map(close).collect(), steps.iter().map(|step| step.mean[4]).collect())
}

/// Powers of two in every unit outside of the ordinary: prices, volumes, and amounts, whose unit is that of both.
#[test]
fn powers_of_two_change_no_bit_of_a_context_that_is_rescaled() {
    let model = model();
    let unit = |prices: i32, volumes: i32| market(2f64.powi(prices), 2f64.powi(volumes));
    let cases = [(-20, -30), (-21, -31), (-40, -40), (-400, 60), (60, 70), (150, -300)];
    let paths = forecast(&model, &cases.map(|(prices, volumes)| unit(prices, volumes)));
    let in_unit = |paths: &BarPaths, (prices, volumes): (i32, i32)| -> Vec<Bar> {
        let factors =
            [prices, prices, prices, prices, volumes, prices + volumes].map(|power| 2f64.powi(-power));
        paths.bars.iter().map(|bar| std::array::from_fn(|c| bar[c] * factors[c])).collect()
    };
    let expected = in_unit(&paths[0], cases[0]);
    for (paths, case) in paths.iter().zip(cases).skip(1) {
        assert!(in_unit(paths, case) == expected, "{case:?}");
    }
}

/// Most units draw the very same paths. Where a rounding of an input, or the absolute 1e-5 that an ordinary context of small spread
/// loses a few percent of its deviation to, turns the sign of a number that decides a token, other paths are drawn: a sample of 64 of
/// the same distribution, whose ends and mean may lie a fifth of the interval's width away.
#[test]
fn prices_and_volumes_in_any_unit_are_forecast_alike() {
    let model = model();
    let (expected, volumes) = told(&forecast(&model, &[market(1.0, 1.0)])[0]);
    let size = expected[expected.len() - 2] - expected[expected.len() - 3];
    let units: Vec<(i32, i32)> = UNITS
        .map(|power| (power, 0))
        .chain(UNITS.map(|power| (0, power)))
        .chain([(-12, 12), (12, 20)])
        .collect();
    let markets: Vec<BarRequest> =
        units.iter().map(|&(prices, volumes)| market(10f64.powi(prices), 10f64.powi(volumes))).collect();
    let mut same = 0;
    for (&(price, volume), paths) in units.iter().zip(forecast(&model, &markets)) {
        let (got, got_volumes) = told(&paths);
        let moved = furthest(&got, &expected, 10f64.powi(price), size).max(furthest(
            &got_volumes,
            &volumes,
            10f64.powi(volume),
            volumes[0],
        ));
        assert!(moved < 0.2, "prices e{price}, volumes e{volume}: {moved}");
        assert!(paths.bars.iter().all(|bar| bar[2] > 0.0), "a price is not positive: e{price}, e{volume}");
        same += usize::from(moved < 1e-3);
    }
    assert!(same * 10 > units.len() * 8, "{same} of {} units", units.len());
}

/// Binary factors within the ordinary leave only the absolute number.
#[test]
fn a_published_model_reads_ordinary_prices_as_they_are() {
    use kronos_models::kronos::normalise::Stats;
    for power in BINARY.into_iter().filter(|power| (-1..=29).contains(power)) {
        assert_eq!(Stats::of(&market(2f64.powi(power), 1.0).bars).factor, [1.0; 6], "{power}");
    }
}
