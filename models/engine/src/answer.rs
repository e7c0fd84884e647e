//! The caller's side: replies put together into an answer, and checked to be one.

use crate::message::{LoadedModel, Progress, Refusal, Reply, Status};
use kronos_models::bars::BarPaths;
use kronos_models::error::ModelError;
use kronos_models::series::QuantileForecast;

/// A whole answer.
#[derive(Debug)]
pub enum Answer {
    /// A forecast, or the reason there is none, in the order of the request's series.
    Series(Vec<Result<Forecast, ModelError>>),
    /// The model is loaded.
    Loaded(LoadedModel),
    /// Whether the version had been loaded.
    Unloaded(bool),
    /// What the engine holds and does.
    Status(Box<Status>),
    /// Done as told.
    Acknowledged,
}

/// What a model forecasts of one series.
#[derive(Debug)]
pub enum Forecast {
    /// Sample paths.
    Paths(BarPaths),
    /// Quantiles at the levels asked for.
    Quantiles(QuantileForecast),
}

/// Puts the replies to one request together.
#[derive(Debug)]
pub struct Assembly {
    series: Vec<Option<Result<Forecast, ModelError>>>,
    progress: Progress,
}

impl Assembly {
    /// Awaits the answer to a request for `series` series.
    pub fn new(series: usize) -> Self {
        Self { series: (0..series).map(|_| None).collect(), progress: Progress::default() }
    }

    /// The newest sign of progress.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Takes a reply; gives the answer when it was the last.
    ///
    /// # Errors
    /// What the engine refused with; [`Refusal::Protocol`] when the replies do not make an answer.
    pub fn take(&mut self, reply: Reply) -> Result<Option<Answer>, Refusal> {
        match reply {
            Reply::Progress(progress) => self.progress = progress,
            Reply::Paths { index, horizon, samples, context_used, bars } => {
                let place = self.place(index)?;
                let paths = place.get_or_insert_with(|| {
                    Ok(Forecast::Paths(BarPaths {
                        horizon: horizon as usize,
                        bars: Vec::new(),
                        context_used: context_used as usize,
                    }))
                });
                let expected = u64::from(horizon) * u64::from(samples);
                match paths {
                    Ok(Forecast::Paths(paths)) if (paths.bars.len() + bars.len()) as u64 <= expected => {
                        if paths.bars.is_empty() && bars.len() as u64 == expected {
                            paths.bars = bars;
                        } else {
                            paths.bars.extend(bars);
                        }
                    }
                    _ => return Err(broken("more bars than were asked for")),
                }
            }
            Reply::Quantiles { index, forecast } => self.put(index, Ok(Forecast::Quantiles(forecast)))?,
            Reply::Fault { index, fault } => self.put(index, Err(fault.into()))?,
            Reply::Done => {
                let series = std::mem::take(&mut self.series);
                let whole: Option<Vec<_>> = series.into_iter().collect();
                return whole
                    .map(|series| Some(Answer::Series(series)))
                    .ok_or_else(|| broken("too few series"));
            }
            Reply::Loaded(model) => return Ok(Some(Answer::Loaded(model))),
            Reply::Unloaded(was_loaded) => return Ok(Some(Answer::Unloaded(was_loaded))),
            Reply::Status(status) => return Ok(Some(Answer::Status(status))),
            Reply::Acknowledged => return Ok(Some(Answer::Acknowledged)),
            Reply::Refused(refusal) => return Err(refusal),
        }
        Ok(None)
    }

    fn put(&mut self, index: u32, forecast: Result<Forecast, ModelError>) -> Result<(), Refusal> {
        match self.place(index)? {
            place @ None => *place = Some(forecast),
            Some(_) => return Err(broken("a series twice")),
        }
        Ok(())
    }

    fn place(&mut self, index: u32) -> Result<&mut Option<Result<Forecast, ModelError>>, Refusal> {
        self.series.get_mut(index as usize).ok_or_else(|| broken("a series nobody asked for"))
    }
}

fn broken(what: &str) -> Refusal {
    Refusal::Protocol { reason: format!("the engine sent {what}") }
}
