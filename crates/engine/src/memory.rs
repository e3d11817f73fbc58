//! The memory of a plan and of the machine.

use crate::EngineError;
use std::fmt::{Display, Formatter};
use std::path::Path;

/// The memory of a plan, in bytes, saturating at `usize::MAX`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The arena of values and their gradients.
    pub values: usize,
    /// Packed weights; with weights packed on use, those of one convolution, with the buffer for their layout conversion.
    pub packed: usize,
    /// Workspace of the kernels.
    pub workspace: usize,
    /// Parameters, their gradients and running statistics; with weights packed on use, the model's, which the plan shares.
    pub parameters: usize,
}

impl Memory {
    /// The total.
    pub fn total(&self) -> usize {
        [self.packed, self.workspace, self.parameters].into_iter().fold(self.values, usize::saturating_add)
    }

    /// Compares the total with the memory that is available to this process at most. Linux overcommits memory and kills
    /// processes that use too much, so that a successful allocation proves nothing.
    ///
    /// # Errors
    /// [`EngineError::Memory`] if the machine certainly does not have enough.
    pub(crate) fn check(self) -> Result<(), EngineError> {
        match limit(Path::new("/")) {
            Some(limit) if self.total() as u64 > limit => {
                Err(EngineError::Memory { required: self, limit: Some(limit) })
            }
            _ => Ok(()),
        }
    }

    /// The error for an allocation that the system refused.
    pub(crate) fn refused(self) -> EngineError {
        EngineError::Memory { required: self, limit: None }
    }
}

impl Display for Memory {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let [total, values, packed, workspace, parameters] =
            [self.total(), self.values, self.packed, self.workspace, self.parameters].map(|count| bytes(count as u64));
        write!(f, "{total} (values {values}, packed weights {packed}, workspace {workspace}, parameters {parameters})")
    }
}

/// 1234567 as 1.2 MB.
pub(crate) fn bytes(count: u64) -> String {
    let (unit, name) = match count as f64 {
        ..1e6 => (1e3, "kB"),
        ..1e9 => (1e6, "MB"),
        _ => (1e9, "GB"),
    };
    format!("{:.1} {name}", count as f64 / unit)
}

/// The memory available to this process at most, if the system reports it (Linux): physical memory, or the lowest limit
/// of its control groups (versions 1 and 2), and all swap space. `root` contains `proc` and `sys`.
fn limit(root: &Path) -> Option<u64> {
    let text = |path: &str| std::fs::read_to_string(root.join(path)).ok();
    let info = text("proc/meminfo")?;
    let field = |name: &str| {
        let value = info.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix("kB"))?;
        Some(1024 * value.trim().parse::<u64>().ok()?)
    };
    let groups = text("proc/self/cgroup").unwrap_or_default();
    let limits = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let (mount, file) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return None,
        };
        // A group's limit holds for those inside it. In a container, whose paths may be those of its host, the mount itself
        // is the container's group.
        let ancestors = Path::new(path.trim_start_matches('/')).ancestors();
        let limits = ancestors
            .filter_map(|group| text(Path::new(mount).join(group).join(file).to_str()?)?.trim().parse::<u64>().ok());
        limits.min()
    });
    let physical = limits.chain([field("MemTotal:")?]).min()?;
    Some(physical.saturating_add(field("SwapTotal:").unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_of_memory_and_group_limits_counts_and_swap_with_it() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert_eq!(limit(root.path()), None);
        write("proc/meminfo", "MemTotal:       1000 kB\nMemFree:        10 kB\nSwapTotal:      50 kB\n");
        assert_eq!(limit(root.path()), Some(1050 * 1024));
        write("proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/host/path\n0::/a/b\n");
        write("sys/fs/cgroup/a/b/memory.max", "max\n");
        assert_eq!(limit(root.path()), Some(1050 * 1024));
        write("sys/fs/cgroup/a/memory.max", "500000\n");
        assert_eq!(limit(root.path()), Some(500_000 + 50 * 1024));
        write("sys/fs/cgroup/memory/memory.limit_in_bytes", "400000\n");
        assert_eq!(limit(root.path()), Some(400_000 + 50 * 1024));
    }

    #[test]
    fn what_is_too_much_to_count_is_still_too_much() {
        let memory = Memory { values: usize::MAX, packed: 1, ..Memory::default() };
        assert_eq!(memory.total(), usize::MAX);
        assert!(memory.to_string().starts_with("18446744073.7 GB (values 18446744073.7 GB, packed weights 0.0 kB, "));
    }
}
