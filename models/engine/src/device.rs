//! A device that models compute on, one step at a time.

use crate::ledger::Ledger;
use kronos_models::device::{Gpu, Precision};
use kronos_models::layers::accelerated::Place;
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Over which time utilization is told.
const SPAN: Duration = Duration::from_secs(1);

/// One device: its threads, its memory, and whose turn it is.
#[derive(Debug)]
pub struct Device {
    /// `cpu`, or `cuda:` and an ordinal.
    pub label: String,
    /// What tensors on it are made with.
    pub tensors: candle_core::Device,
    /// The memory.
    pub memory: Arc<Ledger>,
    gpu: Option<Gpu>,
    turns: Mutex<Turns>,
    served: Condvar,
    pool: Mutex<Pool>,
    usage: Mutex<Usage>,
}

#[derive(Debug, Default)]
struct Turns {
    next: u64,
    serving: u64,
}

#[derive(Debug)]
struct Pool {
    threads: usize,
    built: Option<Arc<ThreadPool>>,
}

#[derive(Debug)]
struct Usage {
    since: Instant,
    busy: Duration,
    /// Share of the span before this one.
    share: f64,
}

impl Usage {
    /// Closes the span when it is over.
    fn advance(&mut self) {
        let elapsed = self.since.elapsed();
        if elapsed >= SPAN {
            self.share = (self.busy.as_secs_f64() / elapsed.as_secs_f64()).min(1.0);
            (self.since, self.busy) = (Instant::now(), Duration::ZERO);
        }
    }
}

/// The right to compute, until dropped.
struct Turn<'a> {
    device: &'a Device,
    began: Instant,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut usage = lock(&self.device.usage);
        usage.busy += self.began.elapsed();
        usage.advance();
        drop(usage);
        lock(&self.device.turns).serving += 1;
        self.device.served.notify_all();
    }
}

/// None of the values behind these locks is left half changed by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Device {
    /// The CPU with `threads` threads and `memory` bytes.
    pub fn cpu(threads: usize, memory: u64) -> Self {
        Self::new("cpu".into(), candle_core::Device::Cpu, threads, memory, None)
    }

    /// A GPU of which models may take `memory` bytes, and the threads that feed it.
    pub fn gpu(gpu: Gpu, threads: usize, memory: u64) -> Self {
        Self::new(format!("cuda:{}", gpu.ordinal), gpu.device.clone(), threads, memory, Some(gpu))
    }

    fn new(
        label: String,
        tensors: candle_core::Device,
        threads: usize,
        memory: u64,
        gpu: Option<Gpu>,
    ) -> Self {
        Self {
            label,
            tensors,
            memory: Ledger::new(memory),
            gpu,
            turns: Mutex::default(),
            served: Condvar::new(),
            pool: Mutex::new(Pool { threads, built: None }),
            usage: Mutex::new(Usage { since: Instant::now(), busy: Duration::ZERO, share: 0.0 }),
        }
    }

    /// What it is: threads of the CPU, or the name of a GPU.
    pub fn name(&self) -> String {
        match &self.gpu {
            Some(gpu) => gpu.name.clone(),
            None => format!("{} threads", lock(&self.pool).threads),
        }
    }

    /// Whether it is the CPU.
    pub fn is_cpu(&self) -> bool {
        self.gpu.is_none()
    }

    /// Where a network in candle's operations keeps its tensors; `None` where the kernels of the CPU compute.
    pub fn place(&self, precision: Precision) -> Option<Place> {
        (!self.tensors.is_cpu()).then(|| Place::new(&self.tensors, precision))
    }

    /// Bytes that a GPU has.
    pub fn total_bytes(&self) -> Option<u64> {
        self.gpu.as_ref().map(|gpu| gpu.total_bytes)
    }

    /// Uses so many threads from the next step on.
    pub fn set_threads(&self, threads: usize) {
        let mut pool = lock(&self.pool);
        if pool.threads != threads {
            *pool = Pool { threads, built: None };
        }
    }

    /// Computes when it is this caller's turn; callers are served in the order they came.
    ///
    /// # Errors
    /// When the device's threads cannot be started.
    pub fn compute<R: Send>(&self, work: impl FnOnce() -> R + Send) -> Result<R, ThreadPoolBuildError> {
        let pool = self.pool()?;
        let _turn = self.turn();
        Ok(pool.install(work))
    }

    /// Prepares a model on as many threads, but others, so that nobody who computes waits for files.
    ///
    /// # Errors
    /// When the threads cannot be started.
    pub fn prepare<R: Send>(&self, work: impl FnOnce() -> R + Send) -> Result<R, ThreadPoolBuildError> {
        let threads = lock(&self.pool).threads;
        let name = |index| format!("kronos-load-{index}");
        // They end with the work; those of the process-wide pool would stay, one for each core.
        Ok(ThreadPoolBuilder::new().num_threads(threads).thread_name(name).build()?.install(work))
    }

    /// Runs `task` on each of its threads, when it is this caller's turn. Threads not yet started have nothing to do.
    pub fn everywhere(&self, task: fn()) {
        let pool = lock(&self.pool).built.clone();
        if let Some(pool) = pool {
            let _turn = self.turn();
            pool.broadcast(|_| task());
        }
    }

    fn pool(&self) -> Result<Arc<ThreadPool>, ThreadPoolBuildError> {
        let mut pool = lock(&self.pool);
        if let Some(built) = &pool.built {
            return Ok(built.clone());
        }
        let name = |index| format!("kronos-{index}");
        // A pool of its own, because the process-wide one could not be resized or bounded.
        let built = Arc::new(ThreadPoolBuilder::new().num_threads(pool.threads).thread_name(name).build()?);
        pool.built = Some(built.clone());
        Ok(built)
    }

    fn turn(&self) -> Turn<'_> {
        let mut turns = lock(&self.turns);
        let mine = turns.next;
        turns.next += 1;
        while turns.serving != mine {
            turns = self.served.wait(turns).unwrap_or_else(PoisonError::into_inner);
        }
        Turn { device: self, began: Instant::now() }
    }

    /// Share of the last second it computed.
    pub fn utilization(&self) -> f64 {
        let mut usage = lock(&self.usage);
        usage.advance();
        usage.share
    }
}
