//! Long/short portfolio allocation as a convex program: problem in, weights and duals out.
#![deny(missing_docs)]
