//! Whether a forecast has the sign right.

use super::Test;
use statrs::distribution::{ContinuousCDF, Normal};

/// Wilson's interval of a share at confidence 95 %: `hits` out of `count`.
///
/// It stays within [0, 1] and holds its level for few observations and shares near the ends, unlike the normal one. `None`
/// without observations.
///
/// # Source
/// Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
pub fn wilson(hits: u64, count: u64) -> Option<(f64, f64)> {
    let n = count as f64;
    let share = hits as f64 / n;
    let z = Normal::standard().inverse_cdf(0.975);
    let middle = share + z * z / (2.0 * n);
    let spread = z * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    let total = 1.0 + z * z / n;
    (count > 0).then(|| (((middle - spread) / total).max(0.0), ((middle + spread) / total).min(1.0)))
}

/// The test of Pesaran and Timmermann: is the sign foretold better than by an independent guess with the same shares?
///
/// `moves` are pairs (forecast is up, outcome is up). The p-value is one-sided: small for skill. `None` where forecasts or
/// outcomes are all of one sign, for then any guess hits as often.
///
/// # Source
/// Pesaran and Timmermann, "A simple nonparametric test of predictive performance", Journal of Business and Economic
/// Statistics 10 (1992).
pub fn pesaran_timmermann(moves: impl IntoIterator<Item = (bool, bool)>) -> Option<Test> {
    let (mut n, mut hits, mut forecast_up, mut actual_up) = (0.0, 0.0, 0.0, 0.0);
    for (forecast, actual) in moves {
        let one = |condition: bool| f64::from(u8::from(condition));
        n += 1.0;
        hits += one(forecast == actual);
        forecast_up += one(forecast);
        actual_up += one(actual);
    }
    let (share, x, y) = (hits / n, forecast_up / n, actual_up / n);
    let expected = x * y + (1.0 - x) * (1.0 - y);
    let of_share = expected * (1.0 - expected) / n;
    let of_expected = ((2.0 * y - 1.0).powi(2) * x * (1.0 - x) + (2.0 * x - 1.0).powi(2) * y * (1.0 - y)) / n
        + 4.0 * x * y * (1.0 - x) * (1.0 - y) / (n * n);
    let variance = of_share - of_expected;
    (variance > 0.0).then(|| {
        let statistic = (share - expected) / variance.sqrt();
        Test { statistic, p_value: 1.0 - Normal::standard().cdf(statistic) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten moves, six up in the forecast and five in the outcome, seven hits: P = 0.7, P* = 0.5, and by hand
    /// V(P) = 0.025, V(P*) = (0 + 0.04·0.25)/10 + 4·0.06/100 = 0.0034, S = 0.2/√0.0216.
    #[test]
    fn ten_moves_by_hand() {
        let forecast = [true, true, true, true, true, true, false, false, false, false];
        let actual = [true, true, true, true, false, false, true, false, false, false];
        let test = pesaran_timmermann(forecast.into_iter().zip(actual)).unwrap();
        assert!((test.statistic - 0.2 / 0.0216f64.sqrt()).abs() < 1e-12, "{test:?}");
        assert!(test.p_value > 0.08 && test.p_value < 0.09, "{test:?}");
    }

    #[test]
    fn one_sign_alone_tells_nothing() {
        assert_eq!(pesaran_timmermann([(true, true), (true, false)]), None);
        assert_eq!(pesaran_timmermann([]), None);
        assert_eq!(wilson(0, 0), None);
        let (low, high) = wilson(10, 10).unwrap();
        assert!(low > 0.7 && high == 1.0);
    }
}
