//! The autoregressive model over token pairs; see [`crate::kronos::predictor`].

use crate::artifact::Tensors;
use crate::bars::Stamp;
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::kronos::config::{CALENDAR_TABLES, DEPENDENCY_HEADS, PredictorConfig};
use crate::kronos::tokenizer::Token;
use crate::layers::accelerated::attention::{Paths, Shared};
use crate::layers::accelerated::block::{Memory, SharedMemory, Stack};
use crate::layers::accelerated::{Linear, Place, RmsNorm, bytes};
use crate::layers::cpu::cache::HeadShape;
use crate::layers::linear::tensor;
use candle_core::{Device, Tensor};

/// A context that paths continue.
#[derive(Debug)]
pub struct Prefix {
    blocks: SharedMemory,
    dependency: Shared,
}

/// Paths of one length.
#[derive(Debug)]
pub struct PathBatch {
    blocks: Memory,
    dependency: Paths,
}

/// The predictor, placed.
#[derive(Debug)]
pub struct Predictor {
    place: Place,
    config: PredictorConfig,
    /// [vocabulary, width]: fusion of the scaled coarse embedding, with the projection's bias.
    fused_s1: Tensor,
    /// [vocabulary, width]: fusion of the scaled fine embedding.
    fused_s2: Tensor,
    /// [vocabulary, width]: query of the dependency layer for a coarse token.
    dependency_query: Tensor,
    calendar: Vec<Tensor>,
    stack: Stack,
    norm: RmsNorm,
    dependency_kv: Linear,
    dependency_out: Linear,
    dependency_norm: RmsNorm,
    head_s1: Linear,
    head_s2: Linear,
}

impl Predictor {
    /// Places the tensors that [`PredictorConfig::tensors`] lists.
    pub fn load(place: &Place, config: &PredictorConfig, tensors: &Tensors) -> Result<Self> {
        config.validate()?;
        let exact = |name: &str| place.exact(tensor(tensors, name)?);
        let d = config.d_model;
        let (emb_s1, emb_s2) = (exact("embedding.emb_s1.weight")?, exact("embedding.emb_s2.weight")?);
        let fusion = exact("embedding.fusion_proj.weight")?;
        let scale = f64::from((d as f32).sqrt());
        // Products of constants, in float32 whatever the precision of the rest.
        let fused = |rows: &Tensor, from: usize| (rows * scale)?.matmul(&fusion.narrow(1, from, d)?.t()?);
        let attention = |name: &str| format!("dep_layer.cross_attn.{name}_proj");
        let query =
            (exact(&format!("{}.weight", attention("q")))?, exact(&format!("{}.bias", attention("q")))?);
        Ok(Self {
            place: place.clone(),
            config: config.clone(),
            fused_s1: fused(&emb_s1, 0)?.broadcast_add(&exact("embedding.fusion_proj.bias")?)?,
            fused_s2: fused(&emb_s2, d)?,
            dependency_query: emb_s1.matmul(&query.0.t()?)?.broadcast_add(&query.1)?,
            calendar: CALENDAR_TABLES
                .iter()
                .map(|(name, _)| exact(&config.calendar_key(name)))
                .collect::<Result<_>>()?,
            stack: Stack::load(place, config.stack(), tensors, "transformer")?,
            norm: RmsNorm::load(place, tensors, "norm.weight", 1e-5)?,
            dependency_kv: Linear::stacked(place, tensors, &[attention("k"), attention("v")])?,
            dependency_out: Linear::load(place, tensors, &attention("out"))?,
            dependency_norm: RmsNorm::load(place, tensors, "dep_layer.norm.weight", 1e-5)?,
            head_s1: Linear::load(place, tensors, "head.proj_s1")?,
            head_s2: Linear::load(place, tensors, "head.proj_s2")?,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &PredictorConfig {
        &self.config
    }

    fn dependency_shape(&self) -> HeadShape {
        HeadShape { heads: DEPENDENCY_HEADS, dim: self.config.d_model / DEPENDENCY_HEADS }
    }

    /// Paths without positions, with room for `capacity`.
    fn wave(&self, paths: usize, capacity: usize) -> PathBatch {
        PathBatch {
            blocks: self.stack.memory(paths, capacity),
            dependency: Paths::new(&self.place, self.dependency_shape(), paths, capacity, None),
        }
    }

    /// Paths that continue a context with room for `capacity` more positions.
    pub fn branch(&self, root: &Prefix, paths: usize, capacity: usize) -> PathBatch {
        let dependency = Some(root.dependency.clone());
        PathBatch {
            blocks: self.stack.branch(&root.blocks, paths, capacity),
            dependency: Paths::new(&self.place, self.dependency_shape(), paths, capacity, dependency),
        }
    }

    /// Runs contexts of `rows[s]` bars; returns what their paths continue and their newest hidden rows, on the host.
    pub fn contexts(
        &self,
        tokens: &[Token],
        stamps: &[Stamp],
        rows: &[usize],
        interrupt: &dyn Interrupt,
    ) -> Result<(Vec<Prefix>, Tensor)> {
        let mut waves: Vec<PathBatch> = rows.iter().map(|&n| self.wave(1, n)).collect();
        let mut each: Vec<&mut PathBatch> = waves.iter_mut().collect();
        let hidden = self.advance(tokens, stamps, &mut each, rows, interrupt)?;
        let root = |wave: PathBatch| {
            Ok(Prefix { blocks: wave.blocks.freeze()?, dependency: wave.dependency.freeze()? })
        };
        Ok((waves.into_iter().map(root).collect::<Result<_>>()?, hidden))
    }

    /// Runs whole windows of several paths anew; returns their newest hidden rows, on the host.
    pub fn windows(
        &self,
        tokens: &[Token],
        stamps: &[Stamp],
        paths: usize,
        interrupt: &dyn Interrupt,
    ) -> Result<(PathBatch, Tensor)> {
        let mut wave = self.wave(paths, stamps.len());
        let stamps = stamps.repeat(paths);
        let rows = stamps.len() / paths;
        let hidden = self.advance(tokens, &stamps, &mut [&mut wave], &[rows], interrupt)?;
        Ok((wave, hidden))
    }

    /// Runs `rows[w]` new bars of each path of wave w through the blocks; returns the newest normed hidden row of each
    /// path, on the host.
    pub fn advance(
        &self,
        tokens: &[Token],
        stamps: &[Stamp],
        waves: &mut [&mut PathBatch],
        rows: &[usize],
        interrupt: &dyn Interrupt,
    ) -> Result<Tensor> {
        let x = self.embed(tokens, stamps)?;
        let mut blocks: Vec<&mut Memory> = waves.iter_mut().map(|wave| &mut wave.blocks).collect();
        let hidden = self.norm.forward(&self.stack.forward(x, &mut blocks, rows, interrupt)?)?;
        let kv = self.dependency_kv.forward(&hidden)?;
        let (keys, values) = (self.by_head(&kv, 0)?, self.by_head(&kv, 1)?);
        let mut newest = Vec::new();
        let mut start = 0;
        for (wave, &rows) in waves.iter_mut().zip(rows) {
            let n = wave.dependency.paths() * rows;
            wave.dependency.append(&keys.narrow(1, start, n)?, &values.narrow(1, start, n)?)?;
            newest.extend((0..wave.dependency.paths()).map(|path| (start + (path + 1) * rows - 1) as u32));
            start += n;
        }
        let newest = hidden.index_select(&self.place.rows(newest)?, 0)?;
        Ok(newest.to_device(&Device::Cpu)?)
    }

    /// The given part of rows [rows, parts · width], [heads, rows, dim].
    fn by_head(&self, x: &Tensor, part: usize) -> Result<Tensor> {
        let HeadShape { heads, dim } = self.dependency_shape();
        let part = x.narrow(1, part * heads * dim, heads * dim)?;
        Ok(part.reshape((x.dim(0)?, heads, dim))?.transpose(0, 1)?.contiguous()?)
    }

    fn embed(&self, tokens: &[Token], stamps: &[Stamp]) -> Result<Tensor> {
        let look_up = |table: &Tensor, rows: Vec<u32>| {
            Ok::<_, crate::ModelError>(table.index_select(&self.place.rows(rows)?, 0)?)
        };
        let s1 = look_up(&self.fused_s1, tokens.iter().map(|token| token.s1.into()).collect())?;
        let s2 = look_up(&self.fused_s2, tokens.iter().map(|token| token.s2.into()).collect())?;
        let fields: [fn(&Stamp) -> u32; 5] = [
            |stamp| stamp.minute.into(),
            |stamp| stamp.hour.into(),
            |stamp| stamp.weekday.into(),
            |stamp| stamp.day.into(),
            |stamp| stamp.month.into(),
        ];
        let mut time: Option<Tensor> = None;
        for (table, field) in self.calendar.iter().zip(fields) {
            let rows = look_up(table, stamps.iter().map(field).collect())?;
            time = Some(match time {
                Some(time) => (time + rows)?,
                None => rows,
            });
        }
        let tokens = (s1 + s2)?;
        Ok(match time {
            Some(time) => (tokens + time)?,
            None => tokens,
        })
    }

    /// Logits of the coarse token for hidden rows, from host to host.
    pub fn s1_logits(&self, hidden: &Tensor) -> Result<Tensor> {
        Ok(self.head_s1.forward(&self.place.exact(hidden)?)?.to_device(&Device::Cpu)?)
    }

    /// Logits of the fine token, given the coarse one just drawn for each path of the waves, from host to host.
    pub fn s2_logits<'w>(
        &self,
        hidden: &Tensor,
        s1: &[u16],
        waves: impl Iterator<Item = &'w PathBatch>,
    ) -> Result<Tensor> {
        let s1 = self.place.rows(s1.iter().map(|&s1| s1.into()).collect())?;
        let scale = 1.0 / (self.dependency_shape().dim as f64).sqrt();
        let queries = (self.by_head(&self.dependency_query.index_select(&s1, 0)?, 0)? * scale)?;
        let mut attended = Vec::new();
        let mut start = 0;
        for wave in waves {
            let n = wave.dependency.paths();
            attended.push(wave.dependency.attend(&queries.narrow(1, start, n)?)?);
            start += n;
        }
        let attended = self.dependency_out.forward(&Tensor::cat(&attended, 0)?)?;
        let y = self.dependency_norm.forward(&(self.place.exact(hidden)? + attended)?)?;
        Ok(self.head_s2.forward(&y)?.to_device(&Device::Cpu)?)
    }

    /// Bytes of cache that `positions` positions of one path take.
    pub fn cache_bytes(&self, positions: usize) -> u64 {
        let (stack, dependency) = (self.stack.shape(), self.dependency_shape());
        let width = stack.layers * stack.width + dependency.width();
        2 * (positions * width * self.place.width()) as u64
    }

    /// Bytes of the weights and tables.
    pub fn bytes(&self) -> usize {
        let tables = [&self.fused_s1, &self.fused_s2, &self.dependency_query].into_iter();
        let linears = [&self.dependency_kv, &self.dependency_out, &self.head_s1, &self.head_s2];
        tables.chain(&self.calendar).map(bytes).sum::<usize>()
            + linears.iter().map(|linear| linear.bytes()).sum::<usize>()
            + self.stack.bytes()
            + self.norm.bytes()
            + self.dependency_norm.bytes()
    }
}
