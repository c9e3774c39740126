//! The points of a result series: a list, or a view of what an engine made.

use std::fmt;
use std::sync::Arc;

use model::FloatHistogram;

use super::{Grid, Point, PointValue};
use crate::kernels::steps::StepsView;

/// The points of one series in order of time.
#[derive(Clone)]
pub struct Points(PointsRepr);

#[derive(Clone)]
enum PointsRepr {
    Row { rows: Arc<dyn StepRows>, row: usize },
    List(Vec<Point>),
}

/// Rows of points over the steps of a grid, held by the engine that evaluated them. They live until
/// the last of their series is dropped.
pub trait StepRows: Send + Sync {
    /// A row as [`PointsView::Steps`] or [`PointsView::Samples`]; a list will do too.
    fn view(&self, row: usize) -> PointsView<'_>;
}

/// How the points are held, for code that reads many.
#[derive(Clone, Copy, Debug)]
pub enum PointsView<'a> {
    /// At the steps of a grid that are present: a histogram where there is one, else a float.
    Steps {
        grid: Grid,
        values: &'a [f64],
        present: StepsView<'a>,
        histograms: Option<&'a [Option<Arc<FloatHistogram>>]>,
    },
    /// Samples, each at a time of its own: a histogram where there is one, else a float.
    Samples {
        t: &'a [i64],
        v: &'a [f64],
        histograms: Option<&'a [Option<Arc<FloatHistogram>>]>,
    },
    List(&'a [Point]),
}

impl Points {
    /// One row of these rows, without a copy.
    pub fn of_row(rows: Arc<dyn StepRows>, row: usize) -> Points {
        Points(PointsRepr::Row { rows, row })
    }

    pub fn view(&self) -> PointsView<'_> {
        match &self.0 {
            PointsRepr::Row { rows, row } => rows.view(*row),
            PointsRepr::List(points) => PointsView::List(points),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Point> + '_ {
        let view = self.view();
        let (steps, all) = match view {
            PointsView::Steps { present, .. } => (Some(present.into_iter()), 0),
            PointsView::Samples { .. } | PointsView::List(_) => (None, self.places()),
        };
        steps.into_iter().flatten().chain(0..all).filter_map(move |k| view.at(k))
    }

    /// How many places there are for points: one per step or entry of the list.
    pub fn places(&self) -> usize {
        match self.view() {
            PointsView::Steps { values, .. } => values.len(),
            PointsView::Samples { t, .. } => t.len(),
            PointsView::List(points) => points.len(),
        }
    }

    /// The point at a place, if there is one.
    pub fn at(&self, place: usize) -> Option<Point> {
        self.view().at(place)
    }

    pub fn first(&self) -> Option<Point> {
        self.iter().next()
    }

    pub fn len(&self) -> usize {
        match self.view() {
            PointsView::Steps { present, .. } => present.len(),
            PointsView::Samples { t, .. } => t.len(),
            PointsView::List(points) => points.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        match self.view() {
            PointsView::Steps { present, .. } => present.is_empty(),
            PointsView::Samples { t, .. } => t.is_empty(),
            PointsView::List(points) => points.is_empty(),
        }
    }
}

impl PointsView<'_> {
    fn at(self, place: usize) -> Option<Point> {
        match self {
            PointsView::List(points) => points.get(place).cloned(),
            PointsView::Steps { present, .. } if !present.contains(place) => None,
            PointsView::Steps { grid, values, histograms, .. } => {
                let value = *values.get(place)?;
                Some(point(grid.time(place), value, histograms.and_then(|h| h[place].as_ref())))
            }
            PointsView::Samples { t, v, histograms } => {
                let histogram = histograms.and_then(|h| h.get(place)?.as_ref());
                Some(point(*t.get(place)?, *v.get(place)?, histogram))
            }
        }
    }
}

fn point(t_ms: i64, value: f64, histogram: Option<&Arc<FloatHistogram>>) -> Point {
    let float = || PointValue::Float(value);
    Point { t_ms, value: histogram.map_or_else(float, |h| PointValue::Histogram(Arc::clone(h))) }
}

impl From<Vec<Point>> for Points {
    fn from(points: Vec<Point>) -> Points {
        Points(PointsRepr::List(points))
    }
}

impl FromIterator<Point> for Points {
    fn from_iter<I: IntoIterator<Item = Point>>(points: I) -> Points {
        Points(PointsRepr::List(points.into_iter().collect()))
    }
}

impl PartialEq for Points {
    fn eq(&self, other: &Points) -> bool {
        self.iter().eq(other.iter())
    }
}

impl fmt::Debug for Points {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
