//! Scaled dot-product attention over cached keys and values.
//!
//! A job is one head of a few queries that see the same context. Each query's result is computed in one fixed order
//! (scores along the head's width, sums along positions), whatever shares the job: see [`super::cache`] for the layout.

use super::cache::{HeadShape, KvCache, Run};
use super::exp::exp;
use super::simd::{Isa, Lanes, WIDTH, dispatch};
use super::threads;
use rayon::prelude::*;

/// Queries per job; with two blocks of keys in flight they take 16 accumulators.
const QUERIES: usize = 8;
/// Below this many multiply-adds the calling thread does all.
const PARALLEL_WORK: usize = 1 << 16;

/// Attends causally: the last `rows[s]` positions of sequence `s` are queries, each sees itself and all before it.
///
/// # Shapes
/// `q`: [Σ rows, heads · dim], the rows of sequence 0 first. Returns the same shape.
pub fn attend(q: &[f32], caches: &[&KvCache], rows: &[usize], shape: HeadShape) -> Vec<f32> {
    attend_on(Isa::detect(), q, caches, rows, shape, &Scores::causal(shape))
}

/// Attends to whole sequences: each of the `rows[s]` queries of sequence `s` sees every position of its cache.
///
/// A position that must not be seen has no place in the cache. Nothing is divided by the square root of the width.
///
/// # Shapes
/// As for [`attend`].
pub fn attend_all(
    q: &[f32],
    caches: &[&KvCache],
    rows: &[usize],
    shape: HeadShape,
    bias: Option<&ScoreBias<'_>>,
) -> Vec<f32> {
    attend_on(Isa::detect(), q, caches, rows, shape, &Scores { causal: false, scale: 1.0, bias })
}

/// Adds to the scores of one query and head, one per position of its sequence; the query counts over all sequences.
pub type ScoreBias<'a> = dyn Fn(usize, usize, &mut [f32]) + Sync + 'a;

/// What becomes of the products of queries and keys before the softmax.
struct Scores<'a> {
    causal: bool,
    scale: f32,
    bias: Option<&'a ScoreBias<'a>>,
}

impl Scores<'_> {
    fn causal(shape: HeadShape) -> Self {
        Self { causal: true, scale: 1.0 / (shape.dim as f32).sqrt(), bias: None }
    }
}

fn attend_on(
    isa: Isa,
    q: &[f32],
    caches: &[&KvCache],
    rows: &[usize],
    shape: HeadShape,
    scoring: &Scores<'_>,
) -> Vec<f32> {
    let width = shape.width();
    assert_eq!(caches.len(), rows.len());
    assert_eq!(q.len(), rows.iter().sum::<usize>() * width);
    let mut queries = Vec::with_capacity(q.len() / width.max(1));
    let mut groups: Vec<std::ops::Range<usize>> = Vec::new();
    for (i, (&cache, &n)) in caches.iter().zip(rows).enumerate() {
        let first = queries.len();
        if scoring.causal {
            assert!(n <= cache.len());
            queries.extend((0..n).map(|row| Query { cache, visible: cache.len() - n + row + 1 }));
        } else {
            assert!(n == 0 || !cache.is_empty());
            queries.extend((0..n).map(|_| Query { cache, visible: cache.len() }));
        }
        // Single rows of paths that continue one context read its keys together; so do the rows of one sequence.
        let joins = n == 1 && i > 0 && rows[i - 1] == 1 && caches[i - 1].shares_context(cache);
        match groups.last_mut() {
            Some(last) if joins && last.len() < QUERIES => last.end += 1,
            _ => groups.extend((0..n).step_by(QUERIES).map(|row| first + row..first + n.min(row + QUERIES))),
        }
    }
    let mut out = Vec::<f32>::with_capacity(q.len());
    let target = Output(out.as_mut_ptr());
    let run = |job: usize| {
        let (group, head) = (&groups[job / shape.heads], job % shape.heads);
        let longest = queries[group.clone()].iter().map(|query| query.visible).max().unwrap_or(0);
        let mut scores = vec![0f32; group.len() * longest.next_multiple_of(WIDTH)];
        let job = Job {
            q: &q[group.start * width + head * shape.dim..],
            queries: &queries[group.clone()],
            shape,
            head,
            first: group.start,
            scoring,
            longest,
        };
        // SAFETY: the row range [group.start, group.end) and the head's columns belong to this job alone, and lie
        // inside the allocation of `out`.
        unsafe { job_kernel(isa, &job, &mut scores, target.row(group.start * width + head * shape.dim)) };
    };
    let jobs = groups.len() * shape.heads;
    let work: usize = queries.iter().map(|query| 2 * query.visible * width).sum();
    if work < PARALLEL_WORK || threads::available() == 1 {
        (0..jobs).for_each(run);
    } else {
        (0..jobs).into_par_iter().for_each(run);
    }
    // SAFETY: every row is in exactly one group and every head of a group was run.
    unsafe { out.set_len(q.len()) };
    out
}

/// One query row: its sequence and how many positions it sees.
#[derive(Clone, Copy)]
struct Query<'a> {
    cache: &'a KvCache,
    visible: usize,
}

struct Output(*mut f32);

impl Output {
    fn row(&self, offset: usize) -> *mut f32 {
        // SAFETY: callers pass offsets below the allocation's length.
        unsafe { self.0.add(offset) }
    }
}

// SAFETY: jobs write disjoint rows and heads.
unsafe impl Sync for Output {}

/// One head of up to [`QUERIES`] queries.
struct Job<'a> {
    /// Starts at the first query's head; rows are `shape.width()` apart.
    q: &'a [f32],
    queries: &'a [Query<'a>],
    shape: HeadShape,
    head: usize,
    /// Index of the first query over all sequences.
    first: usize,
    scoring: &'a Scores<'a>,
    longest: usize,
}

impl Job<'_> {
    /// Blocks all queries of the job read, then those that each reads alone.
    fn segments(&self) -> (Vec<Segment>, Vec<Segment>) {
        let first = self.queries[0].cache;
        let whole = first.own.start / WIDTH;
        let context = first.context.iter().map(|run| Segment::new(run, self.head, 0, whole));
        let one_cache = self.queries.iter().all(|query| std::ptr::eq(query.cache, first));
        let own = |query: &Query| {
            let blocks = self.longest.div_ceil(WIDTH).saturating_sub(whole).min(query.cache.own.blocks());
            Segment::new(&query.cache.own, self.head, whole, blocks)
        };
        if one_cache {
            (context.chain(std::iter::once(own(&self.queries[0]))).collect(), Vec::new())
        } else {
            (context.collect(), self.queries.iter().map(own).collect())
        }
    }
}

/// Consecutive blocks of one run, seen by one head.
#[derive(Clone, Copy)]
struct Segment {
    keys: *const f32,
    values: *const f32,
    key_stride: usize,
    value_stride: usize,
    /// Index of the first block within the sequence.
    first: usize,
    blocks: usize,
}

impl Segment {
    fn new(run: &Run, head: usize, first: usize, blocks: usize) -> Self {
        let (key_stride, value_stride) = run.shape.block_sizes();
        let blocks = blocks.min(run.blocks());
        Self {
            keys: run.keys.as_ptr().wrapping_add(head * run.shape.dim * WIDTH),
            values: run.values.as_ptr().wrapping_add(head * run.shape.padded_dim() * WIDTH),
            key_stride,
            value_stride,
            first,
            blocks,
        }
    }
}

dispatch! {
    /// Runs one job and writes its rows at `out`, `shape.width()` apart.
    fn job_kernel(job: &Job<'_>, scores: &mut [f32], out: *mut f32) = by_queries
}

#[inline(always)]
unsafe fn by_queries<L: Lanes>(job: &Job<'_>, scores: &mut [f32], out: *mut f32) {
    // SAFETY: passed on to the caller.
    unsafe {
        match job.queries.len() {
            1 => kernel::<L, 1>(job, scores, out),
            2 => kernel::<L, 2>(job, scores, out),
            3 => kernel::<L, 3>(job, scores, out),
            4 => kernel::<L, 4>(job, scores, out),
            5 => kernel::<L, 5>(job, scores, out),
            6 => kernel::<L, 6>(job, scores, out),
            7 => kernel::<L, 7>(job, scores, out),
            _ => kernel::<L, QUERIES>(job, scores, out),
        }
    }
}

/// # Safety
/// The job has Q queries; `scores` holds Q · longest (rounded up to sixteen) values; `out` has room for the job's rows.
#[inline(always)]
unsafe fn kernel<L: Lanes, const Q: usize>(job: &Job<'_>, scores: &mut [f32], out: *mut f32) {
    let stride = job.longest.next_multiple_of(WIDTH);
    let (width, dim) = (job.shape.width(), job.shape.dim);
    let (shared, alone) = job.segments();
    let q = job.q.as_ptr();
    // SAFETY: segments stay inside their runs; rows q + r·width hold `dim` values for r < Q; scores as required above.
    unsafe {
        for segment in &shared {
            score::<L, Q>(q, width, dim, job.scoring.scale, segment, scores.as_mut_ptr(), stride);
        }
        for (r, segment) in alone.iter().enumerate() {
            score::<L, 1>(
                q.add(r * width),
                width,
                dim,
                job.scoring.scale,
                segment,
                scores.as_mut_ptr().add(r * stride),
                stride,
            );
        }
        let mut inverse = [0f32; Q];
        for (r, inverse) in inverse.iter_mut().enumerate() {
            let row = &mut scores[r * stride..(r + 1) * stride];
            let visible = job.queries[r].visible;
            row[visible..].fill(f32::NEG_INFINITY);
            if let Some(add) = job.scoring.bias {
                add(job.first + r, job.head, &mut row[..visible]);
            }
            *inverse = 1.0 / softmax_numerators::<L>(row);
        }
        let padded = job.shape.padded_dim();
        let mut column = 0;
        while column < padded {
            // Two vectors of eight queries, or four of up to four, keep the accumulators in registers.
            let vectors = if Q > 4 { 2 } else { 4 };
            if padded - column >= vectors * WIDTH {
                if Q > 4 {
                    weigh::<L, Q, 2>(
                        &shared, &alone, padded, column, dim, scores, stride, &inverse, out, width,
                    );
                } else {
                    weigh::<L, Q, 4>(
                        &shared, &alone, padded, column, dim, scores, stride, &inverse, out, width,
                    );
                }
                column += vectors * WIDTH;
            } else {
                weigh::<L, Q, 1>(&shared, &alone, padded, column, dim, scores, stride, &inverse, out, width);
                column += WIDTH;
            }
        }
    }
}

/// scores[r][position] = scale · q_r · k_position for the positions of one segment.
///
/// # Safety
/// `q` holds Q rows of `dim` values, `width` apart; `scores` Q rows of `stride` ≥ the segment's end.
#[inline(always)]
unsafe fn score<L: Lanes, const Q: usize>(
    q: *const f32,
    width: usize,
    dim: usize,
    scale: f32,
    segment: &Segment,
    scores: *mut f32,
    stride: usize,
) {
    // SAFETY: the caller's contract; block b of a segment holds dim·16 keys from keys + b·key_stride.
    unsafe {
        let scale = L::splat(scale);
        let mut block = 0;
        // A single query has one chain of additions per block: four blocks at a time hide their latency.
        if Q == 1 {
            while block + 4 <= segment.blocks {
                score_blocks::<L, Q, 4>(q, width, dim, scale, segment, block, scores, stride);
                block += 4;
            }
        }
        while block + 2 <= segment.blocks {
            score_blocks::<L, Q, 2>(q, width, dim, scale, segment, block, scores, stride);
            block += 2;
        }
        if block < segment.blocks {
            score_blocks::<L, Q, 1>(q, width, dim, scale, segment, block, scores, stride);
        }
    }
}

/// The scores of Q queries for B consecutive blocks.
///
/// # Safety
/// As for [`score`], with `block + B` ≤ the segment's blocks.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn score_blocks<L: Lanes, const Q: usize, const B: usize>(
    q: *const f32,
    width: usize,
    dim: usize,
    scale: L,
    segment: &Segment,
    block: usize,
    scores: *mut f32,
    stride: usize,
) {
    // SAFETY: the caller's contract.
    unsafe {
        let mut sums = [[L::splat(0.0); B]; Q];
        let keys = segment.keys.add(block * segment.key_stride);
        for i in 0..dim {
            let mut key = [L::splat(0.0); B];
            for (b, key) in key.iter_mut().enumerate() {
                *key = L::load(keys.add(b * segment.key_stride + i * WIDTH));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let query = L::splat(*q.add(r * width + i));
                for b in 0..B {
                    sums[b] = query.fma(key[b], sums[b]);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (b, sum) in sums.iter().enumerate() {
                sum.mul(scale).store(scores.add(r * stride + (segment.first + block + b) * WIDTH));
            }
        }
    }
}

/// Replaces a row of scores by exp(score − max) and returns their sum; −∞ becomes 0.
///
/// # Safety
/// See [`Lanes`]; the row's length is a multiple of sixteen.
#[inline(always)]
unsafe fn softmax_numerators<L: Lanes>(row: &mut [f32]) -> f32 {
    // SAFETY: whole vectors only.
    unsafe {
        let mut largest = L::splat(f32::NEG_INFINITY);
        for chunk in row.chunks_exact(WIDTH) {
            largest = largest.max(L::load(chunk.as_ptr()));
        }
        let shift = L::splat(largest.largest());
        let mut sum = L::splat(0.0);
        for chunk in row.chunks_exact_mut(WIDTH) {
            let weight = exp(L::load(chunk.as_ptr()).sub(shift));
            weight.store(chunk.as_mut_ptr());
            sum = sum.add(weight);
        }
        sum.sum()
    }
}

/// V vectors of the weighted sum of values for Q queries, starting at `column` of the head.
///
/// # Safety
/// As for [`kernel`]; `column + 16·V` ≤ `padded`.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn weigh<L: Lanes, const Q: usize, const V: usize>(
    shared: &[Segment],
    alone: &[Segment],
    padded: usize,
    column: usize,
    dim: usize,
    scores: &[f32],
    stride: usize,
    inverse: &[f32; Q],
    out: *mut f32,
    width: usize,
) {
    // SAFETY: the caller's contract; block b of a segment holds 16·padded values from values + b·value_stride.
    unsafe {
        let mut sums = [[L::splat(0.0); V]; Q];
        let weights = scores.as_ptr();
        for segment in shared {
            for block in 0..segment.blocks {
                let values = segment.values.add(block * segment.value_stride + column);
                let weights = weights.add((segment.first + block) * WIDTH);
                for position in 0..WIDTH {
                    let mut value = [L::splat(0.0); V];
                    for (v, value) in value.iter_mut().enumerate() {
                        *value = L::load(values.add(position * padded + v * WIDTH));
                    }
                    for (r, sums) in sums.iter_mut().enumerate() {
                        let weight = L::splat(*weights.add(r * stride + position));
                        for v in 0..V {
                            sums[v] = weight.fma(value[v], sums[v]);
                        }
                    }
                }
            }
        }
        // Through memory, because an index only known at run time would keep the sums above out of registers.
        let mut parts = [[[0f32; WIDTH]; V]; Q];
        for (sums, parts) in sums.iter().zip(&mut parts) {
            for (sum, part) in sums.iter().zip(parts) {
                sum.store(part.as_mut_ptr());
            }
        }
        for (r, segment) in alone.iter().enumerate() {
            let mut sums = [L::splat(0.0); V];
            for (sum, part) in sums.iter_mut().zip(&parts[r]) {
                *sum = L::load(part.as_ptr());
            }
            for block in 0..segment.blocks {
                let values = segment.values.add(block * segment.value_stride + column);
                let weights = weights.add(r * stride + (segment.first + block) * WIDTH);
                for position in 0..WIDTH {
                    let weight = L::splat(*weights.add(position));
                    for (v, sum) in sums.iter_mut().enumerate() {
                        *sum = weight.fma(L::load(values.add(position * padded + v * WIDTH)), *sum);
                    }
                }
            }
            for (sum, part) in sums.iter().zip(&mut parts[r]) {
                sum.store(part.as_mut_ptr());
            }
        }
        for (r, parts) in parts.iter().enumerate() {
            for (v, part) in parts.iter().enumerate() {
                let at = column + v * WIDTH;
                let target = out.add(r * width + at);
                let sum = L::load(part.as_ptr()).mul(L::splat(inverse[r]));
                if at + WIDTH <= dim {
                    sum.store(target);
                } else if at < dim {
                    let mut lanes = [0f32; WIDTH];
                    sum.store(lanes.as_mut_ptr());
                    std::ptr::copy_nonoverlapping(lanes.as_ptr(), target, dim - at);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    const SHAPE: HeadShape = HeadShape { heads: 3, dim: 20 };

    fn row(seed: u64, position: usize) -> Vec<f32> {
        let stream = Stream::from_key(seed);
        (0..SHAPE.width()).map(|i| stream.uniform(position as u32, i as u32, 0) as f32 * 4.0 - 2.0).collect()
    }

    fn extend(cache: &mut KvCache, seed: u64, positions: std::ops::Range<usize>) {
        for position in positions {
            cache.push(&row(seed, position), &row(seed + 1000, position));
        }
    }

    fn queries(seed: u64, positions: std::ops::Range<usize>) -> Vec<f32> {
        positions.flat_map(|position| row(seed + 2000, position)).collect()
    }

    #[test]
    fn agrees_with_the_definition_in_f64() {
        for n in [1, 2, 15, 16, 17, 40] {
            let mut cache = KvCache::new(SHAPE);
            extend(&mut cache, 1, 0..n);
            let y = attend(&queries(1, 0..n), &[&cache], &[n], SHAPE);
            for i in 0..n {
                for head in 0..SHAPE.heads {
                    let part = |v: Vec<f32>| -> Vec<f64> {
                        v[head * 20..head * 20 + 20].iter().map(|&x| f64::from(x)).collect()
                    };
                    let q = part(row(2001, i));
                    let weights: Vec<f64> = (0..=i)
                        .map(|j| {
                            (q.iter().zip(part(row(1, j))).map(|(a, b)| a * b).sum::<f64>() / 20f64.sqrt())
                                .exp()
                        })
                        .collect();
                    let total: f64 = weights.iter().sum();
                    for c in 0..20 {
                        let truth = (0..=i).map(|j| weights[j] / total * part(row(1001, j))[c]).sum::<f64>();
                        assert!(
                            (f64::from(y[i * 60 + head * 20 + c]) - truth).abs() < 2e-6,
                            "n {n}, row {i}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn whole_sequences_agree_with_the_definition_in_f64() {
        let n = 21;
        let mut caches = [KvCache::new(SHAPE), KvCache::new(SHAPE)];
        caches.iter_mut().zip([1, 2]).for_each(|(cache, seed)| extend(cache, seed, 0..n));
        let q: Vec<f32> = [queries(1, 0..2), queries(2, 5..16)].concat().iter().map(|q| q / 4.0).collect();
        // The bias of a query, a head and a position, from nothing but their numbers.
        let bias_of =
            |query: usize, head: usize, position: usize| ((query * 7 + head * 3 + position) % 5) as f32 / 4.0;
        let add = |query: usize, head: usize, scores: &mut [f32]| {
            scores
                .iter_mut()
                .enumerate()
                .for_each(|(position, score)| *score += bias_of(query, head, position));
        };
        let y = attend_all(&q, &caches.iter().collect::<Vec<_>>(), &[2, 11], SHAPE, Some(&add));
        for query in 0..13 {
            let seed = if query < 2 { 1 } else { 2 };
            for head in 0..SHAPE.heads {
                let span = head * SHAPE.dim..(head + 1) * SHAPE.dim;
                let weights: Vec<f64> = (0..n)
                    .map(|j| {
                        let key = &row(seed, j)[span.clone()];
                        let q = &q[query * SHAPE.width()..][span.clone()];
                        let dot: f64 = q.iter().zip(key).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum();
                        (dot + f64::from(bias_of(query, head, j))).exp()
                    })
                    .collect();
                let total: f64 = weights.iter().sum();
                for c in span.clone() {
                    let truth: f64 =
                        (0..n).map(|j| weights[j] / total * f64::from(row(seed + 1000, j)[c])).sum();
                    assert!((f64::from(y[query * SHAPE.width() + c]) - truth).abs() < 1e-5, "query {query}");
                }
            }
        }
        let alone = attend_all(&q[..SHAPE.width()], &[&caches[0]], &[1], SHAPE, Some(&add));
        assert_eq!(alone, y[..SHAPE.width()]);
    }

    /// Cached decoding, whole prefill, shared contexts, batches and instruction sets: all the same bits.
    #[test]
    fn however_a_sequence_came_about_its_bits_are_the_same() {
        for context in [1, 15, 16, 21, 33] {
            let paths = 11;
            let mut root = KvCache::new(SHAPE);
            extend(&mut root, 1, 0..context);
            let frozen = root.freeze();
            let mut branches: Vec<KvCache> = (0..paths).map(|_| frozen.branch(20)).collect();
            let mut whole: Vec<KvCache> = branches.iter().map(|_| KvCache::new(SHAPE)).collect();
            whole.iter_mut().for_each(|cache| extend(cache, 1, 0..context));
            for step in 0..20 {
                let position = context + step..context + step + 1;
                let mut q = Vec::new();
                for (path, (branch, whole)) in branches.iter_mut().zip(&mut whole).enumerate() {
                    extend(branch, 10 + path as u64, position.clone());
                    extend(whole, 10 + path as u64, position.clone());
                    q.extend(queries(10 + path as u64, position.clone()));
                }
                let together = attend(&q, &branches.iter().collect::<Vec<_>>(), &vec![1; paths], SHAPE);
                for isa in Isa::available() {
                    for path in [0, 7, 8, 10] {
                        let q = &q[path * SHAPE.width()..(path + 1) * SHAPE.width()];
                        let alone = attend_on(isa, q, &[&whole[path]], &[1], SHAPE, &Scores::causal(SHAPE));
                        assert_eq!(
                            alone,
                            together[path * SHAPE.width()..(path + 1) * SHAPE.width()],
                            "{isa:?} {context}+{step}"
                        );
                    }
                }
            }
            let q: Vec<f32> = queries(13, context..context + 20);
            let recomputed = attend(&q, &[&whole[3]], &[20], SHAPE);
            let continued = attend(&q, &[&branches[3]], &[20], SHAPE);
            assert_eq!(recomputed, continued);
            let last = attend(&q[19 * SHAPE.width()..], &[&whole[3]], &[1], SHAPE);
            assert_eq!(recomputed[19 * SHAPE.width()..], last);
        }
    }
}
