//! Instance normalisation: each variate by its own mean and standard deviation, then the inverse hyperbolic sine.
//!
//! The reference works in float32, where a series around 1e9 with unit changes loses its signal. Here sums run in float64;
//! for ordinary data the difference is far below what the network's own rounding does.

/// Location and scale of one variate, in its unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scaling {
    /// Mean of the values present.
    pub loc: f64,
    /// Their population standard deviation.
    pub scale: f64,
    arcsinh: bool,
}

/// The scale of a constant variate: the reference's, which is absolute. Of one below 1 it is that share, or the forecast of a
/// constant price would be mostly noise in small units; above 1 the absolute one is the smaller share.
const CONSTANT_SCALE: f64 = 1e-5;

fn scale_of_constant(loc: f64) -> f64 {
    let level = loc.abs();
    CONSTANT_SCALE * if level > 0.0 { level.min(1.0) } else { 1.0 }
}

impl Scaling {
    /// The scaling of a history; NaN is missing, and a history of nothing else has location 0 and scale 1.
    pub fn of(history: &[f64], arcsinh: bool) -> Self {
        let present = || history.iter().copied().filter(|value| !value.is_nan());
        let count = present().count() as f64;
        if count == 0.0 {
            return Self { loc: 0.0, scale: 1.0, arcsinh };
        }
        let (least, most) =
            present().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
        // Compared, because the mean of equal values need not round to that value.
        if least == most {
            return Self { loc: least, scale: scale_of_constant(least), arcsinh };
        }
        let loc = present().sum::<f64>() / count;
        let variance = present().map(|value| (value - loc).powi(2)).sum::<f64>() / count;
        let scale = if variance > 0.0 { variance.sqrt() } else { scale_of_constant(loc) };
        Self { loc, scale, arcsinh }
    }

    /// Into the space of the network.
    pub fn apply(&self, value: f64) -> f32 {
        let z = (value - self.loc) / self.scale;
        (if self.arcsinh { z.asinh() } else { z }) as f32
    }

    /// Back into the unit of the variate.
    pub fn invert(&self, z: f32) -> f64 {
        let z = f64::from(z);
        (if self.arcsinh { z.sinh() } else { z }) * self.scale + self.loc
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_by_hand() {
        let scaling = Scaling::of(&[f64::NAN, 2.0, 4.0, f64::NAN, 6.0], true);
        assert_eq!(scaling.loc, 4.0);
        assert!((scaling.scale - (8.0f64 / 3.0).sqrt()).abs() < 1e-15);
        assert!((f64::from(scaling.apply(6.0)) - 1.5f64.sqrt().asinh()).abs() < 1e-7);
        assert!((scaling.invert(scaling.apply(5.5)) - 5.5).abs() < 1e-6);
        assert!(scaling.apply(f64::NAN).is_nan());
    }

    #[test]
    fn constants_and_absence() {
        for value in [0.1, 0.3, 123.456, 1e300, -7.0] {
            let scaling = Scaling::of(&[value; 7], true);
            assert_eq!((scaling.loc, scaling.apply(value)), (value, 0.0));
        }
        let scaling = Scaling::of(&[f64::NAN; 3], false);
        assert_eq!((scaling.loc, scaling.scale), (0.0, 1.0));
    }

    #[test]
    fn a_constant_of_any_size_keeps_to_its_level() {
        for value in [1e-12, -1e-5, 0.5, 1.0, 1e12] {
            let scaling = Scaling::of(&[value; 7], true);
            assert!(scaling.scale <= 1e-5 * value.abs(), "{value}: {scaling:?}");
        }
        assert_eq!([0.0, 1.0, 123.456].map(|value| Scaling::of(&[value; 7], true).scale), [1e-5; 3]);
    }

    /// A signal of one unit on an offset of a billion survives.
    #[test]
    fn large_offsets_keep_their_signal() {
        let history: Vec<f64> = (0..100).map(|i| 1e9 + f64::from(i % 2)).collect();
        let scaling = Scaling::of(&history, false);
        assert_eq!((scaling.apply(history[0]), scaling.apply(history[1])), (-1.0, 1.0));
    }
}
