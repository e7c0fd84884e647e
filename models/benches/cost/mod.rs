//! What a piece of work costs, on the clock and in processor time.

use std::time::Instant;

/// What a piece of work takes at best.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// Seconds on the clock.
    pub wall: f64,
    /// Seconds of processor time over all threads: what other work on the machine hardly changes.
    pub cpu: f64,
}

/// What one run takes.
pub fn once(work: impl FnOnce()) -> Cost {
    let (start, cpu) = (Instant::now(), cpu_seconds());
    work();
    Cost { wall: start.elapsed().as_secs_f64(), cpu: cpu_seconds() - cpu }
}

/// The best of at least three runs, and of as many more as fit into a second.
pub fn cost(mut work: impl FnMut()) -> Cost {
    let began = Instant::now();
    let mut best = once(&mut work);
    let mut runs = 1;
    while runs < 3 || began.elapsed().as_secs_f64() < 1.0 {
        let Cost { wall, cpu } = once(&mut work);
        best = Cost { wall: best.wall.min(wall), cpu: best.cpu.min(cpu) };
        runs += 1;
    }
    best
}

/// Processor time of all threads of this process so far, as Linux accounts it; NaN elsewhere.
fn cpu_seconds() -> f64 {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return f64::NAN };
    let nanoseconds = |thread: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    };
    threads.filter_map(nanoseconds).sum::<f64>() / 1e9
}
