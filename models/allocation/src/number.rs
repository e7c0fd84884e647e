//! What a single number of a problem may be.

use crate::AllocationError;

pub(crate) fn finite(what: &str, value: f64) -> Result<(), AllocationError> {
    if value.is_finite() { Ok(()) } else { Err(AllocationError::NotFinite { what: what.to_owned() }) }
}

pub(crate) fn non_negative(what: &str, value: f64) -> Result<(), AllocationError> {
    finite(what, value)?;
    if value < 0.0 {
        return Err(AllocationError::OutOfRange { what: what.to_owned(), value, allowed: "at least 0" });
    }
    Ok(())
}
