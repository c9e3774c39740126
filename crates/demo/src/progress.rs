//! Progress bars for long work, shown only on a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over `len` steps; `what` names the work. It says how long the rest will take.
pub(crate) fn bar(what: &'static str, len: u64) -> ProgressBar {
    let template = "{msg:<28} [{bar:40}] {percent:>3} %  {elapsed}, {eta} left";
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(len).with_style(style.progress_chars("=> ")).with_message(what);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
