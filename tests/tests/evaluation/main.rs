//! What forecasts were worth: scores, backtests, and the calibration that learns from both.

mod anomalies;
mod backtest;
mod backtest_calibrated;
mod calibration;
mod evaluate;
