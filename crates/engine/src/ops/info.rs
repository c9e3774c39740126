//! `info()`: adds the labels of info metrics to series with the same `instance` and `job`.
//!
//! Which info metrics to read is known only once the series are: the selects are made here, for the
//! values of `instance` and `job` that occur. A series is matched by labels once; which info series
//! it is enriched by at a step is a bitmap.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use datafusion_common::Result;
use datafusion_execution::memory_pool::MemoryReservation;
use futures::TryStreamExt;
use model::{Labels, LabelsBuilder, METRIC_NAME, MatchOp, Matcher};
use promql::kernels::interrupt::{Interrupt, sort};
use promql::kernels::steps::{StepSet, StepsView};

use super::distinct::SAME_LABELSET;
use super::groups::{GROUPING_UNITS, grouping_units};
use super::map::relabel;
use super::series_scan::SeriesScan;
use super::window::{SelectorWindow, WindowSpec};
use crate::batch::{RowStream, Rows};
use crate::context::Check;
use crate::error::execution;
use crate::exec::{Inputs, Operator, once};
use crate::read::SelectorReading;
use crate::source::Select;

/// The labels that say what an info metric is about.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// Which info metrics are read, and which of their labels are added.
#[derive(Clone, Debug)]
pub(crate) struct InfoSpec {
    /// What their names match.
    pub(crate) names: Vec<Matcher>,
    /// What their labels match; if there are any, only labels of these names are added.
    pub(crate) data: Vec<Matcher>,
    /// How they are read; the matchers are added later.
    pub(crate) select: Select,
    pub(crate) reading: SelectorReading,
    pub(crate) window: WindowSpec,
}

#[derive(Debug)]
pub(crate) struct Info {
    pub(crate) spec: InfoSpec,
}

/// The values of the identifying labels, empty where there is none.
type IdentifyingValues<'a> = [&'a [u8]; 2];

fn identity(labels: &Labels) -> IdentifyingValues<'_> {
    IDENTIFYING.map(|name| labels.get(name).unwrap_or_default())
}

/// Series and their labels.
struct LabelledRows {
    rows: Rows,
    labels: Vec<Labels>,
}

/// The info series, one at most per metric, that enrich at some steps.
struct InfoChoice {
    rows: Vec<usize>,
    steps: StepSet,
}

/// An info series, and the steps at which its sample is the newest of those of its metric.
struct Newest {
    row: usize,
    steps: StepSet,
}

/// Two info series of one metric that are equally new.
struct Conflict {
    step: usize,
    existing: usize,
    new: usize,
}

impl Info {
    async fn evaluate(&self, inputs: &Inputs) -> Result<Rows> {
        let memory = inputs.reserve("info");
        let rows = inputs.collect(0, self.steps(), &memory).await?;
        let base = LabelledRows { labels: inputs.query.labels_of(&rows), rows };
        let (enriched, selects) = inputs.query.work(|interrupt| {
            let enriched = self.enriched(&base.labels, interrupt)?;
            let mut identities = Identities::default();
            for (labels, _) in base.labels.iter().zip(&enriched).filter(|(_, e)| **e) {
                interrupt.check(grouping_units(labels))?;
                identities.add(identity(labels));
            }
            Ok((enriched, identities.matchers()))
        })?;
        let mut info = LabelledRows { rows: Rows::new(self.steps()), labels: Vec::new() };
        for matchers in selects {
            self.read(inputs, matchers, &mut info, &memory).await?;
        }
        inputs.query.work(|interrupt| {
            let mut out = EnrichedOutput::new(self.steps(), inputs, &memory);
            let choices = choices(&base, &info, interrupt)?;
            for (row, labels) in base.labels.iter().enumerate() {
                interrupt.check(grouping_units(labels) + self.steps())?;
                let found = choices.get(&identity(labels)).filter(|_| enriched[row]);
                let Some(found) = found else {
                    if !enriched[row] || self.spec.data.iter().all(Matcher::matches_empty) {
                        out.add(labels.clone(), &base.rows, row, base.rows.present(row))?;
                    }
                    continue;
                };
                for choice in found {
                    interrupt.check(GROUPING_UNITS * (1 + choice.rows.len()))?;
                    let steps = choice.steps.and(base.rows.present(row));
                    if steps.is_empty() {
                        continue;
                    }
                    if let Some(labels) = self.enrich(labels, choice, &info.labels)? {
                        out.add(labels, &base.rows, row, steps.view())?;
                    }
                }
            }
            relabel(&inputs.query, &mut out.rows, out.labels);
            Ok(out.rows)
        })
    }

    /// Which series are not info series themselves.
    fn enriched(&self, labels: &[Labels], interrupt: &Interrupt<'_>) -> Result<Vec<bool>> {
        let mut enriched = Vec::with_capacity(labels.len());
        for labels in labels {
            let name = labels.metric_name().unwrap_or_default();
            interrupt.check(32 * (1 + name.len()))?;
            enriched.push(!self.spec.names.iter().all(|m| m.matches(name)));
        }
        Ok(enriched)
    }

    /// Reads the info series of some identifying values; the value at each step is the time of
    /// their last sample.
    async fn read(
        &self,
        inputs: &Inputs,
        identifying: Vec<Matcher>,
        info: &mut LabelledRows,
        memory: &MemoryReservation,
    ) -> Result<()> {
        let mut select = self.spec.select.clone();
        select.matchers = identifying;
        select.matchers.extend(self.spec.data.iter().chain(&self.spec.names).cloned());
        let (spec, scan) = (self.spec.window.clone(), SeriesScan::new(select));
        let window = Arc::new(SelectorWindow::new(spec, scan, self.spec.reading.clone(), 1));
        let mut batches = window.run(0, inputs.without_inputs())?;
        while let Some(rows) = batches.try_next().await? {
            memory.try_grow(rows.bytes())?;
            info.labels.extend(inputs.query.labels_of(&rows));
            info.rows.append(rows);
        }
        Ok(())
    }

    /// The labels of a series with those of its info series, or `None` where it is left out.
    fn enrich(
        &self,
        labels: &Labels,
        choice: &InfoChoice,
        info: &[Labels],
    ) -> Result<Option<Labels>> {
        if choice.rows.is_empty() {
            let stays = self.spec.data.iter().all(Matcher::matches_empty);
            return Ok(stays.then(|| labels.clone()));
        }
        let mut added: BTreeMap<&[u8], &[u8]> = BTreeMap::new();
        for row in &choice.rows {
            for (name, value) in
                info[*row].iter().filter(|(name, _)| *name != METRIC_NAME.as_bytes())
            {
                let wanted = self.spec.data.is_empty()
                    || self.spec.data.iter().any(|m| m.name.as_bytes() == name);
                if !wanted || labels.get(name).is_some() {
                    continue;
                }
                if *added.entry(name).or_insert(value) != value {
                    return Err(execution(format!(
                        "conflicting label: {}",
                        String::from_utf8_lossy(name)
                    )));
                }
            }
        }
        let mut builder = LabelsBuilder::from(labels);
        for (name, value) in added {
            builder.set(name, value);
        }
        Ok(Some(builder.build()))
    }
}

/// The identifying values that occur, by which of them do.
#[derive(Default)]
struct Identities<'a>(BTreeMap<[bool; 2], [BTreeSet<&'a str>; 2]>);

impl<'a> Identities<'a> {
    fn add(&mut self, values: IdentifyingValues<'a>) {
        // Labels of info metrics are UTF-8, so others match none.
        let [Ok(instance), Ok(job)] = values.map(std::str::from_utf8) else { return };
        let present = [!instance.is_empty(), !job.is_empty()];
        if present != [false, false] {
            let group = self.0.entry(present).or_default();
            group[0].insert(instance);
            group[1].insert(job);
        }
    }

    /// Sets of matchers for the info series that series with these values may have, one set for
    /// each of `instance`, `job` and both that occurs.
    fn matchers(&self) -> Vec<Vec<Matcher>> {
        let set = |group: &[BTreeSet<&str>; 2]| {
            IDENTIFYING.iter().zip(group).map(|(name, v)| one_of(name, v)).collect()
        };
        self.0.values().map(set).collect()
    }
}

/// A matcher for any of the values. Where there are too many for a regex, it accepts anything that
/// has the label.
fn one_of(name: &str, values: &BTreeSet<&str>) -> Matcher {
    if let (1, Some(value)) = (values.len(), values.first()) {
        return Matcher::equal(name, *value);
    }
    let literals: Vec<String> = values.iter().map(|value| quote_regex(value)).collect();
    let any = || Matcher::new(MatchOp::NotEqual, name, "");
    Matcher::new(MatchOp::Regex, name, literals.join("|"))
        .or_else(|_| any())
        .unwrap_or(Matcher::equal(name, ""))
}

fn quote_regex(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted
}

/// The info series that enrich the series of each identity, and when; together the choices cover
/// all steps.
fn choices<'a>(
    base: &LabelledRows,
    info: &'a LabelledRows,
    interrupt: &Interrupt<'_>,
) -> Result<HashMap<IdentifyingValues<'a>, Vec<InfoChoice>>> {
    let mut looked_at = StepSet::none(info.rows.steps);
    (0..base.rows.len()).for_each(|row| looked_at.add(base.rows.present(row)));
    let mut order: Vec<usize> = (0..info.rows.len()).collect();
    sort(&mut order, |a, b| info.labels[*a].cmp(&info.labels[*b]), interrupt);
    let mut groups: HashMap<IdentifyingValues<'a>, BTreeMap<&[u8], Vec<usize>>> = HashMap::new();
    for row in order {
        let labels = &info.labels[row];
        let metrics = groups.entry(identity(labels)).or_default();
        metrics.entry(labels.metric_name().unwrap_or_default()).or_default().push(row);
    }
    let mut conflict: Option<Conflict> = None;
    let mut all = HashMap::with_capacity(groups.len());
    for (identity, metrics) in groups {
        let mut choices =
            vec![InfoChoice { rows: Vec::new(), steps: StepSet::all(info.rows.steps) }];
        for rows in metrics.values() {
            match newest(&info.rows, rows, looked_at.view(), interrupt) {
                Ok(newest) => {
                    let mut parts = Vec::new();
                    for choice in choices {
                        let words = choice.steps.words().len();
                        interrupt.check((words + choice.rows.len()) * (1 + newest.len()))?;
                        split(choice, &newest, &mut parts);
                    }
                    choices = parts;
                }
                Err(found) => {
                    let place = |c: &Conflict| (c.step, c.new);
                    conflict = conflict.into_iter().chain([found]).min_by_key(place);
                }
            }
        }
        all.insert(identity, choices);
    }
    match conflict {
        None => Ok(all),
        Some(Conflict { step, existing, new }) => {
            let at = |row: usize| (info.rows.values(row)[step] * 1000.0).round();
            let (existing_labels, new_labels) = (&info.labels[existing], &info.labels[new]);
            Err(execution(format!(
                "found duplicate series for info metric: existing {existing_labels} @ {}, new \
                 {new_labels} @ {}",
                at(existing),
                at(new)
            )))
        }
    }
}

/// Which of the info series of one metric and identity have the newest sample, and when.
fn newest(
    info: &Rows,
    rows: &[usize],
    looked_at: StepsView<'_>,
    interrupt: &Interrupt<'_>,
) -> std::result::Result<Vec<Newest>, Conflict> {
    if let [row] = rows {
        return Ok(vec![Newest { row: *row, steps: info.present(*row).to_set() }]);
    }
    let none = |row: &usize| Newest { row: *row, steps: StepSet::none(info.steps) };
    let mut newest: Vec<Newest> = rows.iter().map(none).collect();
    for step in looked_at {
        if interrupt.after(4 * rows.len()) {
            break;
        }
        let mut best: Option<usize> = None;
        for (i, row) in rows.iter().enumerate().filter(|(_, row)| info.is_present(**row, step)) {
            let value = |i: usize| info.values(rows[i])[step];
            match best {
                Some(b) if value(b) == value(i) => {
                    return Err(Conflict { step, existing: rows[b], new: *row });
                }
                Some(b) if value(b) > value(i) => {}
                _ => best = Some(i),
            }
        }
        if let Some(best) = best {
            newest[best].steps.insert(step);
        }
    }
    Ok(newest)
}

/// Splits a choice by the info series of one more metric that it goes with at each of its steps.
fn split(choice: InfoChoice, newest: &[Newest], parts: &mut Vec<InfoChoice>) {
    let mut rest = choice.steps.clone();
    for Newest { row, steps } in newest {
        let both = choice.steps.and(steps.view());
        if !both.is_empty() {
            rest.subtract(both.view());
            let rows = choice.rows.iter().copied().chain([*row]).collect();
            parts.push(InfoChoice { rows, steps: both });
        }
    }
    if !rest.is_empty() {
        parts.push(InfoChoice { rows: choice.rows, steps: rest });
    }
}

/// The enriched series as they grow.
struct EnrichedOutput<'a> {
    inputs: &'a Inputs,
    memory: &'a MemoryReservation,
    rows: Rows,
    labels: Vec<Labels>,
    by_labels: HashMap<Labels, usize>,
}

impl<'a> EnrichedOutput<'a> {
    fn new(steps: usize, inputs: &'a Inputs, memory: &'a MemoryReservation) -> EnrichedOutput<'a> {
        let (rows, labels, by_labels) = (Rows::new(steps), Vec::new(), HashMap::new());
        EnrichedOutput { inputs, memory, rows, labels, by_labels }
    }

    /// Adds some steps of a row of `base` to the series with these labels.
    fn add(&mut self, labels: Labels, base: &Rows, row: usize, steps: StepsView<'_>) -> Result<()> {
        let at = match self.by_labels.get(&labels) {
            Some(at) => *at,
            None => {
                self.inputs.charge_labels(labels.as_packed().len())?;
                self.memory.try_grow(self.rows.steps * 8)?;
                self.by_labels.insert(labels.clone(), self.labels.len());
                self.labels.push(labels);
                self.rows.push_empty(0, base.drop_name[row]);
                self.labels.len() - 1
            }
        };
        if self.rows.present(at).overlaps(steps) {
            return Err(execution(SAME_LABELSET));
        }
        steps.for_each(|step| self.rows.copy_step(at, base, row, step));
        Ok(())
    }
}

impl Operator for Info {
    fn name(&self) -> &'static str {
        "Info"
    }

    fn detail(&self) -> String {
        format!("{:?} {:?}", self.spec.names, self.spec.data)
    }

    fn steps(&self) -> usize {
        self.spec.window.steps.count
    }

    fn run(self: Arc<Self>, _: usize, inputs: Inputs) -> Result<RowStream> {
        Ok(once(async move { self.evaluate(&inputs).await }))
    }
}
