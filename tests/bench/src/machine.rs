//! What the machine gives and tells: cores to pin to, file descriptors, CPU time and memory of processes.

use anyhow::{Context, Result, ensure};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

/// Who runs where: a proxy under test has a core to itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cores {
    pub proxy: usize,
    pub load: usize,
    pub engine: usize,
    all: Vec<usize>,
}

impl Cores {
    /// Of the cores that this process may use.
    pub(crate) fn find() -> Result<Self> {
        let allowed = sched_getaffinity(Pid::from_raw(0)).context("asking for the usable cores")?;
        let usable = (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or(false));
        Self::of(usable.collect()).context("no core may be used")
    }

    /// With two cores, load and engines share one; with one, all do.
    fn of(all: Vec<usize>) -> Option<Self> {
        let (load, proxy) = (*all.first()?, *all.last()?);
        let engine = if all.len() > 2 { all[1] } else { load };
        Some(Self {
            proxy,
            load,
            engine,
            all,
        })
    }

    pub(crate) fn count(&self) -> usize {
        self.all.len()
    }

    /// Pins the calling thread for as long as `act` takes: the processes it starts inherit its core.
    pub(crate) fn on<T>(&self, core: usize, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let me = Pid::from_raw(0);
        let before = sched_getaffinity(me).context("asking for the usable cores")?;
        pin(core)?;
        let result = act();
        sched_setaffinity(me, &before).context("unpinning")?;
        result
    }
}

/// Pins the calling thread.
pub(crate) fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core).with_context(|| format!("core {core}"))?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("pinning to core {core}"))
}

/// Raises the number of files that this process and its children may open, and says what it is then.
pub(crate) fn raise_open_files() -> Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("asking for the limit of open files")?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raising the limit of open files")?;
    Ok(hard)
}

/// A program with all its processes: some start workers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group(pub u32);

impl Group {
    /// CPU time in user and kernel mode, in nanoseconds.
    pub(crate) fn cpu_ns(self) -> Result<u64> {
        let mut sum = 0;
        for pid in self.members()? {
            let clock = clock_getcpuclockid(pid).context("finding the CPU clock of a process")?;
            let time = clock.now().context("reading the CPU clock of a process")?;
            sum += u64::try_from(time.tv_sec())? * 1_000_000_000 + u64::try_from(time.tv_nsec())?;
        }
        Ok(sum)
    }

    /// Memory in bytes; what processes share is divided among them.
    pub(crate) fn memory(self) -> Result<u64> {
        let mut sum = 0;
        for pid in self.members()? {
            let path = format!("/proc/{pid}/smaps_rollup");
            let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
            // The proportional set size.
            sum += size(&text, "Pss:").with_context(|| format!("{path} names no Pss"))?;
        }
        Ok(sum)
    }

    /// The most memory that was resident at any time, in bytes; what processes share counts for each.
    pub(crate) fn peak_memory(self) -> Result<u64> {
        let mut sum = 0;
        for pid in self.members()? {
            let path = format!("/proc/{pid}/status");
            let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
            sum += size(&text, "VmHWM:").with_context(|| format!("{path} names no VmHWM"))?;
        }
        Ok(sum)
    }

    fn members(self) -> Result<Vec<Pid>> {
        let leader = i32::try_from(self.0)?;
        let mut members = Vec::new();
        for entry in std::fs::read_dir("/proc").context("listing /proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // A process that has ended meanwhile belongs to nobody.
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            if process_group(&stat) == Some(leader) {
                members.push(Pid::from_raw(pid));
            }
        }
        ensure!(!members.is_empty(), "process {leader} is gone");
        Ok(members)
    }
}

/// The process group in `/proc/<pid>/stat`; the name before it may hold anything, parentheses and spaces too.
fn process_group(stat: &str) -> Option<i32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(2)?.parse().ok() // behind state and parent
}

/// A size in `/proc/<pid>/status` or `smaps_rollup`, in bytes.
fn size(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The processor's name, for whoever reads the figures elsewhere.
pub(crate) fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let names = text
        .lines()
        .filter_map(|line| line.strip_prefix("model name")?.split_once(':'));
    names
        .map(|(_, name)| name.trim().to_owned())
        .next()
        .unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxy_has_a_core_to_itself_where_there_are_two() {
        let cores =
            |all: &[usize]| Cores::of(all.to_vec()).map(|cores| (cores.proxy, cores.load, cores.engine));
        assert_eq!(cores(&[]), None);
        assert_eq!(cores(&[3]), Some((3, 3, 3)));
        assert_eq!(cores(&[0, 1]), Some((1, 0, 0)));
        assert_eq!(cores(&[0, 2, 4, 6]), Some((6, 0, 2)));
    }

    #[test]
    fn names_of_processes_may_hold_anything() {
        let stat = "4242 (a) R 1 (b) S 17 4200 4200 0 -1 4194304 1 0";
        assert_eq!(process_group(stat), Some(4200));
        assert_eq!(process_group("no process"), None);
    }

    #[test]
    fn sizes_are_read_from_the_kernels_lists() {
        let text =
            "55d0-7ffe ---p 00000000 00:00 0 [rollup]\nRss:   12000 kB\nPss:     8191 kB\nPss_Dirty: 5 kB\n";
        assert_eq!(size(text, "Pss:"), Some(8191 * 1024));
        assert_eq!(size("VmPeak: 9 kB\nVmHWM:\t 1 kB\n", "VmHWM:"), Some(1024));
        assert_eq!(size("Rss: 1 kB", "Pss:"), None);
    }

    #[test]
    fn what_this_process_uses_is_seen() {
        let group = Group(u32::try_from(nix::unistd::getpgrp().as_raw()).unwrap());
        let before = group.cpu_ns().unwrap();
        let spent: u64 = (0..3_000_000u64).map(std::hint::black_box).sum();
        assert!(spent > 0 && group.cpu_ns().unwrap() > before);
        assert!(group.memory().unwrap() > 100_000 && group.peak_memory().unwrap() > 100_000);
    }
}
