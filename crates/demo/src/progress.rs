//! Progress bars for long work, shown only on a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over `len` steps; `what` names the work.
pub(crate) fn bar(what: &'static str, len: u64) -> ProgressBar {
    let template = "{msg:<28} [{bar:40}] {pos}/{len}  {elapsed}";
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(len).with_style(style.progress_chars("=> ")).with_message(what);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// A spinner, for work whose amount is not known beforehand.
pub(crate) fn spinner(what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:<28} {spinner} {pos} blocks written  {elapsed}");
    let bar = ProgressBar::new_spinner()
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    let bar = bar.with_message(what);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
