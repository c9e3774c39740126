//! The answer to a series request: sources merged by labels, chunks fetched a batch ahead.

use std::collections::VecDeque;
use std::sync::Arc;

use block::MemoryTurn;
use futures::future::join_all;
use futures::stream::{self, BoxStream, StreamExt};
use merge::{KWay, Step};
use model::{Budget, Labels};
use serve::Task;
use storeapi::{Error, Frame, FrameStream, Kind, Result};

use crate::context::RequestContext;
use crate::fetch::{
    FetchedSeries, Fetcher, Stored, StoredWindows, UnfetchedBatch, UnfetchedSeries,
};
use crate::served::PickedBlock;
use crate::source::{BlockSource, Content, SourcePlan, SourceSeries};
use crate::warnings::Warnings;

/// How many series wait in memory with their labels, over all blocks of a request, approximately.
const SERIES_AHEAD: usize = 128 << 10;
/// What one takes in memory, usually.
const SERIES_BYTES: u64 = 640;
/// One part in this many of the memory budget is for them; of each block there are two batches.
const SERIES_SHARE: u64 = 8;
/// The least number of them per block.
const MIN_BATCH_SERIES: usize = 128;
const MAX_BATCH_SERIES: usize = 2048;

/// Bytes of chunks fetched at a time: at least this many, and more where they come from many
/// blocks, to avoid many small requests.
const MIN_FETCH_BYTES: u64 = 16 << 20;
const MAX_FETCH_BYTES: u64 = 64 << 20;
const FETCH_BYTES_PER_BLOCK: u64 = 256 << 10;
/// Pages of Parquet hold windows of many series, and reading few of them takes as long.
const MIN_WINDOW_BYTES: u64 = 32 << 20;
/// One part in this many of the memory budget is for the chunks of a batch: one is sent, the others
/// are done or being fetched.
const FETCH_SHARE: u64 = 32;
/// Series fetched at a time.
const MAX_FETCH_SERIES: usize = 4096;
/// Fetches under way or done while the caller works on another one.
const FETCH_AHEAD: usize = 3;

/// Memory that a request waits for before anything is known of it.
const FIRST_SHARE: u64 = 4 << 20;

/// How many series of each of `blocks` blocks are read at a time.
pub(crate) fn batch_series(blocks: usize, limit: u64, budget: &Budget) -> usize {
    let room = budget.limit() / SERIES_SHARE / SERIES_BYTES;
    let ahead = SERIES_AHEAD.min(usize::try_from(room).unwrap_or(usize::MAX));
    let fair = (ahead / blocks.max(1)).clamp(MIN_BATCH_SERIES, MAX_BATCH_SERIES);
    // A caller that wants few series need not wait for many.
    match usize::try_from(limit) {
        Ok(limit) if limit > 0 => fair.min(limit.saturating_add(1)),
        _ => fair,
    }
}

/// How many batches of series of each of `blocks` blocks are read at a time: where they are many,
/// the blocks are.
pub(crate) fn prefetch(blocks: usize) -> usize {
    const AT_A_TIME: usize = 8;
    (AT_A_TIME / blocks.max(1)).clamp(1, 3)
}

/// Streams the series of these blocks.
pub(crate) fn answer(
    picks: Vec<PickedBlock>,
    plan: SourcePlan,
    context: Arc<RequestContext>,
) -> FrameStream {
    context.shared.metrics.blocks_queried.observe(picks.len() as f64);
    context.sent_series(0);
    let beginning = Beginning {
        times: picks.len(),
        picks,
        plan: Arc::new(plan),
        least_bytes: FIRST_SHARE.min(context.shared.budget.limit() / 8),
    };
    let answer = AnswerStream {
        steps: None,
        beginning: Some(beginning),
        frames: VecDeque::new(),
        notes: Warnings::new(context.strategy),
        context,
        held: None,
        ended: false,
    };
    stream::unfold(Some(answer), |answer| async move {
        let mut answer = answer?;
        match answer.next().await {
            Ok(Some(frame)) => Some((Ok(frame), Some(answer))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

/// What an answer is made from, kept until a part of it was sent.
struct Beginning {
    picks: Vec<PickedBlock>,
    plan: Arc<SourcePlan>,
    /// How often it may still start over: once for each block found in disorder.
    times: usize,
    /// Memory to wait for before it begins.
    least_bytes: u64,
}

impl Beginning {
    fn has_times(&mut self) -> bool {
        let left = self.times.checked_sub(1);
        self.times = left.unwrap_or_default();
        left.is_some()
    }

    /// Whether it can get more memory than it was refused.
    fn has_memory(&mut self, memory: &Budget) -> bool {
        let Some(needed) = memory.refused().filter(|needed| *needed <= memory.limit()) else {
            return false;
        };
        self.least_bytes = needed.saturating_add(needed / 4).min(memory.limit());
        true
    }

    /// Bytes of chunks fetched at a time.
    fn fetch_bytes(&self, budget: u64) -> u64 {
        let has_windows = self.picks.iter().any(|pick| pick.block.location.is_parquet());
        let least = if has_windows { MIN_WINDOW_BYTES } else { MIN_FETCH_BYTES };
        (self.picks.len() as u64 * FETCH_BYTES_PER_BLOCK)
            .clamp(least, MAX_FETCH_BYTES)
            .min((budget / FETCH_SHARE).max(1))
    }

    fn steps(&self, context: &Arc<RequestContext>) -> StepStream {
        let (plan, limit) = (&self.plan, self.plan.request.limit);
        let fetch_bytes = self.fetch_bytes(context.shared.budget.limit());
        let fetcher = Arc::new(Fetcher::new(&self.picks, plan, Arc::clone(context)));
        let open = |pick: &PickedBlock| {
            BlockSource::open(pick.clone(), Arc::clone(plan), Arc::clone(context))
        };
        let merge = BlockMerge {
            sources: self.picks.iter().map(open).collect(),
            waiting: VecDeque::new(),
            heads: None,
            merging_since: None,
            context: Arc::clone(context),
            notes: Warnings::new(context.strategy),
            left: if limit == 0 { u64::MAX } else { limit },
            fetch_bytes,
            ensured: false,
            skip_chunks: plan.request.skip_chunks,
        };
        steps(merge, fetcher)
    }
}

/// Why an answer starts over.
enum BeginAnew {
    /// A block turned out to have its series in another order than that of labels; this time it is
    /// sorted first.
    Sorted,
    /// Others left too little memory; this time it waits for as much as it was missing.
    WithMemory,
}

type StepStream = BoxStream<'static, Result<(Vec<Frame>, FetchedSeries)>>;

/// What the merge returns at a time.
struct MergedBatch {
    notes: Vec<Frame>,
    batch: UnfetchedBatch,
}

/// Merges, and fetches the chunks of merged series on tasks of their own.
fn steps(merge: BlockMerge, fetcher: Arc<Fetcher>) -> StepStream {
    let skip_chunks = merge.skip_chunks;
    let merged = stream::unfold(Some(merge), |merge| async move {
        let mut merge = merge?;
        match merge.step().await {
            Ok(Some(step)) => Some((Ok(step), Some(merge))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    });
    let fetch = move |step: Result<MergedBatch>| {
        let fetcher = Arc::clone(&fetcher);
        let task = step.map(|MergedBatch { notes, batch }| {
            let fetch = async move {
                if skip_chunks {
                    return Ok(FetchedSeries::bare(batch));
                }
                fetcher.fetch(batch).await
            };
            (notes, Task::spawn(fetch))
        });
        async move {
            let (notes, task) = task?;
            let fetched =
                task.await.map_err(|e| Error::caused(Kind::Internal, "reading blocks", e))?;
            Ok((notes, fetched?))
        }
    };
    merged.map(fetch).buffered(FETCH_AHEAD).boxed()
}

struct BlockMerge {
    sources: Vec<BlockSource>,
    /// Merged series for which there was no memory yet.
    waiting: VecDeque<UnfetchedSeries>,
    /// `None` until every source gave its first series.
    heads: Option<KWay<SourceSeries>>,
    /// When merging began, in seconds into the request; `None` once it is done.
    merging_since: Option<f64>,
    context: Arc<RequestContext>,
    notes: Warnings,
    /// Series that may still come.
    left: u64,
    fetch_bytes: u64,
    /// Whether there is memory for all fetches.
    ensured: bool,
    skip_chunks: bool,
}

impl BlockMerge {
    /// The next series to fetch chunks for; `None` at the end.
    async fn step(&mut self) -> Result<Option<MergedBatch>> {
        if self.heads.is_none() {
            self.heads = Some(self.start().await?);
        }
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < MAX_FETCH_SERIES && bytes < self.fetch_bytes {
            let Some(joined) = self.next_series().await? else { break };
            bytes += self.bytes_of(&joined);
            batch.push(joined);
        }
        if bytes >= self.fetch_bytes {
            self.ensure_memory()?;
        }
        let memory = self.take_memory(&mut batch).await?;
        let ended = batch.is_empty();
        let mut notes = self.notes.take();
        if ended {
            if self.left == 0 {
                // what was read ahead is not needed any more
                self.sources.clear();
            }
            if let Some(since) = self.merging_since.take() {
                self.context.shared.metrics.merge.observe(self.context.elapsed() - since);
            }
            notes.extend(self.notes.take_rest());
        }
        let batch = UnfetchedBatch { series: batch, memory };
        Ok((!ended || !notes.is_empty()).then_some(MergedBatch { notes, batch }))
    }

    /// Makes sure at the first full batch that there is memory for those to come: once a part of
    /// the answer was sent, it cannot start over.
    fn ensure_memory(&mut self) -> Result<()> {
        let share = self.context.memory().share;
        let fetches = self.fetch_bytes * (FETCH_AHEAD as u64 + 1);
        let least = share.used().saturating_add(fetches);
        match std::mem::replace(&mut self.ensured, true) || least > share.limit() {
            true => Ok(()),
            false => Ok(share.ensure("an answer", least)?),
        }
    }

    /// The next series that may still come.
    async fn next_series(&mut self) -> Result<Option<UnfetchedSeries>> {
        if let Some(series) = self.waiting.pop_front() {
            return Ok(Some(series));
        }
        if self.left == 0 {
            return Ok(None);
        }
        let joined = self.join_next().await?;
        self.left -= u64::from(joined.is_some());
        Ok(joined)
    }

    /// Waits until there is memory for a batch, or for as much of it as fits when nothing else of
    /// the request waits to be sent. Batches ask in the order in which they are sent.
    async fn take_memory(&mut self, batch: &mut Vec<UnfetchedSeries>) -> Result<MemoryTurn> {
        let answers = self.context.memory().answers;
        loop {
            let bytes = self.memory_of(batch);
            match answers.take("chunks of an answer", bytes).await {
                Err(_) if batch.len() > 1 => {
                    let rest = batch.split_off(batch.len() / 2);
                    rest.into_iter().rev().for_each(|series| self.waiting.push_front(series));
                }
                taken => return Ok(taken?),
            }
        }
    }

    fn bytes_of(&self, series: &UnfetchedSeries) -> u64 {
        if self.skip_chunks { series.labels.as_packed().len() as u64 } else { series.bytes() }
    }

    /// The memory for a batch: while it is fetched, what lies between its chunks may take as much
    /// as they do.
    fn memory_of(&self, batch: &[UnfetchedSeries]) -> u64 {
        let between = |series: &UnfetchedSeries| match self.skip_chunks {
            true => 0,
            false => series.stored_bytes(),
        };
        batch.iter().map(|series| self.bytes_of(series) + between(series)).sum()
    }

    /// Waits for the first series of every source, all at once.
    async fn start(&mut self) -> Result<KWay<SourceSeries>> {
        let context = &self.context;
        let firsts = self.sources.iter_mut().map(|source| async move {
            let mut notes = Warnings::new(context.strategy);
            let head = source.next(context, &mut notes).await;
            (head, notes)
        });
        let mut heads = Vec::with_capacity(firsts.len());
        for (head, notes) in join_all(firsts).await {
            self.notes.append(notes);
            heads.push(head?);
        }
        let elapsed = self.context.elapsed();
        self.context.shared.metrics.get_all.observe(elapsed);
        self.merging_since = Some(elapsed);
        Ok(KWay::new(heads, |a, b| a.labels.cmp(&b.labels), |a, b| a.labels == b.labels))
    }

    /// Takes the series with the smallest label set from all blocks and makes one series of them.
    async fn join_next(&mut self) -> Result<Option<UnfetchedSeries>> {
        let Some(heads) = &mut self.heads else { return Ok(None) };
        loop {
            match heads.step() {
                Step::Pull(at) => {
                    let next = self.sources[at].next(&self.context, &mut self.notes).await?;
                    heads.give(next);
                }
                Step::Group => {
                    let mut joined: Option<UnfetchedSeries> = None;
                    for (at, SourceSeries { labels, content }) in heads.take_group() {
                        joined.get_or_insert_with(|| UnfetchedSeries::new(labels)).add(at, content);
                    }
                    return Ok(joined);
                }
                Step::End => return Ok(None),
            }
        }
    }
}

impl UnfetchedSeries {
    fn new(labels: Labels) -> UnfetchedSeries {
        UnfetchedSeries { labels, stored: Vec::new(), windows: Vec::new() }
    }

    fn add(&mut self, at: usize, content: Content) {
        match content {
            Content::Stored(entry, replica) => self.stored.push(Stored { at, entry, replica }),
            Content::Windows(entry, replica) => {
                self.windows.push(StoredWindows { at, entry, replica });
            }
        }
    }
}

/// The end of the pipe: frames in order.
struct AnswerStream {
    /// `None` before it begins.
    steps: Option<StepStream>,
    /// `None` once a series was sent, which cannot be undone.
    beginning: Option<Beginning>,
    frames: VecDeque<Frame>,
    notes: Warnings,
    context: Arc<RequestContext>,
    held: Option<MemoryTurn>,
    ended: bool,
}

impl AnswerStream {
    async fn next(&mut self) -> Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                if matches!(frame, Frame::Series(_)) {
                    self.beginning = None;
                }
                return Ok(Some(frame));
            }
            self.held = None;
            if let (None, Some(beginning)) = (&self.steps, &self.beginning) {
                self.context.wait_for_memory(beginning.least_bytes).await?;
                self.steps = Some(beginning.steps(&self.context));
            }
            let Some(steps) = &mut self.steps else { return Ok(None) };
            let step = steps.next().await;
            if self.context.take_disorder() && self.begin_anew(BeginAnew::Sorted) {
                continue;
            }
            match step {
                Some(Ok((notes, fetched))) => self.add(notes, fetched)?,
                Some(Err(error))
                    if error.kind() == Kind::Memory && self.begin_anew(BeginAnew::WithMemory) => {}
                Some(Err(error)) => return Err(error),
                None if self.ended => return Ok(None),
                None => {
                    self.ended = true;
                    self.frames.extend(self.notes.take_rest());
                    self.frames.extend(self.context.infos());
                }
            }
        }
    }

    /// Starts over, unless a part was sent already.
    fn begin_anew(&mut self, why: BeginAnew) -> bool {
        let Some(beginning) = &mut self.beginning else { return false };
        let worthwhile = match why {
            BeginAnew::Sorted => beginning.has_times(),
            BeginAnew::WithMemory => beginning.has_memory(&self.context.memory().share),
        };
        if worthwhile {
            // release what this attempt holds before the next one needs it
            self.steps = None;
            self.notes = Warnings::new(self.context.strategy);
        }
        worthwhile
    }

    fn add(&mut self, notes: Vec<Frame>, fetched: FetchedSeries) -> Result<()> {
        fetched.failures.into_iter().try_for_each(|error: Error| self.notes.fail(error))?;
        self.context.sent_series(fetched.series.len());
        self.frames.extend(notes);
        self.frames.extend(self.notes.take());
        if !fetched.series.is_empty() {
            self.frames.push_back(Frame::Series(fetched.series));
        }
        self.held = Some(fetched.memory);
        Ok(())
    }
}
