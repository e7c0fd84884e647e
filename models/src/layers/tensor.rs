//! Between candle's tensors and the slices the kernels work on.

use candle_core::{Device, Storage, Tensor};

/// Calls `f` with the values of a contiguous f32 tensor on the CPU, without copying them.
///
/// # Errors
/// A backend error when the tensor is elsewhere, not contiguous or not f32.
pub fn with_values<R>(x: &Tensor, f: impl FnOnce(&[f32]) -> R) -> candle_core::Result<R> {
    let (storage, layout) = x.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else { candle_core::bail!("expected a tensor on the cpu") };
    let values = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(f(&values[from..to])),
        None => candle_core::bail!("expected a contiguous tensor"),
    }
}

/// A matrix of the given number of columns that owns `values`.
pub fn matrix(values: Vec<f32>, columns: usize) -> candle_core::Result<Tensor> {
    let rows = values.len().checked_div(columns).unwrap_or(0);
    Tensor::from_vec(values, (rows, columns), &Device::Cpu)
}
