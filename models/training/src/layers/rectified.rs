//! Adding a bias and setting what is negative to zero, in one pass forward and one backward.
//!
//! Composed of candle's operations a bias and a rectifier take three passes forward and, through a comparison, a cast, a
//! product and two sums over a broadcast shape, eight backward.

use super::{fused, values};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use kronos_models::layers::tensor::with_values;

/// max(x + b, 0).
///
/// # Shapes
/// `x`: [rows, width]; `bias`: [width] → [rows, width].
pub fn rectify(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    match fused(x) {
        true => x.contiguous()?.apply_op2(&bias.contiguous()?, Rectify),
        false => x.broadcast_add(bias)?.relu(),
    }
}

struct Rectify;

impl CustomOp2 for Rectify {
    fn name(&self) -> &'static str {
        "rectify"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, bias) = (values(x, x_layout)?, values(bias, bias_layout)?);
        let (rows, width) = x_layout.shape().dims2()?;
        if bias.len() != width {
            candle_core::bail!("a bias of {} values for {width} columns", bias.len());
        }
        let mut out = Vec::with_capacity(rows * width);
        for row in x.chunks_exact(width.max(1)) {
            let sums = row.iter().zip(bias).map(|(x, b)| x + b);
            // Not `max`, which would hide NaN.
            out.extend(sums.map(|y| if y < 0.0 { 0.0 } else { y }));
        }
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        bias: &Tensor,
        y: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let width = x.dim(1)?;
        let gradient = gradient.contiguous()?;
        let mut sums = vec![0f32; width];
        let mut passed = Vec::with_capacity(gradient.elem_count());
        with_values(&gradient, |gradient| {
            with_values(y, |y| {
                for (row, y) in gradient.chunks_exact(width.max(1)).zip(y.chunks_exact(width.max(1))) {
                    passed.extend(row.iter().zip(y).map(|(&g, &y)| if y > 0.0 { g } else { 0.0 }));
                    let row = &passed[passed.len() - width..];
                    sums.iter_mut().zip(row).for_each(|(sum, g)| *sum += g);
                }
            })
        })??;
        let passed = Tensor::from_vec(passed, x.shape(), x.device())?;
        Ok((Some(passed), Some(Tensor::from_vec(sums, bias.shape(), x.device())?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    /// The composed operations are the truth, forward and backward.
    #[test]
    fn agrees_with_the_composed_operations() {
        let x: Vec<f32> = (0..35).map(|i| ((i * 7 % 13) as f32 - 6.0) * 0.37).collect();
        let x = Var::from_tensor(&Tensor::from_vec(x, (5, 7), &Device::Cpu).unwrap()).unwrap();
        let bias = Var::new(&[0.3f32, -0.2, 0.0, 1.0, -1.0, 0.1, 0.5], &Device::Cpu).unwrap();
        let truth = x.broadcast_add(&bias).unwrap().relu().unwrap();
        let fused = rectify(&x, &bias).unwrap();
        let all = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(all(&fused), all(&truth));
        let (fused, truth) =
            [fused, truth].map(|y| (y.sqr().unwrap().sum_all().unwrap()).backward().unwrap()).into();
        for variable in [&x, &bias] {
            let (a, b) = (all(fused.get(variable).unwrap()), all(truth.get(variable).unwrap()));
            for (a, b) in a.iter().zip(&b) {
                assert!((a - b).abs() < 1e-5, "{a} {b}");
            }
        }
    }

    #[test]
    fn nan_comes_through() {
        let x = Tensor::new(&[[f32::NAN, -1.0]], &Device::Cpu).unwrap();
        let bias = Tensor::new(&[0f32, 0.0], &Device::Cpu).unwrap();
        let y = rectify(&x, &bias).unwrap().to_vec2::<f32>().unwrap();
        assert!(y[0][0].is_nan() && y[0][1] == 0.0);
    }
}
