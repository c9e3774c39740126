//! How much memory the process may use.

use std::fs;

/// Three quarters of the container's limit, or of the machine's memory where there is none.
pub(crate) fn default_budget() -> u64 {
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let container =
        limits.iter().filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok()).min();
    let available: u64 = container.into_iter().chain(machine()).min().unwrap_or(u64::MAX);
    available / 4 * 3
}

fn machine() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    total.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_below_what_the_machine_has() {
        let budget = default_budget();
        assert!(budget > 1 << 20 && budget < machine().unwrap());
    }
}
