//! `histogram_quantile` over classic buckets.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use model::Labels;
use promql::ast::Span;
use promql::kernels::histogram::{Bucket, bucket_quantile};
use promql::kernels::window::Steps;
use tokio::sync::OnceCell;

use super::map::relabel;
use super::window::metric_name;
use crate::batch::Rows;
use crate::exec::{BatchStream, Inputs, Operator, once};

/// Input 0 is the buckets, input 1 is φ.
#[derive(Debug)]
pub(crate) struct HistogramQuantile {
    pub(crate) steps: Steps,
    pub(crate) buckets_span: Span,
    pub(crate) quantile_span: Span,
}

/// The buckets of one histogram: upper bound and row.
struct Histogram {
    labels: Labels,
    name: String,
    buckets: Vec<(f64, usize)>,
}

impl HistogramQuantile {
    fn histograms(&self, inputs: &Inputs, rows: &Rows) -> Vec<Histogram> {
        let mut found: HashMap<Labels, usize> = HashMap::new();
        let mut histograms: Vec<Histogram> = Vec::new();
        for (row, labels) in inputs.query.labels_of(rows).iter().enumerate() {
            let le = String::from_utf8_lossy(labels.get("le").unwrap_or_default()).into_owned();
            let Ok(upper) = le.parse::<f64>() else {
                let name = metric_name(labels);
                inputs.query.annotate().bad_bucket_label(&inputs.query.text, self.buckets_span, (&name, &le));
                continue;
            };
            let rest = labels.without(&["le"]);
            let at = *found.entry(rest).or_insert_with_key(|rest| {
                histograms.push(Histogram { labels: rest.clone(), name: metric_name(rest), buckets: Vec::new() });
                histograms.len() - 1
            });
            histograms[at].buckets.push((upper, row));
        }
        histograms
    }

    fn evaluate(&self, inputs: &Inputs, rows: &Rows, q: &[f64]) -> Rows {
        let histograms = self.histograms(inputs, rows);
        if !histograms.is_empty() {
            for bad in q.iter().filter(|q| !(0.0..=1.0).contains(*q)) {
                inputs.query.annotate().bad_quantile(&inputs.query.text, self.quantile_span, *bad);
            }
        }
        let mut out = Rows::new(self.steps.count);
        let mut labels = Vec::with_capacity(histograms.len());
        let mut buckets = Vec::new();
        for histogram in &histograms {
            let (kept, drop_name) = inputs.query.drop_name(&histogram.labels);
            labels.push(kept);
            out.push_empty(0, drop_name);
            let at = out.len() - 1;
            for (k, q) in q.iter().enumerate() {
                buckets.clear();
                let there = histogram.buckets.iter().filter(|(_, row)| rows.is_present(*row, k));
                buckets.extend(there.map(|(upper, row)| Bucket { upper: *upper, count: rows.values(*row)[k] }));
                if buckets.is_empty() {
                    continue;
                }
                let (value, forced) = bucket_quantile(*q, &mut buckets);
                if let Some(forced) = forced {
                    let at_ms = self.steps.eval(k);
                    inputs.query.annotate().forced_monotonicity(self.buckets_span, &histogram.name, at_ms, forced);
                }
                let (values, present) = out.row_mut(at);
                values[k] = value;
                present[k / 64] |= 1 << (k % 64);
            }
        }
        relabel(&inputs.query, &mut out, labels);
        out
    }
}

impl Operator for HistogramQuantile {
    fn name(&self) -> &'static str {
        "HistogramQuantile"
    }

    fn schema(&self) -> SchemaRef {
        Rows::schema(self.steps.count)
    }

    fn partitions(&self, _: &[usize]) -> usize {
        1
    }

    fn run(self: Arc<Self>, _: usize, inputs: Inputs) -> Result<BatchStream> {
        let schema = self.schema();
        Ok(once(schema, async move {
            let memory = inputs.reserve("histogram_quantile");
            let rows = inputs.collect(0, self.steps.count, &memory).await?;
            let q = inputs.scalars(1, &OnceCell::new()).await?.swap_remove(0);
            let out = self.evaluate(&inputs, &rows, &q);
            Ok(if out.is_empty() { Vec::new() } else { vec![out] })
        }))
    }
}
