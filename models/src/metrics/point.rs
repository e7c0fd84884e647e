//! Errors of point forecasts.

/// Sums from which the errors of point forecasts are told; grows by one observation at a time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Errors {
    count: u64,
    absolute: f64,
    squared: f64,
    scaled: f64,
    scaled_count: u64,
}

impl Errors {
    /// Adds a forecast and its outcome; `scale` is the [`seasonal_scale`] of its context.
    pub fn add(&mut self, actual: f64, forecast: f64, scale: Option<f64>) {
        let error = actual - forecast;
        self.count += 1;
        self.absolute += error.abs();
        self.squared += error * error;
        if let Some(scale) = scale.filter(|&scale| scale > 0.0) {
            self.scaled += error.abs() / scale;
            self.scaled_count += 1;
        }
    }

    /// Observations so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Mean absolute error.
    pub fn mae(&self) -> Option<f64> {
        (self.count > 0).then(|| self.absolute / self.count as f64)
    }

    /// Root mean squared error.
    pub fn rmse(&self) -> Option<f64> {
        (self.count > 0).then(|| (self.squared / self.count as f64).sqrt())
    }

    /// Mean absolute scaled error: below 1 is better than the seasonal-naive forecast was within the contexts.
    ///
    /// # Source
    /// Hyndman and Koehler, "Another look at measures of forecast accuracy", International Journal of Forecasting 22
    /// (2006).
    pub fn mase(&self) -> Option<f64> {
        (self.scaled_count > 0).then(|| self.scaled / self.scaled_count as f64)
    }
}

/// Mean absolute difference of values one season apart: the in-sample error of the seasonal-naive forecast.
///
/// NaN is a missing value. `None` where no two values are a season apart, and where all of them are equal: nothing can
/// be measured in units of zero.
pub fn seasonal_scale(context: &[f64], season: usize) -> Option<f64> {
    if season == 0 {
        return None;
    }
    let (sum, count) = context
        .iter()
        .skip(season)
        .zip(context)
        .map(|(now, before)| (now - before).abs())
        .filter(|difference| difference.is_finite())
        .fold((0.0, 0u64), |(sum, count), difference| (sum + difference, count + 1));
    (count > 0 && sum > 0.0).then(|| sum / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_errors_by_hand() {
        let mut errors = Errors::default();
        assert_eq!((errors.mae(), errors.rmse(), errors.mase()), (None, None, None));
        for (actual, forecast, scale) in
            [(3.0, 1.0, Some(2.0)), (1.0, 2.0, None), (5.0, 5.0, Some(1.0)), (0.0, 1.0, Some(0.0))]
        {
            errors.add(actual, forecast, scale);
        }
        assert_eq!((errors.count(), errors.mae(), errors.rmse()), (4, Some(1.0), Some(1.5f64.sqrt())));
        // 2/2 and 0/1; what has no scale is left out.
        assert_eq!(errors.mase(), Some(0.5));
    }

    #[test]
    fn the_scale_is_the_error_of_the_seasonal_naive_forecast() {
        // Differences of two places: 4, missing, 2.
        assert_eq!(seasonal_scale(&[1.0, 2.0, 5.0, f64::NAN, 7.0], 2), Some(3.0));
        assert_eq!(seasonal_scale(&[1.0, 2.0], 2), None);
        assert_eq!(seasonal_scale(&[2.0, 2.0, 2.0], 1), None);
        assert_eq!(seasonal_scale(&[1.0, 2.0], 0), None);
    }
}
