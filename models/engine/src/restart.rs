//! When an engine is started again after others have died early.

use std::time::Duration;

/// Early deaths in a row that are answered by an engine at once.
const FREE_RESTARTS: u32 = 3;

/// Longest pause between early deaths: sessions wait for it rather than fail, and a fork a second harms nobody.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long the next start is put off after so many early deaths in a row.
pub fn pause_after(early_deaths: u32) -> Duration {
    match early_deaths.saturating_sub(FREE_RESTARTS) {
        0 => Duration::ZERO,
        n => Duration::from_millis(50).saturating_mul(1 << n.min(16)).min(LONGEST_PAUSE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_that_die_early_are_started_again_at_once_then_ever_later_but_within_a_second() {
        let pauses = (1..=9).map(|deaths| pause_after(deaths).as_millis());
        assert!(pauses.eq([0, 0, 0, 100, 200, 400, 800, 1000, 1000]));
        assert_eq!(pause_after(u32::MAX).as_millis(), 1000);
    }
}
