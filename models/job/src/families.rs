//! Families that can be trained, found in one table.
//!
//! A family is a room here, with what its jobs may say, and one in `kronos-training`, with what it learns from. Whoever queues
//! or runs jobs names none.

use crate::error::{JobError, Result};
use crate::family::Family;
use crate::{chronos2, kronos, nbeats};

/// Every family that can be trained.
pub const FAMILIES: &[&Family] = &[&kronos::FAMILY, &chronos2::FAMILY, &nbeats::FAMILY];

/// The family of that name.
///
/// # Errors
/// [`JobError::UnknownFamily`].
pub fn family(name: &str) -> Result<&'static Family> {
    let found = FAMILIES.iter().find(|family| family.name == name).copied();
    found.ok_or_else(|| JobError::UnknownFamily { family: name.chars().take(80).collect() })
}

/// The names of all families, for people.
pub fn names() -> String {
    FAMILIES.iter().map(|family| family.name).collect::<Vec<_>>().join(", ")
}
