//! How fast this machine reads memory at most, measured beside what a model does.

use crate::limits::best;
use rayon::prelude::*;
use std::hint::black_box;

/// A buffer to stream through.
pub struct Memory(Vec<u64>);

impl Memory {
    /// Four times the last-level cache, at least 1 GiB: nothing of it is left in a cache for the second pass.
    pub fn beyond_caches() -> Self {
        let cache = std::fs::read_to_string("/sys/devices/system/cpu/cpu0/cache/index3/size").ok();
        let kib = cache.and_then(|text| text.trim().trim_end_matches('K').parse::<usize>().ok()).unwrap_or(0);
        let bytes = (4 * 1024 * kib).max(1 << 30);
        // Written, not just reserved: untouched pages all map to one page of zeros.
        Self((0..bytes as u64 / 8).collect())
    }

    /// Seconds that one read of that many bytes takes, with all threads; a smaller buffer may stay in the caches.
    pub fn read(&self, bytes: usize) -> f64 {
        let words = &self.0[..(bytes / 8).min(self.0.len())];
        // Chunks of 1 MiB keep every thread streaming to the end.
        let sum = || {
            words
                .par_chunks(1 << 17)
                .map(|chunk| chunk.iter().fold(0, |sum, word| sum ^ word))
                .reduce(|| 0, |a, b| a ^ b)
        };
        best(5, || _ = black_box(sum()))
    }

    /// Bytes per second of a read of the whole buffer.
    pub fn bandwidth(&self) -> f64 {
        8.0 * self.0.len() as f64 / self.read(usize::MAX)
    }
}
