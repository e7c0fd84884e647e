//! The families of this library: the only file that knows their rooms.

use crate::family::Families;

/// Every family of this library, in the order in which a configuration is shown to them.
pub const FAMILIES: Families = &[
    &crate::kronos::family::KronosFamily,
    &crate::chronos2::family::Chronos2Family,
    &crate::chronos_bolt::family::ChronosBoltFamily,
    &crate::nbeats::family::NBeatsFamily,
];
