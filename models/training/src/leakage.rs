//! Proofs that no input of a window knows what comes after its cut.

use super::error::{Result, TrainError};
use super::panel::{Panel, PanelSeries};
use super::window::Window;

/// Windows that [`check_inputs`] tries.
const TRIED: usize = 16;

/// Fewest pairs a correlation is believed with.
const PAIRS: usize = 60;

/// From this correlation on a channel counts as the future itself; independent channels of 60 pairs stay below 0.45.
const SAME: f64 = 0.99;

/// Above this the target predicts itself so well that a channel may look like its future without knowing it.
const SELF_PREDICTING: f64 = 0.9;

/// Checks that the inputs of windows stay the same to the bit when everything after their cuts changes.
///
/// `inputs` makes the inputs of a window from a panel. Some windows, spread over the list, are made twice: from the panel
/// as it is, and from one whose rows from the cut on have other values in every column. Trainers call this before the
/// first step, so that a transformation which looks ahead never gets to train.
///
/// # Errors
/// [`TrainError::Leakage`] naming the window, and what `inputs` says.
pub fn check_inputs(
    panel: &Panel,
    windows: &[Window],
    mut inputs: impl FnMut(&Panel, Window) -> Result<Vec<f32>>,
) -> Result<()> {
    for window in windows.iter().step_by(windows.len().div_ceil(TRIED).max(1)) {
        let (number, cut) = (window.series as usize, window.cut as usize);
        // Only this series: the others would make the copies large and cannot be reached through a window.
        let alone = |change: bool| {
            let mut series = panel.series[number].clone();
            if change {
                for values in &mut series.values {
                    // Neither a shift nor a scale, so that no difference or ratio of future values survives.
                    for (row, value) in values.iter_mut().enumerate().skip(cut) {
                        *value = 3.0 + *value * 1.5 + (row % 7) as f64;
                    }
                }
            }
            Panel { columns: panel.columns.clone(), series: vec![series] }
        };
        let here = Window { series: 0, cut: window.cut };
        let (before, after) = (inputs(&alone(false), here)?, inputs(&alone(true), here)?);
        let same =
            before.len() == after.len() && before.iter().zip(&after).all(|(a, b)| a.to_bits() == b.to_bits());
        if !same {
            return Err(TrainError::Leakage {
                what: format!("the input of series \"{}\" cut at row {cut}", panel.series[number].name),
                detail: "it changes with values after the cut".into(),
            });
        }
    }
    Ok(())
}

/// Refuses channels whose value at a row is the target's movement after it.
///
/// Rows are checked, not code: a column that was computed with a look ahead is wrong in the data already, and no cut can
/// help. A channel, or its change, that correlates by more than 0.99 with the target's change one to `horizon` rows later
/// is refused, unless the target's own change does so too.
///
/// # Errors
/// [`TrainError::Leakage`] naming channel, lead and series.
pub fn refuse_future_channels(
    panel: &Panel,
    target: usize,
    channels: &[usize],
    horizon: usize,
) -> Result<()> {
    for series in &panel.series {
        let target_values = &series.values[target];
        for lead in 1..=horizon.min(series.rows().saturating_sub(PAIRS)) {
            let ahead: Vec<f64> =
                (0..series.rows()).map(|row| change(target_values, row + lead, lead)).collect();
            let own: Vec<f64> = (0..series.rows()).map(|row| change(target_values, row, lead)).collect();
            if correlation(&own, &ahead).is_some_and(|own| own.abs() > SELF_PREDICTING) {
                continue;
            }
            for &channel in channels.iter().filter(|channel| **channel != target) {
                refuse(series, &panel.columns[channel], &series.values[channel], &ahead, lead)?;
            }
        }
    }
    Ok(())
}

fn refuse(series: &PanelSeries, name: &str, channel: &[f64], ahead: &[f64], lead: usize) -> Result<()> {
    let changes: Vec<f64> = (0..channel.len()).map(|row| change(channel, row, lead)).collect();
    for values in [channel, &changes] {
        if let Some(found) = correlation(values, ahead).filter(|found| found.abs() > SAME) {
            return Err(TrainError::Leakage {
                what: format!("column \"{name}\""),
                detail: format!(
                    "in series \"{}\" it has a correlation of {found:.4} with the target {lead} rows later",
                    series.name
                ),
            });
        }
    }
    Ok(())
}

/// The change over `lead` rows up to `row`, relative where both values are positive; NaN where one is missing.
fn change(values: &[f64], row: usize, lead: usize) -> f64 {
    let (Some(&now), Some(&before)) =
        (values.get(row), row.checked_sub(lead).and_then(|row| values.get(row)))
    else {
        return f64::NAN;
    };
    if now > 0.0 && before > 0.0 { (now / before).ln() } else { now - before }
}

/// Pearson's correlation over the rows where both are numbers; none for too few rows or a constant.
fn correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    let pairs: Vec<(f64, f64)> =
        a.iter().copied().zip(b.iter().copied()).filter(|(a, b)| a.is_finite() && b.is_finite()).collect();
    if pairs.len() < PAIRS {
        return None;
    }
    let count = pairs.len() as f64;
    let (sum_a, sum_b) = pairs.iter().fold((0.0, 0.0), |(x, y), (a, b)| (x + a, y + b));
    let (mean_a, mean_b) = (sum_a / count, sum_b / count);
    let (mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0);
    for (a, b) in pairs {
        let (a, b) = (a - mean_a, b - mean_b);
        (aa, bb, ab) = (aa + a * a, bb + b * b, ab + a * b);
    }
    let root = (aa * bb).sqrt();
    (root > 0.0).then(|| ab / root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kronos_models::random::Stream;

    /// A random walk of log prices with an honest and a dishonest channel.
    fn panel() -> Panel {
        let stream = Stream::from_key(1);
        let mut price = 100.0;
        let close: Vec<f64> = (0..400)
            .map(|i| {
                price *= 1.0 + 0.02 * (stream.uniform(i, 0, 0) - 0.5);
                price
            })
            .collect();
        let volume = (0..400).map(|i| 1e6 * stream.uniform(i, 1, 0)).collect();
        let next = |lead: usize| {
            (0..400).map(|i| close.get(i + lead).map_or(f64::NAN, |n| n / close[i] - 1.0)).collect()
        };
        let moved = (0..400).map(|i| close.get(i + 2).copied().unwrap_or(f64::NAN)).collect();
        let values = vec![close.clone(), volume, next(1), next(3), moved];
        let columns = ["close", "volume", "next_return", "return_3", "close_in_2"].map(String::from).to_vec();
        let series = PanelSeries { name: "A".into(), times: (0..400).collect(), values };
        Panel { columns, series: vec![series] }
    }

    #[test]
    fn a_canary_channel_that_holds_the_future_is_refused() {
        let panel = panel();
        refuse_future_channels(&panel, 0, &[0, 1], 5).unwrap();
        for (channel, name) in [(2, "next_return"), (3, "return_3"), (4, "close_in_2")] {
            let error = refuse_future_channels(&panel, 0, &[0, 1, channel], 5).unwrap_err().to_string();
            assert!(error.starts_with(&format!("column \"{name}\" holds the future")), "{error}");
        }
        // The last lead of the horizon is looked at; one beyond it is another question.
        refuse_future_channels(&panel, 0, &[3], 3).unwrap_err();
        refuse_future_channels(&panel, 0, &[3], 2).unwrap();
    }

    #[test]
    fn a_channel_of_a_target_that_predicts_itself_is_not_blamed() {
        let wave: Vec<f64> = (0..400).map(|i| 100.0 + (f64::from(i) / 40.0).sin()).collect();
        let shifted = (0..400).map(|i| 100.0 + (f64::from(i + 1) / 40.0).sin()).collect();
        let series = PanelSeries { name: "w".into(), times: (0..400).collect(), values: vec![wave, shifted] };
        let panel = Panel { columns: vec!["close".into(), "x".into()], series: vec![series] };
        refuse_future_channels(&panel, 0, &[1], 1).unwrap();
    }

    #[test]
    fn inputs_that_look_ahead_are_found() {
        let panel = panel();
        let windows: Vec<Window> = (50..390).map(|cut| Window { series: 0, cut }).collect();
        let honest = |panel: &Panel, window: Window| {
            Ok(window.context(panel, 0, 30).iter().map(|&value| value as f32).collect())
        };
        check_inputs(&panel, &windows, honest).unwrap();
        // Normalised by the mean of the whole window, future included: the mistake of a published training script.
        let dishonest = |panel: &Panel, window: Window| {
            let whole = [window.context(panel, 0, 30), window.future(panel, 0, 5)].concat();
            let mean = whole.iter().sum::<f64>() / whole.len() as f64;
            Ok(window.context(panel, 0, 30).iter().map(|&value| (value / mean) as f32).collect())
        };
        let error = check_inputs(&panel, &windows, dishonest).unwrap_err().to_string();
        assert!(error.contains("changes with values after the cut"), "{error}");
    }

    /// The row at the cut is the first of the future: off by one row, an input holds the answer.
    #[test]
    fn an_input_that_reads_the_row_at_the_cut_is_found() {
        let panel = panel();
        let at = |offset: u32| {
            let windows: Vec<Window> = (50..390).map(|cut| Window { series: 0, cut }).collect();
            check_inputs(&panel, &windows, |panel, window| {
                Ok(vec![window.of(panel).values[0][(window.cut + offset - 1) as usize] as f32])
            })
        };
        at(0).unwrap();
        let error = at(1).unwrap_err().to_string();
        assert_eq!(
            error,
            "the input of series \"A\" cut at row 50 holds the future: it changes with values after the cut"
        );
    }

    /// Several windows are tried, not only the first: here the later ones look ahead.
    #[test]
    fn an_input_that_looks_ahead_now_and_then_is_found() {
        let panel = panel();
        let windows: Vec<Window> = (50..390).map(|cut| Window { series: 0, cut }).collect();
        let sometimes = |panel: &Panel, window: Window| {
            let row = if window.cut > 300 { window.cut } else { window.cut - 1 };
            Ok(vec![window.of(panel).values[0][row as usize] as f32])
        };
        check_inputs(&panel, &windows, sometimes).unwrap_err();
        check_inputs(&panel, &windows[..250], sometimes).unwrap();
    }
}
