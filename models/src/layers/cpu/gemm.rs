//! Matrix products with packed weights whose bits do not depend on the batch.
//!
//! A general matrix library picks blocking and even the summation order by the shape, so a row alone and the same row in
//! a batch differ in the last bits. Here every output element is one chain of fused multiply-adds over k = 0, 1, …,
//! whatever the number of rows, threads or the instruction set: alone equals batch, bit for bit, and cached decoding
//! equals recomputation. Packing the weights once at load makes this as fast as a library: panels of 32 columns are
//! streamed contiguously, rows are packed per call in groups of [`MAX_ROWS`].

use super::exp::silu;
use super::rows::{MAX_ROWS, Rows, group_start};
use super::simd::{Isa, Lanes, WIDTH, dispatch};
use super::threads;
use rayon::prelude::*;
use std::borrow::Cow;
use std::ops::Range;

/// Columns per panel: two vectors.
pub(super) const PANEL: usize = 2 * WIDTH;
/// How many steps along k ahead of their use the weights are asked for, a page of memory: the hardware stops at its end.
const AHEAD: usize = 32;
/// Up to so many rows a product waits for its weights; more rows give them the time to arrive by themselves.
const AHEAD_ROWS: usize = 8;
/// Groups of rows handled between two visits of the same panel, so that they stay in the second-level cache.
const BLOCK_GROUPS: usize = 10;
/// From so many groups per thread on, threads share the rows instead of the columns: each then packs what it reads.
const ROW_GROUPS: usize = 4;
/// Below this many multiply-adds a product runs on the calling thread: waking another costs more.
const PARALLEL_WORK: usize = 1 << 18;

/// What is done with a finished product before it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Epilogue {
    /// y = x·Wᵀ + b.
    Plain,
    /// y = max(x·Wᵀ + b, 0).
    Relu,
    /// y = silu(x·Gᵀ) ⊙ (x·Uᵀ), with G and U interleaved at packing.
    SwiGlu,
}

/// Weights of one linear map, packed for the kernel.
#[derive(Debug, Clone)]
pub struct Packed {
    data: Vec<f32>,
    bias: Vec<f32>,
    columns: usize,
    depth: usize,
    epilogue: Epilogue,
}

impl Packed {
    /// Packs `weight` [columns, depth] row-major, as PyTorch stores it, with an optional bias [columns].
    pub fn plain(weight: &[f32], bias: Option<&[f32]>, columns: usize, depth: usize) -> Self {
        Self::with_epilogue(weight, bias, columns, depth, Epilogue::Plain)
    }

    /// As [`Packed::plain`], with everything negative replaced by zero before a residual is added.
    pub fn rectified(weight: &[f32], bias: Option<&[f32]>, columns: usize, depth: usize) -> Self {
        Self::with_epilogue(weight, bias, columns, depth, Epilogue::Relu)
    }

    fn with_epilogue(
        weight: &[f32],
        bias: Option<&[f32]>,
        columns: usize,
        depth: usize,
        epilogue: Epilogue,
    ) -> Self {
        let row = |column: usize| (column < columns).then(|| &weight[column * depth..(column + 1) * depth]);
        let data = pack(columns.div_ceil(PANEL), depth, |panel, lane| row(panel * PANEL + lane));
        let mut padded = vec![0.0; columns.div_ceil(PANEL) * PANEL];
        if let Some(bias) = bias {
            padded[..columns].copy_from_slice(bias);
        }
        Self { data, bias: padded, columns, depth, epilogue }
    }

    /// Packs the two halves of a gated unit, each [columns, depth]: a panel holds sixteen gates and their sixteen values.
    pub fn gated(gate: &[f32], up: &[f32], columns: usize, depth: usize) -> Self {
        let data = pack(columns.div_ceil(WIDTH), depth, |panel, lane| {
            let (matrix, lane) = if lane < WIDTH { (gate, lane) } else { (up, lane - WIDTH) };
            let column = panel * WIDTH + lane;
            (column < columns).then(|| &matrix[column * depth..(column + 1) * depth])
        });
        Self { data, bias: Vec::new(), columns, depth, epilogue: Epilogue::SwiGlu }
    }

    /// Output columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Input columns.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        (self.data.len() + self.bias.len()) * size_of::<f32>()
    }

    /// Output columns that one panel yields.
    fn panel_columns(&self) -> usize {
        match self.epilogue {
            Epilogue::Plain | Epilogue::Relu => PANEL,
            Epilogue::SwiGlu => WIDTH,
        }
    }

    /// Multiplies `rows` rows of `x` [rows, depth], adds `residual` [rows, columns] if given, and returns [rows, columns].
    pub fn multiply(&self, x: Rows<'_>, rows: usize, residual: Option<&[f32]>) -> Vec<f32> {
        self.multiply_on(Isa::detect(), x, rows, residual)
    }

    fn multiply_on(&self, isa: Isa, x: Rows<'_>, rows: usize, residual: Option<&[f32]>) -> Vec<f32> {
        assert_eq!(x.values.len(), rows * self.depth);
        assert!(residual.is_none_or(|r| r.len() == rows * self.columns));
        let mut out = Vec::<f32>::with_capacity(rows * self.columns);
        let target = Target {
            out: out.as_mut_ptr(),
            residual: residual.map_or(std::ptr::null(), <[f32]>::as_ptr),
            columns: self.columns,
        };
        // SAFETY: `out` has room for every row, `residual` was checked to be of that size, and so was `x`.
        unsafe {
            self.run(isa, Source::Rows(x), rows, &target);
            out.set_len(rows * self.columns);
        }
        out
    }

    /// Multiplies rows that lie as [`Rows::pack`] would have packed them and writes [rows, columns] to `out`.
    ///
    /// # Safety
    /// `packed_rows` holds rows · depth values; `out` has room for rows · columns, and `residual` is null, or holds as
    /// many and may be `out` itself.
    pub(super) unsafe fn multiply_packed(
        &self,
        isa: Isa,
        packed_rows: &[f32],
        rows: usize,
        residual: *const f32,
        out: *mut f32,
    ) {
        // SAFETY: passed on to the caller.
        unsafe {
            self.run(
                isa,
                Source::Packed(packed_rows),
                rows,
                &Target { out, residual, columns: self.columns },
            );
        }
    }

    /// # Safety
    /// `source` holds rows · depth values, `target` takes rows · columns.
    unsafe fn run(&self, isa: Isa, source: Source<'_>, rows: usize, target: &Target) {
        let panels = self.columns.div_ceil(self.panel_columns());
        let groups = rows.div_ceil(MAX_ROWS);
        // `packed` are the rows of `groups`.
        let run = |packed: &[f32], groups: Range<usize>, panels: Range<usize>| {
            let first = group_start(groups.start, rows);
            for panel in panels {
                let weights = &self.data[panel * self.depth * PANEL..(panel + 1) * self.depth * PANEL];
                let column = panel * self.panel_columns();
                for group in groups.clone() {
                    let row = group_start(group, rows);
                    let n = group_start(group + 1, rows) - row;
                    let tile = Tile {
                        x: packed[(row - first) * self.depth..].as_ptr(),
                        weights: weights.as_ptr(),
                        bias: if self.bias.is_empty() {
                            std::ptr::null()
                        } else {
                            self.bias[column..].as_ptr()
                        },
                        depth: self.depth,
                        row,
                        column,
                        epilogue: self.epilogue,
                    };
                    // SAFETY: `packed` holds n·depth values from there, `weights` depth·32, `bias` 32 from `column`;
                    // (row, column) tiles are disjoint, so no two calls write the same output.
                    unsafe { tile_kernel(isa, n, &tile, target) };
                }
            }
        };
        let packed = |groups: Range<usize>| match source {
            Source::Rows(x) => Cow::Owned(x.pack(isa, rows, self.depth, groups)),
            Source::Packed(all) => Cow::Borrowed(
                &all[group_start(groups.start, rows) * self.depth
                    ..group_start(groups.end, rows) * self.depth],
            ),
        };
        let in_blocks = |blocks: usize, block: usize| {
            let range = block * groups / blocks..(block + 1) * groups / blocks;
            run(&packed(range.clone()), range, 0..panels);
        };
        let threads = threads::available();
        let blocks = groups.div_ceil(BLOCK_GROUPS);
        if rows * self.depth * self.columns < PARALLEL_WORK || threads == 1 {
            (0..blocks).for_each(|block| in_blocks(blocks, block));
        } else if groups >= ROW_GROUPS * threads {
            let blocks = blocks.next_multiple_of(threads);
            (0..blocks).into_par_iter().for_each(|block| in_blocks(blocks, block));
        } else {
            let packed = packed(0..groups);
            // A few chunks per thread even out their speeds; a chunk of whole panels keeps the weights streaming.
            let chunk = panels.div_ceil(4 * threads).max(1);
            (0..panels.div_ceil(chunk)).into_par_iter().for_each(|index| {
                run(&packed, 0..groups, index * chunk..((index + 1) * chunk).min(panels));
            });
        }
    }

    /// A plain map of panels that lie ready; `bias` covers whole panels.
    pub(super) fn from_panels(data: Vec<f32>, bias: Vec<f32>, columns: usize, depth: usize) -> Self {
        debug_assert_eq!(data.len(), columns.div_ceil(PANEL) * PANEL * depth);
        debug_assert_eq!(bias.len(), columns.div_ceil(PANEL) * PANEL);
        Self { data, bias, columns, depth, epilogue: Epilogue::Plain }
    }
}

/// Panels of 32 lanes, depth-major inside a panel; lanes without a column are zero.
fn pack<'w>(panels: usize, depth: usize, lane: impl Fn(usize, usize) -> Option<&'w [f32]>) -> Vec<f32> {
    let mut data = vec![0.0; panels * depth * PANEL];
    for (panel, chunk) in data.chunks_exact_mut((depth * PANEL).max(1)).enumerate() {
        for j in 0..PANEL {
            let Some(row) = lane(panel, j) else { continue };
            for (k, &w) in row.iter().enumerate() {
                chunk[k * PANEL + j] = w;
            }
        }
    }
    data
}

/// One call of the micro-kernel.
struct Tile {
    x: *const f32,
    weights: *const f32,
    bias: *const f32,
    depth: usize,
    row: usize,
    column: usize,
    epilogue: Epilogue,
}

/// Where rows come from.
#[derive(Clone, Copy)]
enum Source<'a> {
    /// As they are.
    Rows(Rows<'a>),
    /// Packed before.
    Packed(&'a [f32]),
}

/// Where results go.
struct Target {
    out: *mut f32,
    residual: *const f32,
    columns: usize,
}

// SAFETY: threads write disjoint tiles of `out` and only read `residual`.
unsafe impl Sync for Target {}

dispatch! {
    /// Computes one tile of `rows` ≤ [`MAX_ROWS`] rows and one panel of columns.
    fn tile_kernel(rows: usize, tile: &Tile, target: &Target) = by_rows
}

#[inline(always)]
unsafe fn by_rows<L: Lanes>(rows: usize, tile: &Tile, target: &Target) {
    macro_rules! pick {
        ($($n:literal)*) => {
            match rows {
                // SAFETY: passed on to the caller.
                $($n => unsafe { kernel::<L, $n>(tile, target) },)*
                _ => {}
            }
        };
    }
    pick!(1 2 3 4 5 6 7 8 9 10 11 12 13 14)
}

/// # Safety
/// `tile.x` points to ROWS·depth values (depth-major), `tile.weights` to depth·32, `tile.bias` to 32 or is null; the
/// tile lies inside `target`, whose `residual` is null or of the size of `out`.
#[inline(always)]
unsafe fn kernel<L: Lanes, const ROWS: usize>(tile: &Tile, target: &Target) {
    // SAFETY: the caller's contract bounds every pointer below.
    unsafe {
        let mut left = [L::splat(0.0); ROWS];
        let mut right = [L::splat(0.0); ROWS];
        let (mut x, mut w) = (tile.x, tile.weights);
        for _ in 0..tile.depth {
            if ROWS <= AHEAD_ROWS {
                L::prefetch(w.wrapping_add(AHEAD * PANEL));
                L::prefetch(w.wrapping_add(AHEAD * PANEL + WIDTH));
            }
            let (w0, w1) = (L::load(w), L::load(w.add(WIDTH)));
            for r in 0..ROWS {
                let v = L::splat(*x.add(r));
                left[r] = v.fma(w0, left[r]);
                right[r] = v.fma(w1, right[r]);
            }
            x = x.add(ROWS);
            w = w.add(PANEL);
        }
        match tile.epilogue {
            Epilogue::Plain | Epilogue::Relu => {
                let (b0, b1) = (L::load(tile.bias), L::load(tile.bias.add(WIDTH)));
                // The zero first: a comparison with NaN yields the second operand, and NaN must come through.
                let zero = L::splat(0.0);
                let rectify = matches!(tile.epilogue, Epilogue::Relu);
                let finish = |y: L| if rectify { zero.max(y) } else { y };
                for r in 0..ROWS {
                    let at = (tile.row + r) * target.columns + tile.column;
                    store(finish(left[r].add(b0)), at, target.columns - tile.column, target);
                    if target.columns - tile.column > WIDTH {
                        store(
                            finish(right[r].add(b1)),
                            at + WIDTH,
                            target.columns - tile.column - WIDTH,
                            target,
                        );
                    }
                }
            }
            Epilogue::SwiGlu => {
                for r in 0..ROWS {
                    let at = (tile.row + r) * target.columns + tile.column;
                    store(silu(left[r]).mul(right[r]), at, target.columns - tile.column, target);
                }
            }
        }
    }
}

/// Adds the residual and writes one vector, or the part of it that lies inside the matrix.
///
/// # Safety
/// `at` and the following min(16, `columns_left`) values lie inside `target`.
#[inline(always)]
unsafe fn store<L: Lanes>(value: L, at: usize, columns_left: usize, target: &Target) {
    // SAFETY: the caller's contract.
    unsafe {
        if columns_left >= WIDTH {
            let value =
                if target.residual.is_null() { value } else { L::load(target.residual.add(at)).add(value) };
            value.store(target.out.add(at));
            return;
        }
        let mut lanes = [0f32; WIDTH];
        value.store(lanes.as_mut_ptr());
        for (j, lane) in lanes.iter().enumerate().take(columns_left) {
            let residual = if target.residual.is_null() { 0.0 } else { *target.residual.add(at + j) };
            *target.out.add(at + j) = residual + lane;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Deterministic values in [-1, 1).
    fn values(n: usize, seed: u64) -> Vec<f32> {
        let stream = crate::random::Stream::from_key(seed);
        (0..n).map(|i| stream.uniform(i as u32, 0, 0) as f32 * 2.0 - 1.0).collect()
    }

    #[test]
    fn agrees_with_f64_for_every_number_of_rows() {
        for (columns, depth) in [(1, 1), (16, 7), (33, 48), (96, 32), (250, 65)] {
            let (w, b) = (values(columns * depth, 1), values(columns, 2));
            let packed = Packed::plain(&w, Some(&b), columns, depth);
            for rows in [1, 2, 3, 13, 14, 15, 29, 141] {
                let (x, residual) = (values(rows * depth, 3), values(rows * columns, 4));
                let y = packed.multiply(x.as_slice().into(), rows, Some(&residual));
                for (i, &y) in y.iter().enumerate() {
                    let (row, column) = (i / columns, i % columns);
                    let dot: f64 = (0..depth)
                        .map(|k| f64::from(x[row * depth + k]) * f64::from(w[column * depth + k]))
                        .sum();
                    let truth = dot + f64::from(b[column]) + f64::from(residual[i]);
                    assert!(
                        (f64::from(y) - truth).abs() < 1e-5,
                        "{columns}x{depth}, {rows} rows: {y} {truth}"
                    );
                }
            }
        }
    }

    #[test]
    fn rectified_products_are_the_plain_ones_without_their_negatives() {
        let (columns, depth, rows) = (40, 24, 17);
        let (w, b, x) = (values(columns * depth, 5), values(columns, 6), values(rows * depth, 7));
        let plain = Packed::plain(&w, Some(&b), columns, depth).multiply(x.as_slice().into(), rows, None);
        let rectified = Packed::rectified(&w, Some(&b), columns, depth);
        let expected: Vec<f32> = plain.iter().map(|y| y.max(0.0)).collect();
        assert!(expected.contains(&0.0) && expected.iter().any(|&y| y > 0.0));
        for isa in Isa::available() {
            assert_eq!(rectified.multiply_on(isa, x.as_slice().into(), rows, None), expected, "{isa:?}");
            let unknown = rectified.multiply_on(isa, vec![f32::NAN; depth].as_slice().into(), 1, None);
            assert!(unknown.iter().all(|y| y.is_nan()), "{isa:?}");
        }
    }

    #[test]
    fn gated_unit_agrees_with_f64() {
        let (columns, depth, rows) = (40, 24, 17);
        let (g, u, x) = (values(columns * depth, 5), values(columns * depth, 6), values(rows * depth, 7));
        let y = Packed::gated(&g, &u, columns, depth).multiply(x.as_slice().into(), rows, None);
        for (i, &y) in y.iter().enumerate() {
            let dot = |m: &[f32]| -> f64 {
                (0..depth)
                    .map(|k| f64::from(x[i / columns * depth + k]) * f64::from(m[i % columns * depth + k]))
                    .sum()
            };
            let (gate, up) = (dot(&g), dot(&u));
            assert!((f64::from(y) - gate / (1.0 + (-gate).exp()) * up).abs() < 1e-5);
        }
    }

    /// The promise everything rests on: a row's result does not depend on the other rows, the threads or the machine.
    #[test]
    fn a_row_alone_equals_the_row_in_any_batch_bitwise() {
        let (columns, depth, rows) = (200, 130, 150);
        let (w, x) = (values(columns * depth, 8), values(rows * depth, 9));
        let packed = Packed::plain(&w, None, columns, depth);
        let batch = packed.multiply(x.as_slice().into(), rows, None);
        for isa in Isa::available() {
            assert_eq!(packed.multiply_on(isa, x.as_slice().into(), rows, None), batch, "{isa:?}");
            for row in [0, 13, 14, 77, 149] {
                let alone = packed.multiply_on(isa, x[row * depth..(row + 1) * depth].into(), 1, None);
                assert_eq!(alone, batch[row * columns..(row + 1) * columns], "{isa:?}, row {row}");
            }
        }
    }
}
