//! Messages on a stream: eight bytes of header, then a message in postcard's format.
//!
//! The header is `KRN`, the version of the protocol, and the length of what follows as a little-endian u32. A length
//! beyond [`MAX_BODY`] ends the conversation before anything is allocated for it; memory is taken as bytes arrive.
//! postcard never trusts a length inside the message either: what it allocates is bounded by what it was given.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Raised with every change of the messages; both sides come from one library, so they differ only across an update.
pub const VERSION: u8 = 2;

/// Longest message, in bytes: three times the portion in which a backend sends its series.
pub const MAX_BODY: usize = 96 << 20;

const HEADER: usize = 8;
const MAGIC: [u8; 3] = *b"KRN";

/// A stream that does not follow the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The header begins with something else.
    #[error("this is not the protocol of kronos")]
    Magic,
    /// The other side was built from another version.
    #[error("protocol version {got} where {VERSION} was expected")]
    Version {
        /// The version of the other side.
        got: u8,
    },
    /// The message is longer than allowed.
    #[error("a message of {length} bytes exceeds the limit of {limit}")]
    TooLong {
        /// Its length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// The message is not one of those expected.
    #[error("a message cannot be decoded: {0}")]
    Body(#[from] postcard::Error),
    /// Bytes follow the message within its frame.
    #[error("{0} bytes follow a message within its frame")]
    Trailing(usize),
}

/// Appends a message to `out`.
///
/// # Errors
/// [`FrameError::TooLong`], with `out` as it was; an error of postcard, with `out` empty.
pub fn write<M: Serialize>(message: &M, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let start = out.len();
    let [a, b, c] = MAGIC;
    out.extend([a, b, c, VERSION, 0, 0, 0, 0]);
    let mut whole = postcard::to_extend(message, std::mem::take(out))?;
    let length = whole.len() - start - HEADER;
    let outcome = match u32::try_from(length) {
        Ok(short) if length <= MAX_BODY => {
            whole[start + 4..start + HEADER].copy_from_slice(&short.to_le_bytes());
            Ok(())
        }
        _ => {
            whole.truncate(start);
            Err(FrameError::TooLong { length, limit: MAX_BODY })
        }
    };
    *out = whole;
    outcome
}

/// Puts the pieces a stream arrives in together.
#[derive(Debug, Default)]
pub struct FrameReader {
    bytes: Vec<u8>,
}

impl FrameReader {
    /// Takes what has arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next message, once it is there in whole.
    ///
    /// # Errors
    /// Any [`FrameError`]; the stream is then of no use.
    pub fn next_message<M: DeserializeOwned>(&mut self) -> Result<Option<M>, FrameError> {
        let Some((header, rest)) = self.bytes.split_first_chunk::<HEADER>() else { return Ok(None) };
        let [a, b, c, version, length @ ..] = *header;
        if [a, b, c] != MAGIC {
            return Err(FrameError::Magic);
        }
        if version != VERSION {
            return Err(FrameError::Version { got: version });
        }
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_BODY {
            return Err(FrameError::TooLong { length, limit: MAX_BODY });
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let (message, left) = postcard::take_from_bytes(body)?;
        if !left.is_empty() {
            return Err(FrameError::Trailing(left.len()));
        }
        self.bytes.drain(..HEADER + length);
        if self.bytes.is_empty() {
            // One long message must not keep its memory for the life of the connection.
            self.bytes = Vec::new();
        }
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_beyond_the_limit_is_refused_and_leaves_what_was_written_before() {
        let mut out = Vec::new();
        write(&7u8, &mut out).unwrap();
        let before = out.clone();
        // Bytes in postcard's format: their number, here in four bytes, and themselves.
        let longest = vec![0u8; MAX_BODY - 4];
        let error = write(&vec![0u8; MAX_BODY - 3], &mut out).unwrap_err();
        assert_eq!(error, FrameError::TooLong { length: MAX_BODY + 1, limit: MAX_BODY });
        assert_eq!(out, before);
        write(&longest, &mut out).unwrap();
        let mut reader = FrameReader::default();
        reader.push(&out);
        assert_eq!(reader.next_message::<u8>().unwrap(), Some(7));
        assert_eq!(reader.next_message::<Vec<u8>>().unwrap(), Some(longest));
        assert_eq!(reader.next_message::<u8>().unwrap(), None);
    }

    #[test]
    fn a_promise_of_more_than_the_limit_is_refused_before_the_bytes_come() {
        let mut reader = FrameReader::default();
        reader.push(&MAGIC);
        reader.push(&[VERSION]);
        reader.push(&u32::try_from(MAX_BODY + 1).unwrap().to_le_bytes());
        let error = FrameError::TooLong { length: MAX_BODY + 1, limit: MAX_BODY };
        assert_eq!(reader.next_message::<u8>(), Err(error));
    }

    #[test]
    fn bytes_after_a_message_within_its_frame_are_refused() {
        let mut reader = FrameReader::default();
        reader.push(&MAGIC);
        reader.push(&[VERSION, 2, 0, 0, 0, 5, 6]);
        assert_eq!(reader.next_message::<u8>(), Err(FrameError::Trailing(1)));
    }
}
