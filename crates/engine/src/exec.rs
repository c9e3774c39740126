//! Our operators as DataFusion execution plans.
//!
//! [`Operator`] is what an operator over [`Rows`] must say and do, [`BatchOperator`] what anything
//! in a plan must; [`PromExec`] is the one shell that makes it an `ExecutionPlan` with partitions,
//! metrics and a place in EXPLAIN. [`rows_of`] reads a plan without turning the rows that our
//! operators hand to each other into Arrow batches.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion_common::tree_node::TreeNodeRecursion;
use datafusion_common::{DataFusionError, Result};
use datafusion_execution::TaskContext;
use datafusion_execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion_physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion_physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion_physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion_physical_plan::stream::RecordBatchStreamAdapter;
use datafusion_physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties,
    Partitioning, PlanProperties, ReplaceChildrenOptions, SendableRecordBatchStream,
};
use futures::future::{Either, select};
use futures::{Stream, StreamExt, TryFutureExt, TryStreamExt};
use tokio::sync::OnceCell;
use tokio::task::JoinSet;

use crate::batch::{BatchStream, RowStream, Rows, TARGET_VALUES};
use crate::context::QueryContext;
use crate::explain::Meter;

/// A physical operator that gives rows over the steps of a grid.
pub(crate) trait Operator: fmt::Debug + Send + Sync + 'static {
    fn name(&self) -> &'static str;

    /// What EXPLAIN says beside the name.
    fn detail(&self) -> String {
        String::new()
    }

    fn steps(&self) -> usize;

    /// Into how many streams the output is split, given the inputs' numbers.
    fn partitions(&self, _inputs: &[usize]) -> usize {
        1
    }

    fn run(self: Arc<Self>, partition: usize, inputs: Inputs) -> Result<RowStream>;
}

/// A physical operator, whatever its batches look like.
pub(crate) trait BatchOperator: fmt::Debug + Send + Sync + 'static {
    fn name(&self) -> &'static str;
    fn detail(&self) -> String;
    fn schema(&self) -> SchemaRef;
    fn partitions(&self, inputs: &[usize]) -> usize;
    fn batches(self: Arc<Self>, partition: usize, inputs: Inputs) -> Result<BatchStream>;

    /// The rows that the batches hold; `None` for an operator whose batches hold something else.
    fn rows(self: Arc<Self>, _partition: usize, _inputs: Inputs) -> Result<Option<RowStream>> {
        Ok(None)
    }
}

impl<T: Operator> BatchOperator for T {
    fn name(&self) -> &'static str {
        Operator::name(self)
    }

    fn detail(&self) -> String {
        Operator::detail(self)
    }

    fn schema(&self) -> SchemaRef {
        Rows::schema(self.steps())
    }

    fn partitions(&self, inputs: &[usize]) -> usize {
        Operator::partitions(self, inputs)
    }

    fn batches(self: Arc<Self>, partition: usize, inputs: Inputs) -> Result<BatchStream> {
        let (schema, query) = (Arc::clone(&inputs.schema), Arc::clone(&inputs.query));
        let rows = charged_rows(self, partition, inputs)?;
        Ok(rows.map(move |rows| rows?.into_batch(Arc::clone(&schema), &query.histograms)).boxed())
    }

    fn rows(self: Arc<Self>, partition: usize, inputs: Inputs) -> Result<Option<RowStream>> {
        Ok(Some(charged_rows(self, partition, inputs)?))
    }
}

/// What an operator gives. Where a single row is larger than a batch should be, which the steps of
/// subqueries can make it, a row of its own and one of each input are charged for as long as it
/// runs.
fn charged_rows<T: Operator>(
    operator: Arc<T>,
    partition: usize,
    inputs: Inputs,
) -> Result<RowStream> {
    let steps = Operator::steps(&*operator);
    if steps <= TARGET_VALUES {
        return Ok(some_rows(operator.run(partition, inputs)?).boxed());
    }
    let memory = inputs.reserve(Operator::name(&*operator));
    memory.try_grow((1 + inputs.len()) * Rows::row_bytes(steps))?;
    let rows = some_rows(operator.run(partition, inputs)?);
    Ok(rows.inspect(move |_| _ = &memory).boxed())
}

/// Leaves out empty batches.
fn some_rows(rows: RowStream) -> impl Stream<Item = Result<Rows>> + Send {
    rows.try_filter(|rows| std::future::ready(!rows.is_empty()))
}

/// An operator in a plan of DataFusion.
#[derive(Debug)]
pub(crate) struct PromExec {
    operator: Arc<dyn BatchOperator>,
    inputs: Vec<Arc<dyn ExecutionPlan>>,
    query: Arc<QueryContext>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl PromExec {
    pub(crate) fn plan(
        operator: Arc<dyn BatchOperator>,
        inputs: Vec<Arc<dyn ExecutionPlan>>,
        query: Arc<QueryContext>,
    ) -> Arc<dyn ExecutionPlan> {
        let counts: Vec<usize> =
            inputs.iter().map(|i| i.output_partitioning().partition_count()).collect();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(operator.schema()),
            Partitioning::UnknownPartitioning(operator.partitions(&counts)),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let (properties, metrics) = (Arc::new(properties), ExecutionPlanMetricsSet::new());
        Arc::new(PromExec { operator, inputs, query, properties, metrics })
    }

    fn inputs(&self, task: Arc<TaskContext>, meter: Option<Meter>) -> Inputs {
        Inputs {
            plans: self.inputs.clone(),
            task,
            query: Arc::clone(&self.query),
            schema: self.schema(),
            meter,
        }
    }
}

/// The rows that one partition of a plan gives. From one of our operators to the next they go as
/// they are, unless they are measured on the way; to others they go as Arrow's batches.
pub(crate) fn rows_of(
    plan: &Arc<dyn ExecutionPlan>,
    partition: usize,
    task: &Arc<TaskContext>,
    query: &Arc<QueryContext>,
) -> Result<RowStream> {
    if let Some(ours) = plan.downcast_ref::<PromExec>().filter(|_| !query.analyze) {
        let inputs = ours.inputs(Arc::clone(task), None);
        if let Some(rows) = Arc::clone(&ours.operator).rows(partition, inputs)? {
            return Ok(rows);
        }
    }
    let (batches, query) = (plan.execute(partition, Arc::clone(task))?, Arc::clone(query));
    Ok(batches.map_ok(move |batch| Rows::from_batch(batch, &query.histograms)).boxed())
}

impl DisplayAs for PromExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let detail = self.operator.detail();
        if detail.is_empty() {
            f.write_str(self.operator.name())
        } else {
            write!(f, "{}: {detail}", self.operator.name())
        }
    }
}

impl ExecutionPlan for PromExec {
    fn name(&self) -> &str {
        self.operator.name()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.inputs.iter().collect()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(PromExec::plan(Arc::clone(&self.operator), children, Arc::clone(&self.query)))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(
            children,
            ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute),
        )
    }

    fn execute(
        &self,
        partition: usize,
        task: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let meter = self.query.analyze.then(|| Meter::new(&self.metrics, partition));
        let inputs = self.inputs(task, meter.clone());
        let mut batches = Arc::clone(&self.operator).batches(partition, inputs)?;
        if let Some(meter) = meter {
            batches = meter.stream(batches);
        }
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// What an operator reads from.
#[derive(Clone, Debug)]
pub(crate) struct Inputs {
    plans: Vec<Arc<dyn ExecutionPlan>>,
    task: Arc<TaskContext>,
    pub(crate) query: Arc<QueryContext>,
    /// The schema of the operator's own batches.
    schema: SchemaRef,
    meter: Option<Meter>,
}

impl Inputs {
    pub(crate) fn len(&self) -> usize {
        self.plans.len()
    }

    pub(crate) fn partitions(&self, input: usize) -> usize {
        self.plans[input].output_partitioning().partition_count()
    }

    /// The same query and memory, for an operator that an operator makes.
    pub(crate) fn without_inputs(&self) -> Inputs {
        Inputs { plans: Vec::new(), ..self.clone() }
    }

    /// Counts the samples that the operator looked at, if operators are measured.
    pub(crate) fn count_samples(&self, samples: u64) {
        if let Some(meter) = &self.meter {
            meter.count_samples(samples);
        }
    }

    /// A reservation of this query's memory, empty at first.
    pub(crate) fn reserve(&self, what: &str) -> MemoryReservation {
        MemoryConsumer::new(what).register(self.task.memory_pool())
    }

    /// Charges the text of labels to the query before it is made.
    pub(crate) fn charge_labels(&self, bytes: usize) -> Result<()> {
        self.query.charge_labels(bytes, || self.reserve("labels"))
    }

    /// One partition of an input.
    pub(crate) fn rows(&self, input: usize, partition: usize) -> Result<RowStream> {
        rows_of(&self.plans[input], partition, &self.task, &self.query)
    }

    /// Runs `work` on every partition of an input at once and gives the results in order of
    /// partitions. Dropping the future ends the work.
    pub(crate) async fn on_partitions<T, F, W>(&self, input: usize, work: W) -> Result<Vec<T>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
        W: Fn(RowStream) -> F,
    {
        let partitions = self.partitions(input);
        if partitions == 1 {
            return Ok(vec![work(self.rows(input, 0)?).await?]);
        }
        let mut tasks = JoinSet::new();
        for partition in 0..partitions {
            let work = Box::pin(
                work(self.rows(input, partition)?).map_ok(move |result| (partition, result)),
            );
            match &self.meter {
                Some(meter) => tasks.spawn(meter.future(work)),
                None => tasks.spawn(work),
            };
        }
        let mut results = Vec::with_capacity(partitions);
        while let Some(joined) = tasks.join_next().await {
            results.push(joined.map_err(|e| DataFusionError::ExecutionJoin(Box::new(e)))??);
        }
        results.sort_unstable_by_key(|(partition, _)| *partition);
        Ok(results.into_iter().map(|(_, result)| result).collect())
    }

    /// All rows of an input in one batch, charged to `memory`.
    pub(crate) async fn collect(
        &self,
        input: usize,
        steps: usize,
        memory: &MemoryReservation,
    ) -> Result<Rows> {
        let batches = self.collect_batches(input, memory).await?;
        let copy = memory.new_empty();
        if batches.len() > 1 {
            copy.try_grow(batches.iter().map(Rows::bytes).sum())?;
        }
        Ok(Rows::concat(steps, batches))
    }

    /// All rows of an input, charged to `memory` as they come.
    pub(crate) async fn collect_batches(
        &self,
        input: usize,
        memory: &MemoryReservation,
    ) -> Result<Vec<Rows>> {
        let parts = self.on_partitions(input, |rows| gather(rows, memory.new_empty())).await?;
        let mut batches = Vec::new();
        for (rows, held) in parts {
            memory.try_grow(held.free())?;
            batches.extend(rows);
        }
        Ok(batches)
    }

    /// All rows of both sides of an operator, read at the same time. Where both fail, the error is
    /// that of the left side, whichever came first.
    pub(crate) async fn collect_sides(
        &self,
        steps: usize,
        memory: &MemoryReservation,
    ) -> Result<(Rows, Rows)> {
        let left = pin!(self.collect(0, steps, memory));
        let right = pin!(self.collect(1, steps, memory));
        match select(left, right).await {
            Either::Left((left, right)) => Ok((left?, right.await?)),
            Either::Right((right, left)) => Ok((left.await?, right?)),
        }
    }

    /// The values of the scalar inputs from `first` on, one list of steps each; computed once for
    /// all partitions.
    pub(crate) async fn scalars(
        &self,
        first: usize,
        cell: &OnceCell<Vec<Vec<f64>>>,
    ) -> Result<Vec<Vec<f64>>> {
        let compute = || async {
            let mut scalars = Vec::new();
            for input in first..self.len() {
                let mut rows = self.rows(input, 0)?;
                let values = rows.try_next().await?.map(|r| r.values).unwrap_or_default();
                scalars.push(values);
            }
            Ok::<_, DataFusionError>(scalars)
        };
        cell.get_or_try_init(compute).await.cloned()
    }
}

/// All rows of a stream, charged before the next ones are made.
async fn gather(
    mut stream: RowStream,
    memory: MemoryReservation,
) -> Result<(Vec<Rows>, MemoryReservation)> {
    let mut batches = Vec::new();
    while let Some(rows) = stream.try_next().await? {
        memory.try_grow(rows.bytes())?;
        batches.push(rows);
    }
    Ok((batches, memory))
}

/// A stream with the one result of a future.
pub(crate) fn once(rows: impl Future<Output = Result<Rows>> + Send + 'static) -> RowStream {
    futures::stream::once(rows).boxed()
}
