//! The series of a range query as JSON: most of an answer's bytes.

use promql::kernels::steps::StepsView;
use promql::value::{Grid, Point, PointValue, PointsView, ResultSeries};

use crate::Json;

/// Writes one series after the other. All have the same steps, whose times are written once and
/// then copied.
#[derive(Debug, Default)]
pub struct SeriesWriter {
    grid: Option<Grid>,
    /// `,[<time>,` for every step asked for so far, and where each ends.
    times: Vec<u8>,
    ends: Vec<usize>,
}

impl SeriesWriter {
    /// `{"metric":{…},"values":[[…],…],"histograms":[[…],…]}`, each list left out when empty.
    pub fn write(&mut self, json: &mut Json, series: &ResultSeries) {
        begin(json, series);
        match series.points.view() {
            PointsView::Steps { grid, values, present, histograms: None } => {
                if !present.is_empty() {
                    self.floats(json, grid, values, present);
                }
            }
            _ => _ = PointLists::default().write(json, series, usize::MAX),
        }
        json.raw("}");
    }

    /// Whether a series is written in one piece: as many floats as a query may have steps, while
    /// histograms and the samples of a range vector may take any number of bytes.
    pub(crate) fn takes(series: &ResultSeries) -> bool {
        matches!(series.points.view(), PointsView::Steps { histograms: None, .. })
    }

    fn floats(&mut self, json: &mut Json, grid: Grid, values: &[f64], present: StepsView<'_>) {
        self.prepare(grid, values.len());
        json.raw(r#","values":"#);
        let list = json.0.len();
        present.for_each(|k| {
            let from = if k == 0 { 0 } else { self.ends[k - 1] };
            json.0.extend_from_slice(&self.times[from..self.ends[k]]);
            json.float(values[k]);
            json.0.push(b']');
        });
        // the comma before the first point
        json.0[list] = b'[';
        json.raw("]");
    }

    fn prepare(&mut self, grid: Grid, steps: usize) {
        if self.grid != Some(grid) {
            self.times.clear();
            self.ends.clear();
            self.grid = Some(grid);
        }
        let mut json = Json(std::mem::take(&mut self.times));
        for k in self.ends.len()..steps {
            json.raw(",[");
            json.timestamp(grid.time(k));
            json.raw(",");
            self.ends.push(json.0.len());
        }
        self.times = json.0;
    }
}

/// `{"metric":{…}`
pub(crate) fn begin(json: &mut Json, series: &ResultSeries) {
    json.raw(r#"{"metric":"#);
    json.labels(&series.labels);
}

/// The lists of the floats and of the histograms of a series, as far as they are written.
#[derive(Debug, Default)]
pub(crate) struct PointLists {
    /// Of the list of histograms.
    histograms: bool,
    /// The next place to look at.
    place: usize,
    /// The list has begun.
    begun: bool,
}

impl PointLists {
    /// Writes on until all is written, and then returns true, or the JSON has this many bytes.
    pub(crate) fn write(&mut self, json: &mut Json, series: &ResultSeries, bytes: usize) -> bool {
        loop {
            while self.place < series.points.places() {
                if json.0.len() >= bytes {
                    return false;
                }
                let point = series.points.at(self.place);
                self.place += 1;
                if let Some(point) = point.filter(|point| self.holds(point)) {
                    let name =
                        if self.histograms { r#","histograms":["# } else { r#","values":["# };
                    json.raw(if std::mem::replace(&mut self.begun, true) { "," } else { name });
                    json.point(&point);
                }
            }
            if self.begun {
                json.raw("]");
            }
            if self.histograms {
                return true;
            }
            *self = PointLists { histograms: true, ..PointLists::default() };
        }
    }

    fn holds(&self, point: &Point) -> bool {
        matches!(point.value, PointValue::Histogram(_)) == self.histograms
    }
}
