//! Showing how far a run is, on a terminal or line by line.

use indicatif::{ProgressBar, ProgressStyle};
use kronos_training::tasks::Watcher;
use kronos_training::{Event, Progress};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Where a run's events go.
pub trait Audience {
    /// Hears that a part of the model is trained from now on, in at most so many steps.
    fn part(&mut self, name: &str, steps: u64);

    /// Takes an event, with the time that is left where it can be told.
    fn event(&mut self, event: &Event, left: Option<Duration>);

    /// Takes a line for people.
    fn say(&mut self, line: &str);
}

/// Gives events the time, which training does not know.
pub struct Timed<'w> {
    audience: &'w mut dyn Audience,
    progress: Progress,
    started: Instant,
}

impl<'w> Timed<'w> {
    /// Tells `audience`.
    pub fn new(audience: &'w mut dyn Audience) -> Self {
        Self { audience, progress: Progress::new(0), started: Instant::now() }
    }
}

impl Watcher for Timed<'_> {
    fn part(&mut self, name: &str, steps: u64) {
        (self.progress, self.started) = (Progress::new(steps), Instant::now());
        self.audience.part(name, steps);
    }

    fn event(&mut self, event: &Event) {
        if let Event::Step { step, .. } | Event::Resumed { step } = event {
            self.progress.note(*step, self.started.elapsed());
        }
        self.audience.event(event, self.progress.left());
    }

    fn say(&mut self, line: &str) {
        self.audience.say(line);
    }
}

/// A bar on a terminal, and a line per evaluation.
pub struct Terminal {
    bar: ProgressBar,
}

impl Terminal {
    /// A bar; none where standard error is no terminal.
    pub fn new() -> Self {
        let bar = if std::io::stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg}") {
            bar.set_style(style);
        }
        Self { bar }
    }
}

impl Default for Terminal {
    fn default() -> Self {
        Self::new()
    }
}

impl Audience for Terminal {
    fn part(&mut self, name: &str, steps: u64) {
        self.bar.set_length(steps);
        self.say(&format!("{name}: at most {steps} steps"));
    }

    fn event(&mut self, event: &Event, left: Option<Duration>) {
        match event {
            Event::Step { step, loss, .. } => {
                self.bar.set_position(*step);
                let left = left.map_or_else(String::new, |left| format!(", {} left", short(left)));
                self.bar.set_message(format!("loss {loss:.5}{left}"));
            }
            other => {
                if let Some(line) = line(other, left) {
                    self.say(&line);
                }
            }
        }
    }

    fn say(&mut self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }
}

/// What is said of an event; nothing of single steps and checkpoints.
pub fn line(event: &Event, left: Option<Duration>) -> Option<String> {
    match event {
        Event::Resumed { step } => Some(format!("resumed after step {step}")),
        Event::Evaluated(evaluation) => {
            let scores = evaluation.validation.scores.iter();
            let scores: String = scores.map(|(name, value)| format!(" {name} {value:.5}")).collect();
            let left = left.map_or_else(String::new, |left| format!(", {} left", short(left)));
            Some(format!(
                "step {}: training loss {:.5}, validation loss {:.5}{scores}{}{left}",
                evaluation.step,
                evaluation.train_loss,
                evaluation.validation.loss,
                if evaluation.best { ", best" } else { "" },
            ))
        }
        Event::Step { .. } | Event::Checkpointed { .. } => None,
    }
}

/// A duration in its two largest units.
fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kronos_training::{Evaluation, Validation};

    #[test]
    fn an_evaluation_is_one_line_with_its_scores_and_the_time_left() {
        let validation = Validation { loss: 0.25, scores: vec![("mae".into(), 0.5)] };
        let evaluated = |best| {
            Event::Evaluated(Evaluation { step: 7, train_loss: 1.0, validation: validation.clone(), best })
        };
        let line = |best, left: Option<u64>| line(&evaluated(best), left.map(Duration::from_secs)).unwrap();
        let scores = "step 7: training loss 1.00000, validation loss 0.25000 mae 0.50000";
        assert_eq!(line(false, None), scores);
        for (seconds, left) in [(59, "59 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"), (7325, "2 h 2 min")] {
            assert_eq!(line(true, Some(seconds)), format!("{scores}, best, {left} left"));
        }
    }
}
