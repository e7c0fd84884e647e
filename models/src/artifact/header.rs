//! The header of a safetensors file, checked as a whole before anything is read or allocated for a tensor.
//!
//! The file is an 8-byte little-endian length, that many bytes of JSON, then the data: each JSON entry gives a
//! tensor's dtype, shape and byte range within the data. The `safetensors` crate parses the same header, but it wants
//! the whole file in memory, lets the last of two equal names win, and its errors name no tensor.

use super::{corrupt, io_error};
use crate::error::Result;
use safetensors::Dtype;
use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, IntoDeserializer, MapAccess, Visitor};
use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The format allows 100 MB. The published models need 40 kB; 16 MiB leave room for 100,000 tensors and keep the
/// parsed entries (less than four times the text) small.
const MAX_HEADER_BYTES: u64 = 16 << 20;

/// Bytes of the length in front of the header.
const LENGTH_BYTES: u64 = 8;

/// No model here has more than three dimensions; the limit bounds what one absurd entry may allocate.
const MAX_RANK: usize = 8;

/// One tensor of the file; its byte range has been checked against dtype, shape and file.
#[derive(Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    /// Offset of the first byte from the start of the file.
    pub(super) start: u64,
    /// Number of values.
    pub(super) values: usize,
}

/// Reads and checks the header: entries in the order of their data, which they cover without gap or overlap.
pub(super) fn read(file: &mut File, length: u64, path: &Path) -> Result<Vec<Entry>> {
    if length < LENGTH_BYTES {
        return Err(corrupt(path, format!("file has {length} bytes, too few for a safetensors header")));
    }
    let mut prefix = [0; LENGTH_BYTES as usize];
    file.read_exact(&mut prefix).map_err(|error| io_error(path, error))?;
    let size = u64::from_le_bytes(prefix);
    if size > MAX_HEADER_BYTES {
        let reason = format!("header claims {size} bytes, at most {MAX_HEADER_BYTES} are accepted");
        return Err(corrupt(path, reason));
    }
    let data = LENGTH_BYTES + size;
    if data > length {
        let reason = format!("header claims {size} bytes, the file has {}", length - LENGTH_BYTES);
        return Err(corrupt(path, format!("{reason}; it may be truncated")));
    }
    let mut text = Vec::new();
    file.take(size).read_to_end(&mut text).map_err(|error| io_error(path, error))?;
    if text.len() as u64 != size {
        return Err(corrupt(path, "file ended inside the header"));
    }
    entries(&text, data, length).map_err(|reason| corrupt(path, reason))
}

/// Parses the JSON and checks that the entries tile the bytes from `data` to `length`.
fn entries(text: &[u8], data: u64, length: u64) -> Result<Vec<Entry>, String> {
    let Header(mut raw) = serde_json::from_slice(text).map_err(|error| format!("header: {error}"))?;
    raw.sort_by_key(|(_, entry)| entry.data_offsets);
    let mut entries = Vec::with_capacity(raw.len());
    let mut end = 0;
    for (name, RawEntry { dtype, shape: Shape(shape), data_offsets: (from, to) }) in raw {
        if from != end {
            let what = if from < end { "overlaps the data before it" } else { "leaves a gap before it" };
            return Err(format!(
                "tensor \"{name}\" starts at byte {from} of the data and {what}, expected {end}"
            ));
        }
        let dtype =
            known_dtype(&dtype).ok_or_else(|| format!("tensor \"{name}\" has unknown dtype \"{dtype}\""))?;
        let overflow = || format!("tensor \"{name}\" of shape {shape:?} is too large");
        let values = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(overflow)?;
        let bits = values.checked_mul(dtype.bitsize()).ok_or_else(overflow)?;
        let held = to.checked_sub(from).ok_or_else(|| format!("tensor \"{name}\" ends before it starts"))?;
        if !bits.is_multiple_of(8) || held != (bits / 8) as u64 {
            let needed = bits.div_ceil(8);
            return Err(format!(
                "tensor \"{name}\" of shape {shape:?} and dtype {dtype} needs {needed} bytes, its range has {held}"
            ));
        }
        end = to;
        entries.push(Entry { name, dtype, shape, start: data.saturating_add(from), values });
    }
    let held = length - data;
    if end != held {
        let cause = if end > held { "; it may be truncated" } else { "" };
        return Err(format!("tensors need {end} bytes of data, the file has {held}{cause}"));
    }
    Ok(entries)
}

fn known_dtype(name: &str) -> Option<Dtype> {
    let deserializer: de::value::StrDeserializer<'_, de::value::Error> = name.into_deserializer();
    Dtype::deserialize(deserializer).ok()
}

/// Entries in the order of the JSON, `__metadata__` skipped, equal names refused.
struct Header(Vec<(String, RawEntry)>);

#[derive(Deserialize)]
struct RawEntry {
    dtype: String,
    shape: Shape,
    data_offsets: (u64, u64),
}

struct Shape(Vec<usize>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut seen = HashSet::new();
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if !seen.insert(name.clone()) {
                        return Err(de::Error::custom(format!("name \"{name}\" appears twice")));
                    }
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let entry = map
                        .next_value()
                        .map_err(|error| de::Error::custom(format!("tensor \"{name}\": {error}")))?;
                    entries.push((name, entry));
                }
                Ok(Header(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Dimensions;
        impl<'de> Visitor<'de> for Dimensions {
            type Value = Shape;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "at most {MAX_RANK} dimensions")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut sequence: A) -> Result<Shape, A::Error> {
                let mut shape = Vec::new();
                while let Some(dimension) = sequence.next_element()? {
                    if shape.len() == MAX_RANK {
                        return Err(de::Error::invalid_length(MAX_RANK + 1, &self));
                    }
                    shape.push(dimension);
                }
                Ok(Shape(shape))
            }
        }
        deserializer.deserialize_seq(Dimensions)
    }
}
