//! SHA-256 of files.

use super::{io_error, open};
use crate::error::{ModelError, Result};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::io::Read;
use std::path::Path;

/// The SHA-256 of a file, in lower-case hexadecimal; reads it in pieces.
///
/// # Errors
/// [`ModelError::ArtifactMissing`], [`ModelError::ArtifactIo`]; [`ModelError::ArtifactCorrupt`] for anything that is
/// not a regular file.
pub fn sha256_file(path: &Path) -> Result<String> {
    let (mut file, _) = open(path)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 1 << 16];
    loop {
        match file.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => hash.update(&piece[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(io_error(path, error)),
        }
    }
    Ok(hash.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

/// Compares a file's SHA-256 with the registered one, ignoring the case of the digits.
///
/// # Errors
/// [`ModelError::ChecksumMismatch`] with both digests, and those of [`sha256_file`].
pub fn verify(path: &Path, expected: &str) -> Result<()> {
    let actual = sha256_file(path)?;
    if actual.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    Err(ModelError::ChecksumMismatch { path: path.to_path_buf(), expected: expected.into(), actual })
}
