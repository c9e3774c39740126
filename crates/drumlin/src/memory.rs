//! How much memory the process may use, and uses.

use std::fs;

/// What a process takes at most that is not charged: code, stacks, buffers of connections and of
/// frames on their way, and what the allocator rounds up or has not given back. Of all rows of
/// `benches soak` the most were 116 MiB.
const UNCHARGED: u64 = 192 << 20;

/// The container's limit, or the machine's memory where there is none, without a quarter, and
/// without what is not charged; at least half.
pub(crate) fn default_budget() -> u64 {
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let container =
        limits.iter().filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok()).min();
    budget_of(container.into_iter().chain(machine()).min().unwrap_or(u64::MAX))
}

fn budget_of(available: u64) -> u64 {
    (available / 4 * 3).min(available.saturating_sub(UNCHARGED)).max(available / 2)
}

fn machine() -> Option<u64> {
    bytes_in("/proc/meminfo", "MemTotal:")
}

/// What the process takes of memory besides files; `None` where the system does not tell.
pub(crate) fn anonymous() -> Option<u64> {
    bytes_in("/proc/self/status", "RssAnon:")
}

/// A line `<field> <number> kB` of a file of the system.
fn bytes_in(file: &str, field: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_what_is_not_charged() {
        let budgets = [256, 512, 1024, 4096].map(|mib: u64| budget_of(mib << 20) >> 20);
        assert_eq!(budgets, [128, 320, 768, 3072]);
    }

    #[test]
    fn the_default_is_below_what_the_machine_has() {
        let budget = default_budget();
        assert!(budget > 1 << 20 && budget < machine().unwrap());
    }
}
