//! The engine: parsing, planning, running, answering. Bounding how many queries run at once is left
//! to the caller.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion_common::DataFusionError;
use datafusion_execution::TaskContext;
use datafusion_execution::config::SessionConfig;
use datafusion_execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion_execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion_physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use model::{Budget, RequestCost};
use promql::ast::{Expr, ExprKind};
use promql::value::Value;
use promql::{ParserOptions, quote, visit_selectors};
use tokio::runtime::{Handle, Runtime};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::context::{CANCELED, POOL_THREAD, QueryContext, Stop, Surroundings, TIMED_OUT};
use crate::error::{Error, Kind, query_error};
use crate::exec::rows_of;
use crate::explain::ExplainedOperator;
use crate::lower::{Lowering, Times};
use crate::memory::{QueryMemory, refused};
use crate::output::{Answer, Detail, Query, QueryStats};
use crate::result::{self, AnswerShape, Collected, CollectedPart};
use crate::samples::{Attribution, SampleCounter};

/// What holds for all queries of a process.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// Threads of the pool that decodes and evaluates.
    pub threads: usize,
    /// Samples one query may hold; 0 = no limit.
    pub max_samples: u64,
    pub budget: Budget,
    /// Which parts of the language parse.
    pub language: ParserOptions,
    /// Keep metric names until the end of evaluation, as Prometheus' feature flag of that name.
    pub delayed_name_removal: bool,
    /// The step of subqueries that name none, in milliseconds.
    pub default_subquery_step_ms: i64,
}

impl Default for EngineSettings {
    fn default() -> EngineSettings {
        EngineSettings {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            max_samples: 50_000_000,
            budget: Budget::unlimited(),
            language: ParserOptions::default(),
            delayed_name_removal: false,
            default_subquery_step_ms: 60_000,
        }
    }
}

/// The stack of every thread of an engine: operators wait for their inputs within each other, as
/// deep as the parser lets queries nest. Only the part that is used takes memory.
const STACK_BYTES: usize = 32 << 20;

/// A text of up to this many bytes, without regexes, is parsed and planned in a moment, ...
const QUICK_TEXT: usize = 128;
/// ... and on little stack with up to this many operators and brackets.
const QUICK_NESTING: usize = 16;
/// Up to this many steps, over all operators, are evaluated in a moment and on little stack.
const QUICK_STEPS: usize = 16;

/// Evaluates queries on one pool of threads and one DataFusion runtime.
#[derive(Debug)]
pub struct Engine {
    shared: Arc<EngineShared>,
    /// `None` only while the engine is dropped.
    pool: Option<Runtime>,
}

/// What all queries of an engine have in common.
#[derive(Debug)]
struct EngineShared {
    settings: EngineSettings,
    environment: Arc<RuntimeEnv>,
    /// DataFusion's defaults; made once, because there are hundreds of options.
    config: SessionConfig,
}

impl Engine {
    /// Starts the pool.
    ///
    /// # Panics
    /// When the system refuses threads.
    pub fn new(settings: EngineSettings) -> Engine {
        let pool = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(settings.threads.max(1))
            .thread_name(POOL_THREAD)
            .thread_stack_size(STACK_BYTES)
            .enable_time()
            .build()
            .expect("starting the threads of the query engine");
        let environment =
            RuntimeEnvBuilder::new().build_arc().expect("a runtime without disks or stores");
        let shared = EngineShared { settings, environment, config: SessionConfig::new() };
        Engine { shared: Arc::new(shared), pool: Some(pool) }
    }

    pub fn settings(&self) -> &EngineSettings {
        &self.shared.settings
    }

    /// Evaluates a query. Dropping the future ends the work.
    ///
    /// Evaluates on the engine's own threads, which drive the source too; its connections and
    /// timers belong to the runtime this is called from. Work before the first series arrives may
    /// be done on the caller's thread.
    ///
    /// # Errors
    /// See [`Error`] for the kinds; texts are those of Prometheus where it has one.
    pub async fn query(&self, query: Query) -> Result<Answer, Error> {
        let pool = self.handle();
        let io = Handle::try_current().unwrap_or_else(|_| pool.clone());
        let deadline = Instant::now() + query.timeout;
        let stop = Stop { deadline: Some(deadline), ..Stop::default() };
        let left = Arc::clone(&stop.left);
        let run = QueryRun { shared: Arc::clone(&self.shared), io, stop };
        let quick = is_quick(&query.text);
        let mut work = Box::pin(async move {
            let answer = tokio::time::timeout_at(deadline, run.answer(query)).await;
            answer.unwrap_or_else(|_| Err(Error::new(Kind::Timeout, TIMED_OUT)))
        });
        if quick && let Some(answer) = first_turn(&pool, &mut work)? {
            return answer;
        }
        let task = pool.spawn(work);
        let _abort = AbortOnDrop { task: task.abort_handle(), left };
        match task.await {
            Ok(answer) => answer,
            Err(e) if e.is_cancelled() => Err(Error::new(Kind::Canceled, CANCELED)),
            Err(e) => Err(Error::caused(Kind::Internal, "evaluating the query", e)),
        }
    }

    /// The operators a query would run as. Reads nothing.
    ///
    /// # Errors
    /// Those of [`Engine::query`] before the query runs.
    pub async fn explain(&self, query: Query) -> Result<Vec<ExplainedOperator>, Error> {
        let run =
            QueryRun { shared: Arc::clone(&self.shared), io: self.handle(), stop: Stop::default() };
        self.on_pool(move || run.explain(&query)).await
    }

    /// What `read` makes of a query's syntax tree. Like everything else that recurses over a query,
    /// parsing, `read` and dropping the tree run on the stack of the engine's own threads.
    ///
    /// # Errors
    /// `BadData` for a text that does not parse.
    pub async fn read_syntax<T: Send + 'static>(
        &self,
        text: String,
        read: impl FnOnce(&Expr) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let shared = Arc::clone(&self.shared);
        self.on_pool(move || shared.parse(&text).map(|expr| read(&expr))).await
    }

    async fn on_pool<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        match self.handle().spawn(async { work() }).await {
            Ok(result) => result,
            Err(e) if e.is_cancelled() => Err(Error::new(Kind::Canceled, CANCELED)),
            Err(e) => Err(Error::caused(Kind::Internal, "reading the query", e)),
        }
    }

    fn handle(&self) -> Handle {
        self.pool.as_ref().map_or_else(Handle::current, |pool| pool.handle().clone())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Dropping a runtime waits for its tasks, which an async caller must not.
        if let Some(pool) = self.pool.take() {
            pool.shutdown_background();
        }
    }
}

/// Whether a query may be parsed and planned on the thread it came on, whatever its stack.
fn is_quick(text: &str) -> bool {
    let nests = |b: &u8| b"([+-*/%^<>=!".contains(b);
    text.len() <= QUICK_TEXT
        && !text.contains('~')
        && text.as_bytes().iter().filter(|b| nests(b)).count() <= QUICK_NESTING
}

/// Runs a query on this thread until it has something to wait for or much to do, which takes
/// microseconds: a query that reads no series is answered before another thread would wake up. What
/// it spawns goes to the pool.
fn first_turn<F: Future + Unpin>(pool: &Handle, work: &mut F) -> Result<Option<F::Output>, Error> {
    let _pool = pool.enter();
    let turn = catch_unwind(AssertUnwindSafe(|| work.now_or_never()));
    turn.map_err(|_| Error::new(Kind::Internal, "evaluating the query: panicked"))
}

struct AbortOnDrop {
    task: AbortHandle,
    left: Arc<AtomicBool>,
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.left.store(true, Ordering::Relaxed);
        self.task.abort();
    }
}

/// What one query needs of the engine.
struct QueryRun {
    shared: Arc<EngineShared>,
    io: Handle,
    stop: Stop,
}

struct Planned {
    plan: Arc<dyn ExecutionPlan>,
    least_bytes: u64,
    /// The sum over all operators.
    steps: usize,
    context: Arc<QueryContext>,
    shape: AnswerShape,
}

/// A query that was run.
struct Evaluated {
    planned: Planned,
    collected: Collected,
    planned_at: Instant,
    ran_at: Instant,
}

impl Evaluated {
    fn into_answer(self, query: &Query, began: Instant) -> Answer {
        let Evaluated { planned, collected, planned_at, ran_at } = self;
        let Planned { plan, context, shape, .. } = planned;
        let value = result::value(collected, &shape, &context, query.grid);
        let (warnings, infos) = context.take_annotations().render(&query.text);
        let stats = QueryStats {
            peak_samples: context.held(),
            decoded_samples: context.decoded(),
            plan_seconds: (planned_at - began).as_secs_f64(),
            eval_seconds: (ran_at - planned_at).as_secs_f64(),
            sort_seconds: ran_at.elapsed().as_secs_f64(),
            samples: context.samples.as_ref().map(SampleCounter::counts),
            analysis: query.detail.analyze.then(|| ExplainedOperator::all_of(plan.as_ref(), true)),
        };
        Answer { value, warnings, infos, stats }
    }
}

/// Why a query was not evaluated.
struct Failure {
    error: Error,
    /// With so much memory from the start, it gets further.
    more_bytes: Option<u64>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure { error, more_bytes: None }
    }
}

impl EngineShared {
    fn parse(&self, text: &str) -> Result<Expr, Error> {
        let language = &self.settings.language;
        let expr = language.parse_expr(text).map_err(|e| Error::passed(Kind::BadData, e))?;
        check_cost(&expr)?;
        Ok(expr)
    }
}

impl QueryRun {
    fn explain(&self, query: &Query) -> Result<Vec<ExplainedOperator>, Error> {
        let expr = self.shared.parse(&query.text)?;
        if let ExprKind::String(literal) = &expr.unwrap_parens().kind {
            let name = format!("String: {}", quote(&literal.value));
            return Ok(vec![ExplainedOperator { name, measured: None, inputs: 0 }]);
        }
        let planned = self.plan(query, &expr, Stop::default())?;
        Ok(ExplainedOperator::all_of(planned.plan.as_ref(), false))
    }

    fn plan(&self, query: &Query, expr: &Expr, stop: Stop) -> Result<Planned, Error> {
        if query.grid.steps() == 0 {
            return Err(Error::new(Kind::BadData, "end timestamp must not be before start time"));
        }
        let settings = &self.shared.settings;
        let lowering = Lowering {
            grid: query.grid,
            lookback_ms: query.lookback_ms,
            dedup: query.dedup,
            default_subquery_step_ms: settings.default_subquery_step_ms,
            delayed_name_removal: settings.delayed_name_removal,
            asked: Times { first: query.grid.start_ms, last: query.grid.end_ms },
            max_resolution_ms: query.max_resolution_ms,
            dynamic_lookback: query.dynamic_lookback,
            in_param: false,
            counted: Attribution::QUERY,
            max_steps: if settings.max_samples == 0 {
                1 << 26
            } else {
                settings.max_samples.min(1 << 26)
            },
        };
        let around = Surroundings {
            source: Arc::clone(&query.source),
            delayed_name_removal: settings.delayed_name_removal,
            io: self.io.clone(),
            max_samples: settings.max_samples,
            workers: settings.threads.max(1),
            samples: (query.detail != Detail::default())
                .then(|| SampleCounter::new(query.grid.steps())),
            analyze: query.detail.analyze,
            stop,
        };
        let context = Arc::new(QueryContext::new(around));
        let shape = AnswerShape::of(expr, query.grid, lowering.pointless_sort(expr))?;
        shape.annotate(&context);
        let node = lowering.root(expr)?;
        let least_bytes = node.least_bytes(context.workers);
        let steps = node.steps_in_all();
        Ok(Planned { plan: node.build(&context), least_bytes, steps, context, shape })
    }

    async fn answer(self, query: Query) -> Result<Answer, Error> {
        let began = Instant::now();
        let expr = self.shared.parse(&query.text)?;
        if let ExprKind::String(literal) = &expr.unwrap_parens().kind
            && query.grid.is_instant()
        {
            let value = String::from_utf8_lossy(&literal.value).into_owned();
            let value = Value::String { t_ms: query.grid.start_ms, value };
            return Ok(Answer {
                value,
                warnings: Vec::new(),
                infos: Vec::new(),
                stats: QueryStats::default(),
            });
        }
        let mut least_bytes = 0;
        loop {
            match self.attempt(&query, &expr, least_bytes).await {
                Ok(evaluated) => return Ok(evaluated.into_answer(&query, began)),
                Err(Failure { error, more_bytes: None }) => return Err(error),
                Err(Failure { more_bytes: Some(more), .. }) => least_bytes = more,
            }
        }
    }

    /// Plans and runs a query. One that others leave too little memory fails with what to begin
    /// with the next time.
    async fn attempt(
        &self,
        query: &Query,
        expr: &Expr,
        least_bytes: u64,
    ) -> Result<Evaluated, Failure> {
        let stop = Stop { failed: Arc::default(), ..self.stop.clone() };
        let failed = Arc::clone(&stop.failed);
        let planned = self.plan(query, expr, stop)?;
        if planned.steps > QUICK_STEPS {
            tokio::task::yield_now().await;
        }
        let estimate = planned.least_bytes;
        let share = self.share(estimate, least_bytes.max(estimate)).await?;
        planned.context.begin_with(share.clone());
        let (memory, returned) = QueryMemory::new(share.clone(), estimate);
        let planned_at = Instant::now();
        let collected = self.run(&planned, Arc::new(memory)).await;
        match collected {
            Ok(collected) => {
                Ok(Evaluated { planned, collected, planned_at, ran_at: Instant::now() })
            }
            Err(error) => {
                failed.store(true, Ordering::Relaxed);
                let needed = share.refused().filter(|needed| *needed <= share.limit());
                let more_bytes = needed.map(|needed| needed.saturating_mul(2).min(share.limit()));
                // The plan keeps what several operators read.
                drop((planned, share));
                returned.wait().await;
                Err(Failure { error, more_bytes })
            }
        }
    }

    /// Waits for memory for as long as the query may take.
    async fn share(&self, estimate: u64, least_bytes: u64) -> Result<Budget, Error> {
        let budget = &self.shared.settings.budget;
        let mut admission = budget.share("the query", least_bytes);
        let share = match self.stop.deadline {
            Some(deadline) => tokio::time::timeout_at(deadline, &mut admission).await,
            None => Ok((&mut admission).await),
        };
        let share = share.unwrap_or_else(|_| Err(admission.refused()));
        share.map_err(|exceeded| refused(&exceeded, least_bytes, estimate))
    }

    /// Runs all partitions of a plan and gathers what they give.
    async fn run(&self, planned: &Planned, pool: Arc<dyn MemoryPool>) -> Result<Collected, Error> {
        let Planned { plan, context, shape, .. } = planned;
        let shared = &self.shared;
        let environment = RuntimeEnv {
            memory_pool: Arc::clone(&pool),
            disk_manager: Arc::clone(&shared.environment.disk_manager),
            cache_manager: Arc::clone(&shared.environment.cache_manager),
            object_store_registry: Arc::clone(&shared.environment.object_store_registry),
        };
        let task = Arc::new(TaskContext::new(
            None,
            String::new(),
            shared.config.clone(),
            HashMap::new(),
            HashMap::new(),
            HashMap::new(),
            HashMap::new(),
            Arc::new(environment),
        ));
        let start = |partition| {
            let parts = match shape.is_raw() {
                true => plan
                    .execute(partition, Arc::clone(&task))
                    .map(|batches| batches.map_ok(CollectedPart::Raw).boxed()),
                false => rows_of(plan, partition, &task, context)
                    .map(|rows| rows.map_ok(CollectedPart::Rows).boxed()),
            };
            let memory = MemoryConsumer::new("result").register(&pool);
            Ok::<_, Error>(gather(parts.map_err(query_error)?, memory))
        };
        let count = plan.output_partitioning().partition_count();
        if count == 1 {
            return start(0)?.await.map_err(query_error);
        }
        let mut partitions = tokio::task::JoinSet::new();
        for partition in 0..count {
            partitions.spawn(start(partition)?);
        }
        let mut collected = Vec::new();
        while let Some(joined) = partitions.join_next().await {
            let parts =
                joined.map_err(|e| Error::caused(Kind::Internal, "evaluating the query", e))?;
            collected.extend(parts.map_err(query_error)?);
        }
        Ok(collected)
    }
}

/// Whether all selectors together are within what a request may cost; each becomes a request to
/// the stores.
fn check_cost(expr: &Expr) -> Result<(), Error> {
    let (mut cost, mut checked) = (RequestCost::default(), Ok(()));
    visit_selectors(expr, &mut |visit| {
        if checked.is_ok() {
            checked = cost.charge_made(&visit.selector.matchers);
        }
    });
    checked.map_err(|e| Error::passed(Kind::BadData, e))
}

/// All parts of a stream, each charged to `memory`.
async fn gather(
    mut parts: BoxStream<'_, Result<CollectedPart, DataFusionError>>,
    memory: MemoryReservation,
) -> Result<Collected, DataFusionError> {
    let mut collected = Vec::new();
    while let Some(part) = parts.try_next().await? {
        let held = memory.new_empty();
        held.try_grow(part.bytes())?;
        collected.push((part, held));
    }
    Ok(collected)
}

#[cfg(test)]
mod long_work;
#[cfg(test)]
mod tests;
