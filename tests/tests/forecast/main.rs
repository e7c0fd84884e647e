//! Forecasts in SQL: what the functions say, which bars they see, which models there are, how an answer is drawn.

mod built_in_models;
mod calendars;
mod calendars_of_series;
mod catalog;
mod chart;
mod chronos;
mod chronos_frequency;
mod lookahead;
mod predict;
mod predict_errors;
mod simulate;
mod truncation;
mod units;
