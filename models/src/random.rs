//! Counter-based random numbers: every draw is a pure function of (stream, path, step, draw).
//!
//! A stateful generator would tie a series' numbers to its place in a batch. Philox4x32-10 (Salmon et al.,
//! "Parallel random numbers: as easy as 1, 2, 3", SC 2011) hashes a counter instead, so a series gives the same
//! paths alone, in a batch of 500, in another order, or resumed half-way.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Identifies the random stream of one series; see [`Stream::new`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Stream(u64);

impl Stream {
    /// Derives the stream from what makes a forecast what it is: seed, series, cutoff and model version.
    ///
    /// # Units
    /// `cutoff_us`: microseconds since 2000-01-01 00:00 UTC, PostgreSQL's epoch; any fixed epoch would do.
    pub fn new(seed: i64, series: &str, cutoff_us: i64, model_version: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(seed.to_le_bytes());
        hash.update((series.len() as u64).to_le_bytes());
        hash.update(series.as_bytes());
        hash.update(cutoff_us.to_le_bytes());
        hash.update(model_version.as_bytes());
        let digest = hash.finalize();
        let mut first = [0u8; 8];
        first.copy_from_slice(&digest[..8]);
        Self(u64::from_le_bytes(first))
    }

    /// A stream with the given key, for tests and replay.
    pub fn from_key(key: u64) -> Self {
        Self(key)
    }

    /// The key, as it travels to another process.
    pub fn key(self) -> u64 {
        self.0
    }

    /// Four words of 32 random bits for one place: what a mask of many elements is drawn from.
    pub fn words(self, path: u32, step: u32, draw: u32) -> [u32; 4] {
        // The last word of the counter keeps these apart from `uniform`.
        philox4x32([path, step, draw, 1], [self.0 as u32, (self.0 >> 32) as u32])
    }

    /// A uniform number in [0, 1) with 53 random bits for one draw of one step of one path.
    pub fn uniform(self, path: u32, step: u32, draw: u32) -> f64 {
        let [a, b, ..] = philox4x32([path, step, draw, 0], [self.0 as u32, (self.0 >> 32) as u32]);
        let bits = (u64::from(a) << 32 | u64::from(b)) >> 11;
        bits as f64 / (1u64 << 53) as f64
    }
}

/// Philox4x32 with ten rounds.
fn philox4x32(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let p0 = u64::from(0xD251_1F53u32) * u64::from(counter[0]);
        let p1 = u64::from(0xCD9E_8D57u32) * u64::from(counter[2]);
        counter = [
            (p1 >> 32) as u32 ^ counter[1] ^ key[0],
            p1 as u32,
            (p0 >> 32) as u32 ^ counter[3] ^ key[1],
            p0 as u32,
        ];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known-answer vectors of the Random123 distribution (kat_vectors, philox4x32 10).
    #[test]
    fn philox_known_answers() {
        assert_eq!(philox4x32([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox4x32([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox4x32([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn every_part_of_the_identity_changes_the_stream() {
        let base = Stream::new(0, "BTC", 1, "m@1");
        for other in [
            Stream::new(1, "BTC", 1, "m@1"),
            Stream::new(0, "ETH", 1, "m@1"),
            Stream::new(0, "BTC", 2, "m@1"),
            Stream::new(0, "BTC", 1, "m@2"),
        ] {
            assert_ne!(base, other);
        }
        assert_eq!(base, Stream::new(0, "BTC", 1, "m@1"));
    }

    #[test]
    fn uniform_is_uniform() {
        let n = 100_000u32;
        let mean = (0..n).map(|i| Stream::from_key(7).uniform(i, 3, 1)).sum::<f64>() / f64::from(n);
        // Standard error of the mean of a uniform is 1/sqrt(12 n) = 0.0009; four of them.
        assert!((mean - 0.5).abs() < 0.0037, "{mean}");
    }
}
