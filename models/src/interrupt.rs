//! How a pure crate obeys a cancel request without knowing who asks.

use crate::error::{ModelError, Result};
use std::sync::atomic::{AtomicBool, Ordering};

/// Asked between layers and decode steps whether to go on.
pub trait Interrupt: Sync {
    /// Returns [`ModelError::Cancelled`] when the work should stop.
    fn check(&self) -> Result<()>;
}

/// Never asks to stop.
#[derive(Debug, Clone, Copy, Default)]
pub struct NeverInterrupt;

impl Interrupt for NeverInterrupt {
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// Stops once the flag is set, from whichever thread.
impl Interrupt for AtomicBool {
    fn check(&self) -> Result<()> {
        if self.load(Ordering::Relaxed) { Err(ModelError::Cancelled) } else { Ok(()) }
    }
}
