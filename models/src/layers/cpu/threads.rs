//! Who does the work of a kernel: all threads of the pool, or the calling thread by itself.

use std::cell::Cell;

thread_local! {
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// Threads that a kernel may spread its work over.
pub fn available() -> usize {
    if ALONE.get() { 1 } else { rayon::current_num_threads() }
}

/// Runs `work` with every kernel in it on the calling thread: for parts of a batch that are spread over the threads as a
/// whole, which spares each small kernel a meeting of them.
///
/// `work` must not wait for other jobs of the pool, or it could pick up somebody else's.
pub fn alone<T>(work: impl FnOnce() -> T) -> T {
    struct Reset(bool);
    impl Drop for Reset {
        fn drop(&mut self) {
            ALONE.set(self.0);
        }
    }
    let _reset = Reset(ALONE.replace(true));
    work()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alone_ends_with_the_work_and_with_a_panic() {
        let outside = available();
        assert_eq!(alone(|| (available(), alone(available), available())), (1, 1, 1));
        assert!(std::panic::catch_unwind(|| alone(|| panic!("lost"))).is_err());
        assert_eq!(available(), outside);
    }
}
