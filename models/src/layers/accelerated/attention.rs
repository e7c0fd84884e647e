//! Attention of several paths at once to what they share and to what each has of its own.

use super::Place;
use crate::error::Result;
use crate::layers::cpu::cache::HeadShape;
use candle_core::{DType, Tensor};

/// Queries of a path that meet all their keys together; more would only cost memory, which grows with its square.
const QUERIES: usize = 512;

/// Keys and values that several paths share, [heads, positions, dim] each.
#[derive(Debug, Clone)]
pub struct Shared {
    keys: Tensor,
    values: Tensor,
}

/// Keys and values of several paths of one length in one layer.
#[derive(Debug)]
pub struct Paths {
    place: Place,
    shape: HeadShape,
    paths: usize,
    /// Positions there is room for.
    capacity: usize,
    /// Positions held, without the shared ones.
    len: usize,
    shared: Option<Shared>,
    /// [paths, heads, capacity, dim] each.
    own: Option<(Tensor, Tensor)>,
}

impl Paths {
    /// `paths` paths with room for `capacity` positions after the shared ones.
    pub fn new(
        place: &Place,
        shape: HeadShape,
        paths: usize,
        capacity: usize,
        shared: Option<Shared>,
    ) -> Self {
        Self { place: place.clone(), shape, paths, capacity, len: 0, shared, own: None }
    }

    /// Paths.
    pub fn paths(&self) -> usize {
        self.paths
    }

    /// Positions held, with the shared ones.
    pub fn positions(&self) -> usize {
        self.shared_len() + self.len
    }

    fn shared_len(&self) -> usize {
        self.shared.as_ref().map_or(0, |shared| shared.keys.dims()[1])
    }

    /// Rows [heads, paths · n, dim], path after path, as [paths, heads, n, dim].
    fn by_path(&self, x: &Tensor) -> Result<Tensor> {
        let HeadShape { heads, dim } = self.shape;
        Ok(x.contiguous()?.reshape((heads, self.paths, (), dim))?.transpose(0, 1)?.contiguous()?)
    }

    /// Appends as many positions to every path.
    ///
    /// # Shapes
    /// `keys`, `values`: [heads, paths · n, dim], path after path.
    pub fn append(&mut self, keys: &Tensor, values: &Tensor) -> Result<()> {
        let new = |x: &Tensor| Ok::<_, crate::ModelError>(self.by_path(x)?.to_dtype(self.place.dtype)?);
        let (keys, values) = (new(keys)?, new(values)?);
        let n = keys.dim(2)?;
        match &self.own {
            None if n >= self.capacity => {
                self.capacity = n;
                self.own = Some((keys, values));
            }
            None => {
                let room = (self.paths, self.shape.heads, self.capacity, self.shape.dim);
                let place = |new: &Tensor| {
                    let all = Tensor::zeros(room, self.place.dtype, &self.place.device)?;
                    all.slice_set(new, 2, 0)?;
                    candle_core::Result::Ok(all)
                };
                self.own = Some((place(&keys)?, place(&values)?));
            }
            Some((own_keys, own_values)) => {
                own_keys.slice_set(&keys, 2, self.len)?;
                own_values.slice_set(&values, 2, self.len)?;
            }
        }
        self.len += n;
        Ok(())
    }

    /// What one path holds, for others to continue.
    ///
    /// # Errors
    /// A backend error when there are several paths, or one that shares something itself.
    pub fn freeze(self) -> Result<Shared> {
        match self.own {
            Some((keys, values)) if self.paths == 1 && self.shared.is_none() => {
                let held = |x: Tensor| x.squeeze(0)?.narrow(1, 0, self.len)?.contiguous();
                Ok(Shared { keys: held(keys)?, values: held(values)? })
            }
            _ => Err(candle_core::Error::msg("only one path with positions of its own can be shared").into()),
        }
    }

    /// Lets the newest `n` positions of every path look at all positions up to their own.
    ///
    /// A single query looks at everything there is; it need not have been appended.
    ///
    /// # Shapes
    /// `queries`: [heads, paths · n, dim], scaled, path after path → [paths · n, heads · dim].
    pub fn attend(&self, queries: &Tensor) -> Result<Tensor> {
        let HeadShape { heads, dim } = self.shape;
        let queries = self.by_path(queries)?.to_dtype(self.place.dtype)?;
        let n = queries.dim(2)?;
        let mut blocks = Vec::with_capacity(n.div_ceil(QUERIES));
        for start in (0..n).step_by(QUERIES) {
            let rows = QUERIES.min(n - start);
            let seen = (self.len + start + rows).saturating_sub(n);
            blocks.push(self.attend_block(&queries.narrow(2, start, rows)?.contiguous()?, seen)?);
        }
        let attended = if blocks.len() == 1 { blocks.remove(0) } else { Tensor::cat(&blocks, 2)? };
        Ok(attended.transpose(1, 2)?.contiguous()?.reshape((self.paths * n, heads * dim))?)
    }

    /// Attention of queries the last of which sees `seen` positions of its path's own.
    fn attend_block(&self, queries: &Tensor, seen: usize) -> Result<Tensor> {
        let HeadShape { heads, dim } = self.shape;
        let (paths, rows) = (self.paths, queries.dim(2)?);
        let by_head =
            |x: &Tensor, width: usize| x.transpose(0, 1)?.contiguous()?.reshape((heads, paths * rows, width));
        let back = |x: Tensor, width: usize| x.reshape((heads, paths, rows, width))?.transpose(0, 1);
        let shared = self.shared_len();
        let mut scores = Vec::with_capacity(2);
        if let Some(Shared { keys, .. }) = &self.shared {
            let product = by_head(queries, dim)?.matmul(&keys.transpose(1, 2)?)?;
            scores.push(back(product, shared)?.to_dtype(DType::F32)?);
        }
        let own = self.own.as_ref().filter(|_| seen > 0);
        if let Some((keys, _)) = own {
            let product = queries.matmul(&keys.narrow(2, 0, seen)?.transpose(2, 3)?)?;
            scores.push(self.masked(product.to_dtype(DType::F32)?, rows, seen)?);
        }
        let weights = candle_nn::ops::softmax_last_dim(&Tensor::cat(&scores, 3)?.contiguous()?)?
            .to_dtype(self.place.dtype)?;
        let mut attended: Option<Tensor> = None;
        if let Some(Shared { values, .. }) = &self.shared {
            let product = by_head(&weights.narrow(3, 0, shared)?, shared)?.matmul(values)?;
            attended = Some(back(product, dim)?.to_dtype(DType::F32)?);
        }
        if let Some((_, values)) = own {
            let weights = weights.narrow(3, shared, seen)?.contiguous()?;
            let product = weights.matmul(&values.narrow(2, 0, seen)?)?.to_dtype(DType::F32)?;
            attended = Some(match attended {
                Some(attended) => (attended + product)?,
                None => product,
            });
        }
        Ok(attended.ok_or_else(|| candle_core::Error::msg("there is nothing to look at"))?)
    }

    /// Hides from each of several queries what comes after it.
    fn masked(&self, scores: Tensor, rows: usize, seen: usize) -> Result<Tensor> {
        if rows == 1 {
            return Ok(scores);
        }
        let hidden = |row: usize, key: usize| if key + rows > seen + row { f32::NEG_INFINITY } else { 0.0 };
        let mask = (0..rows).flat_map(|row| (0..seen).map(move |key| hidden(row, key))).collect();
        Ok(scores.broadcast_add(&self.place.matrix(mask, seen)?)?)
    }
}
