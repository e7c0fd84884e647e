//! The caller's side: replies put together into an answer, and checked to be one.

use crate::message::{LoadedModel, Progress, Refusal, Reply, Status};
use kronos_models::answer::{Forecast, Paths};
use kronos_models::error::ModelError;

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

/// Puts the replies to one request together.
#[derive(Debug)]
pub struct Assembly {
    series: Vec<Option<Result<Forecast, ModelError>>>,
    /// Values of paths that have been promised and are still to come.
    awaited: u64,
    progress: Progress,
}

impl Assembly {
    /// Awaits the answer to a request for `series` series.
    pub fn new(series: usize) -> Self {
        Self { series: (0..series).map(|_| None).collect(), awaited: 0, progress: Progress::default() }
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
            Reply::Paths { index, channels, horizon, samples, context_used, values } => {
                let steps = u64::from(horizon) * u64::from(samples);
                let expected = steps.saturating_mul(u64::from(channels));
                let mut promised = 0;
                let place = self.place(index)?;
                let paths = place.get_or_insert_with(|| {
                    promised = expected;
                    Ok(Forecast::Paths(Paths {
                        channels: channels as usize,
                        horizon: horizon as usize,
                        values: Vec::new(),
                        context_used: context_used as usize,
                    }))
                });
                let come = values.len() as u64;
                match paths {
                    Ok(Forecast::Paths(paths)) if paths.values.len() as u64 + come <= expected => {
                        if paths.values.is_empty() && come == expected {
                            paths.values = values;
                        } else {
                            paths.values.extend(values);
                        }
                    }
                    _ => return Err(broken("more values than were asked for")),
                }
                self.awaited = (self.awaited + promised).saturating_sub(come);
            }
            Reply::Quantiles { index, forecast } => self.put(index, Ok(Forecast::Quantiles(forecast)))?,
            Reply::Fault { index, fault } => self.put(index, Err(fault.into()))?,
            Reply::Done if self.awaited > 0 => return Err(broken("too few values")),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;

    fn piece(index: u32, bars: usize) -> Reply {
        let values = vec![index.into(); 6 * bars];
        Reply::Paths { index, channels: 6, horizon: 3, samples: 2, context_used: 9, values }
    }

    fn refused(replies: Vec<Reply>) -> String {
        let mut assembly = Assembly::new(2);
        let refusal = replies.into_iter().find_map(|reply| assembly.take(reply).err());
        match refusal {
            Some(Refusal::Protocol { reason }) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn pieces_of_several_series_become_their_paths() {
        let mut assembly = Assembly::new(3);
        let fault = Fault::NonFinite { step: 3 };
        let replies = [
            piece(2, 4),
            piece(0, 6),
            Reply::Progress(Progress::default()),
            piece(2, 2),
            Reply::Fault { index: 1, fault },
        ];
        for reply in replies {
            assert!(assembly.take(reply).unwrap().is_none());
        }
        let Some(Answer::Series(series)) = assembly.take(Reply::Done).unwrap() else { panic!("no series") };
        let paths = |value: f64| Paths { channels: 6, horizon: 3, values: vec![value; 36], context_used: 9 };
        let got: Vec<_> = series
            .into_iter()
            .map(|series| match series {
                Ok(Forecast::Paths(paths)) => Ok(paths),
                Ok(other) => panic!("{other:?}"),
                Err(error) => Err(error.to_string()),
            })
            .collect();
        let error = ModelError::NonFinite { step: 3 }.to_string();
        assert_eq!(got, [Ok(paths(0.0)), Err(error), Ok(paths(2.0))]);
    }

    #[test]
    fn replies_that_make_no_answer_are_not_taken_for_one() {
        let fault = || Reply::Fault { index: 0, fault: Fault::Cancelled };
        for (replies, reason) in [
            (vec![piece(0, 4), piece(0, 3)], "the engine sent more values than were asked for"),
            (vec![fault(), piece(0, 1)], "the engine sent more values than were asked for"),
            (vec![fault(), fault()], "the engine sent a series twice"),
            (vec![piece(2, 1)], "the engine sent a series nobody asked for"),
            (vec![piece(0, 6), Reply::Done], "the engine sent too few series"),
            (vec![piece(0, 6), piece(1, 5), Reply::Done], "the engine sent too few values"),
        ] {
            assert_eq!(refused(replies), reason);
        }
    }
}
