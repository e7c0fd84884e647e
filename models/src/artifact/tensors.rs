//! `model.safetensors`, decoded to f32.

use super::header::{self, Entry};
use super::{TensorRole, TensorSpec, Tensors, corrupt, io_error, open};
use crate::error::Result;
use candle_core::{Device, Tensor};
use half::{bf16, f16};
use safetensors::Dtype;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Bytes read at a time; a multiple of every dtype's size.
const PIECE_BYTES: usize = 1 << 20;

/// How many names an error lists before it only counts.
const NAMES_LISTED: usize = 5;

/// Reads the tensors of `specs` from a safetensors file as f32; F32, F16 and BF16 are accepted.
///
/// The file must hold every required tensor, each in its shape, and none that `specs` does not name; this is checked
/// before any tensor is allocated.
///
/// # Errors
/// [`ModelError::ArtifactMissing`], [`ModelError::ArtifactIo`] (also when the memory for a tensor cannot be had), and
/// [`ModelError::ArtifactCorrupt`] naming the tensor that is missing, unexpected, mis-shaped, of another dtype, out of
/// the file's bounds, or not finite.
///
/// [`ModelError::ArtifactMissing`]: crate::ModelError::ArtifactMissing
/// [`ModelError::ArtifactIo`]: crate::ModelError::ArtifactIo
/// [`ModelError::ArtifactCorrupt`]: crate::ModelError::ArtifactCorrupt
pub fn read_tensors(path: &Path, specs: &[TensorSpec], device: &Device) -> Result<Tensors> {
    let (mut file, length) = open(path)?;
    let entries = header::read(&mut file, length, path)?;
    let wanted = select(&entries, specs).map_err(|reason| corrupt(path, reason))?;

    let mut piece = Vec::new();
    let mut tensors = Tensors::with_capacity(wanted.len());
    for entry in wanted {
        let values = decode(&mut file, entry, path, &mut piece)?;
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            let reason = format!("tensor \"{}\" holds {} at index {index}", entry.name, values[index]);
            return Err(corrupt(path, reason));
        }
        tensors.insert(entry.name.clone(), Tensor::from_vec(values, entry.shape.as_slice(), device)?);
    }
    Ok(tensors)
}

/// The entries to read, in the order of their data, once the file is known to hold what `specs` asks for.
fn select<'a>(entries: &'a [Entry], specs: &[TensorSpec]) -> Result<Vec<&'a Entry>, String> {
    let present: HashSet<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    let missing =
        specs.iter().filter(|spec| spec.role == TensorRole::Required).map(|spec| spec.name.as_str());
    reject("missing", missing.filter(|name| !present.contains(name)).collect())?;

    let known: HashMap<&str, &TensorSpec> = specs.iter().map(|spec| (spec.name.as_str(), spec)).collect();
    let mut unexpected: Vec<&str> = present.into_iter().filter(|name| !known.contains_key(name)).collect();
    unexpected.sort_unstable();
    reject("unexpected", unexpected)?;

    let mut wanted = Vec::with_capacity(entries.len());
    for entry in entries {
        let Some(spec) = known.get(entry.name.as_str()).filter(|spec| spec.role != TensorRole::Ignored)
        else {
            continue;
        };
        if entry.shape != spec.shape {
            let Entry { name, shape, .. } = entry;
            return Err(format!("tensor \"{name}\" has shape {shape:?}, expected {:?}", spec.shape));
        }
        if !matches!(entry.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            let Entry { name, dtype, .. } = entry;
            return Err(format!("tensor \"{name}\" has dtype {dtype}, expected F32, F16 or BF16"));
        }
        wanted.push(entry);
    }
    Ok(wanted)
}

fn reject(what: &str, names: Vec<&str>) -> Result<(), String> {
    if names.is_empty() {
        return Ok(());
    }
    let listed: Vec<String> = names.iter().take(NAMES_LISTED).map(|name| format!("\"{name}\"")).collect();
    let more = match names.len() - listed.len() {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    let noun = if names.len() == 1 { "tensor" } else { "tensors" };
    Err(format!("{what} {noun} {}{more}", listed.join(", ")))
}

/// Reads one tensor piece by piece, so that its bytes never lie in memory beside its values.
fn decode(file: &mut File, entry: &Entry, path: &Path, piece: &mut Vec<u8>) -> Result<Vec<f32>> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => corrupt(path, format!("file ended inside tensor \"{}\"", entry.name)),
        _ => io_error(path, error),
    };
    let mut values: Vec<f32> = Vec::new();
    values.try_reserve_exact(entry.values).map_err(|_| failed(io::ErrorKind::OutOfMemory.into()))?;
    file.seek(SeekFrom::Start(entry.start)).map_err(failed)?;
    let mut left = entry.values * entry.dtype.bitsize() / 8;
    while left > 0 {
        piece.resize(left.min(PIECE_BYTES), 0);
        file.read_exact(piece).map_err(failed)?;
        match entry.dtype {
            Dtype::F16 => values.extend(pairs(piece).map(|bytes| f16::from_le_bytes(bytes).to_f32())),
            Dtype::BF16 => values.extend(pairs(piece).map(|bytes| bf16::from_le_bytes(bytes).to_f32())),
            _ => values.extend(piece.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes))),
        }
        left -= piece.len();
    }
    Ok(values)
}

fn pairs(bytes: &[u8]) -> impl Iterator<Item = [u8; 2]> {
    bytes.as_chunks().0.iter().copied()
}
