//! The series of a range query as JSON: most of an answer's bytes.

use promql::kernels::steps::StepsView;
use promql::value::{Grid, PointValue, PointsView, ResultSeries};

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
        json.raw(r#"{"metric":"#);
        json.labels(&series.labels);
        match series.points.view() {
            PointsView::Steps { grid, values, present, histograms: None } => {
                if !present.is_empty() {
                    self.floats(json, grid, values, present);
                }
            }
            _ => mixed(json, series),
        }
        json.raw("}");
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

fn mixed(json: &mut Json, series: &ResultSeries) {
    for (name, floats) in [(r#","values":["#, true), (r#","histograms":["#, false)] {
        let points =
            series.points.iter().filter(|p| matches!(p.value, PointValue::Float(_)) == floats);
        let mut empty = true;
        for point in points {
            json.raw(if empty { name } else { "," });
            json.point(&point);
            empty = false;
        }
        if !empty {
            json.raw("]");
        }
    }
}
