//! Rotary position embedding, the "rotate half" form of NeoX and Llama.

use std::sync::{Arc, RwLock};

/// Rotations of positions 0, 1, … for one head width, extended as longer sequences come.
#[derive(Debug)]
pub struct Rope {
    dim: usize,
    base: f64,
    table: RwLock<Arc<RopeTable>>,
}

/// Cosine and sine of position · frequency, for all positions below [`RopeTable::positions`].
#[derive(Debug)]
pub struct RopeTable {
    half: usize,
    /// [position][cos × half, sin × half]
    values: Vec<f32>,
}

impl Rope {
    /// Frequencies base^(−2k / dim) for an even head width `dim`.
    pub fn new(dim: usize, base: f64) -> Self {
        let table = RopeTable { half: dim / 2, values: Vec::new() };
        Self { dim, base, table: RwLock::new(Arc::new(table)) }
    }

    /// The table for at least `positions` positions.
    pub fn table(&self, positions: usize) -> Arc<RopeTable> {
        let current = self.table.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        if current.positions() >= positions {
            return current;
        }
        let grown = Arc::new(self.compute(positions.next_power_of_two()));
        let mut table = self.table.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if table.positions() < grown.positions() {
            *table = Arc::clone(&grown);
        }
        grown
    }

    /// Angles are rounded to f32 as upstream's float32 tables are; cosine and sine of them are then exact to the last bit.
    fn compute(&self, positions: usize) -> RopeTable {
        let half = self.dim / 2;
        let frequencies: Vec<f32> = (0..half)
            .map(|k| 1.0 / self.base.powf(f64::from((2 * k) as f32 / self.dim as f32)) as f32)
            .collect();
        let mut values = Vec::with_capacity(positions * self.dim);
        for position in 0..positions {
            let angles = frequencies.iter().map(|f| f64::from(position as f32 * f));
            values.extend(angles.clone().map(|a| a.cos() as f32));
            values.extend(angles.map(|a| a.sin() as f32));
        }
        RopeTable { half, values }
    }
}

impl RopeTable {
    /// Positions the table covers.
    pub fn positions(&self) -> usize {
        self.values.len().checked_div(2 * self.half).unwrap_or(0)
    }

    /// Cosines and sines of one position, `dim / 2` of each.
    pub fn angles(&self, position: usize) -> (&[f32], &[f32]) {
        let dim = 2 * self.half;
        self.values[position * dim..(position + 1) * dim].split_at(self.half)
    }

    /// Rotates all heads of one row [heads · dim] at `position`.
    pub fn rotate(&self, row: &mut [f32], position: usize) {
        let (cos, sin) = self.angles(position);
        for head in row.chunks_exact_mut(2 * self.half) {
            let (first, second) = head.split_at_mut(self.half);
            for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
            }
        }
    }

    /// Undoes [`RopeTable::rotate`]; the gradient of a rotation.
    pub fn rotate_back(&self, row: &mut [f32], position: usize) {
        let (cos, sin) = self.angles(position);
        for head in row.chunks_exact_mut(2 * self.half) {
            let (first, second) = head.split_at_mut(self.half);
            for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                (*a, *b) = (*a * cos + *b * sin, *b * cos - *a * sin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_keeps_length_and_depends_on_the_distance_only() {
        let rope = Rope::new(8, 10_000.0);
        let table = rope.table(100);
        let q = [0.3, -1.0, 2.0, 0.5, 1.5, -0.7, 0.1, 0.9];
        let k = [1.0, 0.2, -0.4, 0.8, -1.1, 0.6, 0.3, -0.2];
        let dot = |i: usize, j: usize| {
            let (mut q, mut k) = (q, k);
            table.rotate(&mut q, i);
            table.rotate(&mut k, j);
            q.iter().zip(k).map(|(a, b)| f64::from(a * b)).sum::<f64>()
        };
        assert!((dot(5, 3) - dot(97, 95)).abs() < 1e-5);
        assert!((dot(5, 3) - dot(5, 4)).abs() > 1e-2);
        let mut at_zero = q;
        table.rotate(&mut at_zero, 0);
        assert_eq!(at_zero, q);
        let mut there_and_back = q;
        table.rotate(&mut there_and_back, 61);
        table.rotate_back(&mut there_and_back, 61);
        assert!(there_and_back.iter().zip(q).all(|(a, b)| (a - b).abs() < 1e-6));
    }

    #[test]
    fn growing_the_table_changes_no_entry() {
        let rope = Rope::new(6, 10_000.0);
        let short = rope.table(3);
        let long = rope.table(1000);
        assert_eq!(short.values, long.values[..short.values.len()]);
        assert!(rope.table(10).positions() >= 1000);
    }
}
