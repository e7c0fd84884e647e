//! The whole state of one series, sector or of all series, and its bytes.

use super::{Merit, Method, Online, Past, RECENT, Settings, Tail};
use serde::{Deserialize, Serialize};

/// Says how the bytes after it are laid out.
const FORMAT: u8 = 2;

/// The layout before: without the last two fields of [`Group`].
const FORMAT_1: u8 = 1;

/// What a calibration knows of one series, of one sector, or of all series, at one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Outcomes learnt.
    pub seen: u64,
    /// Series followed together; 1 for a series itself.
    pub members: u64,
    /// The first layer.
    pub online: Online,
    /// The second layer's variance of errors about the corrected point.
    pub spread: f64,
    /// The second layer: lower and upper tail, or one for both, or none.
    pub tails: Vec<Tail>,
    /// How the intervals have fared.
    pub record: Record,
    /// What it said before, and how far back it remembers.
    pub past: Past,
    /// Whether the layers earn their width.
    pub merit: Merit,
}

impl Group {
    pub(super) fn new(settings: &Settings) -> Self {
        let tails = if settings.method == Method::Online { 0 } else { 1 + usize::from(settings.asymmetric) };
        Self {
            seen: 0,
            members: 0,
            online: Online::new(settings),
            spread: 0.0,
            tails: (0..tails).filter_map(|_| Tail::new(settings)).collect(),
            record: Record::default(),
            past: Past::default(),
            merit: Merit::default(),
        }
    }

    /// Whether an outcome that became known then comes too late to be learnt.
    pub fn is_late(&self, known: i64) -> bool {
        self.past.is_late(known)
    }

    /// The state as bytes that [`Self::from_bytes`] reads back bit for bit.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        // Writing into memory cannot fail: every field has a fixed form.
        bytes.extend(postcard::to_allocvec(self).unwrap_or_default());
        bytes
    }

    /// The state that was written; `None` for bytes of another format, or damaged ones.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&format, body) = bytes.split_first()?;
        match format {
            FORMAT => postcard::from_bytes(body).ok(),
            FORMAT_1 => {
                let (seen, members, online, spread, tails, record) = postcard::from_bytes(body).ok()?;
                let (past, merit) = Default::default();
                Some(Self { seen, members, online, spread, tails, record, past, merit })
            }
            _ => None,
        }
    }
}

/// How intervals have fared, those of the model itself and those served.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Record {
    /// Calibrated intervals judged.
    pub judged: u64,
    /// Those that missed.
    pub missed: u64,
    /// The last 60 of them, one bit each, the newest lowest; 1 is a miss.
    recent: u64,
    /// The model's own intervals that missed.
    pub raw_missed: u64,
    /// The last 60 of those judged.
    raw_recent: u64,
    /// Share of misses of the model before the last 60, with a memory of 500.
    reference: f64,
    /// Outcomes in it.
    reference_seen: u64,
    /// Mean width of what was served, with a memory of 50, in units of calibration.
    pub width: f64,
    /// Whether a radius stood at its limit last time.
    pub unbounded: bool,
}

/// Memory of the reference, in outcomes.
const REFERENCE: f64 = 500.0;

/// Memory of the mean width, in outcomes.
const WIDTH: f64 = 50.0;

/// Standard deviations of the number of recent misses beyond which luck is ruled out.
const SURPRISE: f64 = 4.0;

impl Record {
    /// Notes one outcome, the `seen`-th; `served` is `None` while the model's own interval was in force.
    pub(super) fn note(&mut self, seen: u64, raw_miss: bool, served: Option<bool>, width: f64) {
        if seen > u64::from(RECENT) {
            let leaves = (self.raw_recent >> (RECENT - 1)) & 1;
            self.reference_seen += 1;
            let weight = (1.0 / self.reference_seen as f64).max(1.0 / REFERENCE);
            self.reference += weight * (leaves as f64 - self.reference);
        }
        self.raw_missed += u64::from(raw_miss);
        self.raw_recent = shift(self.raw_recent, raw_miss);
        let weight = (1.0 / seen.max(1) as f64).max(1.0 / WIDTH);
        self.width += weight * (width - self.width);
        if let Some(miss) = served {
            self.judged += 1;
            self.missed += u64::from(miss);
            self.recent = shift(self.recent, miss);
        }
    }

    /// Share of calibrated intervals that covered; `None` before the first.
    pub fn coverage(&self) -> Option<f64> {
        (self.judged > 0).then(|| 1.0 - self.missed as f64 / self.judged as f64)
    }

    /// The same over the last 60, or as many as there are.
    pub fn recent_coverage(&self) -> Option<f64> {
        let count = self.judged.min(u64::from(RECENT));
        (count > 0).then(|| 1.0 - f64::from(self.recent.count_ones()) / count as f64)
    }

    /// Whether the calibrated intervals of late miss more often than luck explains.
    ///
    /// Misses of overlapping horizons come in runs, so `step` of them count as one.
    pub fn undercovers(&self, level: f64, step: u32) -> bool {
        self.judged >= u64::from(RECENT) && surprising(self.recent.count_ones(), 1.0 - level, step)
    }

    /// Whether the model's own intervals of late miss more often than they used to.
    pub fn model_drifts(&self, step: u32) -> bool {
        self.reference_seen >= u64::from(RECENT)
            && surprising(self.raw_recent.count_ones(), self.reference.clamp(0.01, 0.99), step)
    }
}

fn shift(bits: u64, miss: bool) -> u64 {
    (bits << 1 | u64::from(miss)) & ((1 << RECENT) - 1)
}

fn surprising(misses: u32, expected: f64, step: u32) -> bool {
    let count = f64::from(RECENT);
    let deviation = (count * expected * (1.0 - expected) * f64::from(step.max(1))).sqrt();
    f64::from(misses) > count * expected + SURPRISE * deviation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coverage_counts_what_was_served_and_drift_what_luck_does_not_explain() {
        let mut record = Record::default();
        for seen in 1..=300 {
            record.note(seen, seen % 4 == 0, (seen > 50).then_some(seen % 10 == 0), 2.0);
        }
        assert_eq!((record.judged, record.missed, record.raw_missed), (250, 25, 75));
        assert_eq!((record.coverage(), record.recent_coverage()), (Some(0.9), Some(0.9)));
        assert!((record.width - 2.0).abs() < 1e-12);
        assert!(!record.undercovers(0.9, 1) && !record.model_drifts(1));
        // 15 + 4 · 3.35 = 28.4 of 60 of the model's; 6 + 4 · 2.32 = 15.3 of what was served.
        for seen in 301..=360 {
            record.note(seen, seen % 2 == 0, Some(seen % 4 == 0), 2.0);
            let (raw, served) = (record.raw_recent.count_ones(), record.recent.count_ones());
            assert_eq!(record.model_drifts(1), raw >= 29, "{seen} {raw}");
            assert_eq!(record.undercovers(0.9, 1), served >= 16, "{seen} {served}");
        }
        assert!(record.model_drifts(1) && !record.model_drifts(5));
    }

    /// The mean over all outcomes at first, and with a memory of 50 later.
    #[test]
    fn the_mean_width_forgets() {
        let mut record = Record::default();
        for (seen, width, expected) in [(1, 2.0, 2.0), (2, 4.0, 3.0), (3, 9.0, 5.0), (1000, 6.0, 5.02)] {
            record.note(seen, false, None, width);
            assert!((record.width - expected).abs() < 1e-12, "{seen}: {}", record.width);
        }
    }
}
