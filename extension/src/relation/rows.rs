//! Which rows of a series a reader wants.

use kronos_time::Keep;

/// Which rows of a series are kept.
#[derive(Debug, Clone, Copy)]
pub enum Rows {
    /// In every version, for a reader that looks at many moments.
    Versions(Keep),
    /// As they are known at one moment.
    Known(Known),
}

/// Rows of one moment.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// Newest rows kept up to the last with a target.
    pub keep: usize,
    /// How many of the columns, the first ones, are targets; none where every row counts as one that has a target.
    pub targets: usize,
    /// Rows kept after it, for what they know of the future; those after the moment too, if any.
    pub ahead: usize,
}
