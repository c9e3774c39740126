//! Prometheus' own flags: whether it leaves its blocks alone long enough to ship them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::settings::Settings;
use crate::{Error, Kind, Result};

const MIN_BLOCK: &str = "storage.tsdb.min-block-duration";
const MAX_BLOCK: &str = "storage.tsdb.max-block-duration";
const DELAY_COMPACT: &str = "storage.tsdb.delay-compact-file.path";

/// Prometheus must not compact blocks away before they are shipped: either its blocks never grow,
/// or it waits for what the shipper records.
///
/// # Errors
/// `Invalid`, saying which flags of Prometheus to set.
pub(crate) fn check(flags: &BTreeMap<String, String>, settings: &Settings) -> Result<()> {
    let (Some(min), Some(max)) = (flags.get(MIN_BLOCK), flags.get(MAX_BLOCK)) else {
        tracing::warn!(
            "Prometheus does not tell its block durations; not checking that it leaves blocks alone"
        );
        return Ok(());
    };
    let delay_file = flags.get(DELAY_COMPACT).filter(|path| !path.is_empty());
    if let Some(path) = delay_file {
        let ours = settings.shipper.meta_file();
        if !same_file(Path::new(path), &ours) {
            let message = format!(
                "Prometheus waits for {path} before it compacts (--{DELAY_COMPACT}), but the \
                 shipper writes {}; set both to the same file",
                ours.display()
            );
            return Err(Error::new(Kind::Invalid, message));
        }
    } else if parse_duration(min) != parse_duration(max) {
        let message = format!(
            "Prometheus compacts its blocks (--{MIN_BLOCK}={min}, --{MAX_BLOCK}={max}), which may \
             remove them before they are shipped; set both to 2h, or --{DELAY_COMPACT}={}",
            settings.shipper.meta_file().display()
        );
        if !settings.ignore_unequal_block_size {
            return Err(Error::new(Kind::Invalid, message));
        }
        tracing::warn!("{message}");
    }
    if parse_duration(min) != Some(Duration::from_secs(2 * 3600)) {
        tracing::warn!(block_duration = %min, "Prometheus' blocks do not span 2h, which is what is \
            recommended");
    }
    Ok(())
}

/// Two containers may mount the folder at one place or name it by different links.
fn same_file(theirs: &Path, ours: &Path) -> bool {
    let parent = |path: &Path| path.parent().and_then(|dir| dir.canonicalize().ok());
    theirs == ours
        || (theirs.file_name() == ours.file_name()
            && parent(theirs).is_some_and(|p| Some(p) == parent(ours)))
}

/// Prometheus' notation: `2h`, `1d12h`, `1h30m`.
fn parse_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 7] = [
        ("ms", 1),
        ("s", 1000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
        ("w", 7 * 86_400_000),
        ("y", 365 * 86_400_000),
    ];
    let (mut rest, mut millis) = (text, 0u64);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let count: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = UNITS.iter().find(|(name, _)| *name == &rest[..end])?.1;
        millis = millis.checked_add(count.checked_mul(unit)?)?;
        rest = &rest[end..];
    }
    (!text.is_empty()).then_some(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use block::ship::ShipperSettings;

    use super::*;

    fn flags(min: &str, max: &str, delay: &str) -> BTreeMap<String, String> {
        [(MIN_BLOCK, min), (MAX_BLOCK, max), (DELAY_COMPACT, delay)]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into()
    }

    #[test]
    fn durations_are_read_as_prometheus_writes_them() {
        assert_eq!(parse_duration("1d12h"), Some(Duration::from_secs(36 * 3600)));
        assert_eq!(parse_duration("0s"), Some(Duration::ZERO));
        assert_eq!(parse_duration("1ms"), Some(Duration::from_millis(1)));
        for broken in ["", "2", "h", "2x", "99999999999999999999y"] {
            assert_eq!(parse_duration(broken), None, "{broken}");
        }
    }

    #[test]
    fn a_compacting_prometheus_is_refused_unless_it_waits_for_us() {
        let shipper =
            ShipperSettings { tsdb_path: "/prometheus".into(), ..ShipperSettings::default() };
        let settings = Settings { shipper, ..Settings::default() };
        assert!(check(&flags("2h", "2h", ""), &settings).is_ok());
        assert!(check(&flags("2h", "120m", ""), &settings).is_ok());
        let error = check(&flags("2h", "1d12h", ""), &settings).unwrap_err().to_string();
        assert!(error.contains("--storage.tsdb.max-block-duration=1d12h"), "{error}");
        assert!(check(&flags("2h", "1d12h", "/prometheus/thanos.shipper.json"), &settings).is_ok());
        let error = check(&flags("2h", "1d12h", "/other/thanos.shipper.json"), &settings)
            .unwrap_err()
            .to_string();
        assert!(error.contains("the shipper writes /prometheus/thanos.shipper.json"), "{error}");
        let ignoring = Settings { ignore_unequal_block_size: true, ..settings };
        assert!(check(&flags("2h", "1d12h", ""), &ignoring).is_ok());
    }

    #[test]
    fn an_old_prometheus_that_tells_nothing_is_believed() {
        assert!(check(&BTreeMap::new(), &Settings::default()).is_ok());
    }
}
