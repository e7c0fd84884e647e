//! The GPUs of the machine, as far as this build can use any.

use candle_core::Device;
use serde::{Deserialize, Serialize};

/// How precise weights, keys, values and the factors of products are on a GPU; sums are float32 in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Precision {
    /// Float32, as on the CPU.
    #[default]
    F32,
    /// Bfloat16: half of the memory and its traffic, eight bits of a number.
    Bf16,
}

/// A GPU, opened.
#[derive(Debug, Clone)]
pub struct Gpu {
    /// What tensors on it are made with.
    pub device: Device,
    /// Its number among the GPUs of the machine.
    pub ordinal: usize,
    /// What its maker calls it.
    pub name: String,
    /// Memory it has, in bytes.
    pub total_bytes: u64,
}

/// Opens GPUs by their ordinals, or all there are; the reason in words when that cannot be.
pub type Opener = fn(Option<&[usize]>) -> Result<Vec<Gpu>, String>;

/// Whether an operation failed because the memory of a GPU was used up.
///
/// The driver and its libraries say so in words only: `CUDA_ERROR_OUT_OF_MEMORY`, `CUBLAS_STATUS_ALLOC_FAILED`.
pub fn is_full(error: &candle_core::Error) -> bool {
    let words = error.to_string();
    words.contains("CUDA_ERROR_OUT_OF_MEMORY") || words.contains("CUBLAS_STATUS_ALLOC_FAILED")
}

/// How this build opens GPUs; `None` in one without CUDA.
#[cfg(not(feature = "cuda"))]
pub const OPENER: Option<Opener> = None;

/// How this build opens GPUs; `None` in one without CUDA.
#[cfg(feature = "cuda")]
pub const OPENER: Option<Opener> = Some(open);

#[cfg(feature = "cuda")]
fn open(wanted: Option<&[usize]>) -> Result<Vec<Gpu>, String> {
    use candle_core::cuda_backend::cudarc::driver::{CudaContext, DriverError, result};
    // The driver's own words for an error come from the driver, which may be what is missing.
    let say = |error: DriverError| format!("the driver answers {:?}", error.0);
    result::init().map_err(say)?;
    let count = usize::try_from(CudaContext::device_count().map_err(say)?).unwrap_or(0);
    let ordinals = wanted.map_or_else(|| (0..count).collect(), <[usize]>::to_vec);
    if ordinals.is_empty() {
        return Err("the driver knows none".into());
    }
    let one = |ordinal: usize| {
        if ordinal >= count {
            return Err(format!("there is no cuda:{ordinal}, the driver knows {count}"));
        }
        let context = CudaContext::new(ordinal).map_err(say)?;
        let total_bytes = context.total_mem().map_err(say)? as u64;
        let name = context.name().map_err(say)?;
        let device = Device::new_cuda(ordinal).map_err(|error| error.to_string())?;
        Ok(Gpu { device, ordinal, name, total_bytes })
    };
    ordinals.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As cudarc words it.
    #[test]
    fn a_full_gpu_is_told_from_other_failures() {
        let cuda = |words: &str| candle_core::Error::Cuda(words.to_owned().into());
        assert!(is_full(&cuda(r#"DriverError(CUDA_ERROR_OUT_OF_MEMORY, "out of memory")"#)));
        assert!(is_full(&cuda("CublasError(CUBLAS_STATUS_ALLOC_FAILED)").context("a product")));
        assert!(!is_full(&cuda(r#"DriverError(CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access")"#)));
    }
}
