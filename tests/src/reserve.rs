//! Ports and addresses that no other test process takes.
//!
//! A port that was free a moment ago may be taken before its server binds it: by another test process, or by an
//! outgoing connection, since the kernel picks those from the ephemeral range. So ports come from below that range and
//! are held by a lock file, which the kernel lets go when the process ends. Pod addresses come in blocks of 256, held
//! the same way.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
};

use anyhow::{Context, Result, bail};

/// Below every usual ephemeral range and above the ports that people give their servers.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

/// Held until dropped: the server behind it may stop and start again on the same port.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

/// 256 addresses, of which the first and the last are left alone.
#[derive(Debug)]
pub struct Block {
    base: Ipv4Addr,
    _lock: File,
}

/// Where pods get their addresses from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Range {
    /// `127.64.0.0/10`, a part of loopback, where every address works at once. The API server accepts these as pod
    /// addresses but refuses them in EndpointSlices.
    #[default]
    Loopback,
    /// A /16 that somebody has made local, as with `ip route add local 10.250.0.0/16 dev lo` (root): for tests in
    /// which Services matter.
    Local(Ipv4Addr),
}

impl Port {
    /// A free port on 127.0.0.1.
    pub fn reserve() -> Result<Self> {
        let count = PORTS.end - PORTS.start;
        for number in
            spread(u32::from(count)).map(|n| PORTS.start + u16::try_from(n).expect("within the range"))
        {
            let Some(lock) = try_lock(&format!("port-{number}"))? else {
                continue;
            };
            // On all addresses: a server that listens on any of them is in the way.
            if TcpListener::bind((Ipv4Addr::UNSPECIFIED, number)).is_ok() {
                return Ok(Self { number, _lock: lock });
            }
        }
        bail!("none of the ports {PORTS:?} is free");
    }

    pub fn number(&self) -> u16 {
        self.number
    }
}

impl Range {
    /// A block that no other kubelet hands out.
    pub fn reserve(self) -> Result<Block> {
        let (first, blocks) = match self {
            Self::Loopback => (Ipv4Addr::new(127, 64, 0, 0), 1 << 14),
            Self::Local(network) => (Ipv4Addr::from(u32::from(network) & 0xffff_0000), 1 << 8),
        };
        for number in spread(blocks) {
            let base = Ipv4Addr::from(u32::from(first) + (number << 8));
            if let Some(lock) = try_lock(&format!("block-{base}"))? {
                TcpListener::bind((Ipv4Addr::from(u32::from(base) + 1), 0)).with_context(|| {
                    format!("{base}/24 is not local to this machine: nothing can listen there")
                })?;
                return Ok(Block { base, _lock: lock });
            }
        }
        bail!("all address blocks of {self:?} are taken");
    }
}

impl Block {
    /// How many addresses a block has to give.
    pub const LEN: u8 = 254;

    /// The `index`-th address, counted from zero.
    pub fn address(&self, index: u8) -> Option<Ipv4Addr> {
        (index < Self::LEN).then(|| Ipv4Addr::from(u32::from(self.base) + u32::from(index) + 1))
    }
}

/// All numbers below `count`, from a place that differs between processes.
fn spread(count: u32) -> impl Iterator<Item = u32> {
    let start = std::process::id().wrapping_mul(2_654_435_761) % count;
    (0..count).map(move |step| (start + step) % count)
}

fn try_lock(name: &str) -> Result<Option<File>> {
    let dir = std::env::temp_dir().join("kthena-reserved");
    fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    let path = dir.join(name);
    let file = File::create(&path).with_context(|| format!("opening {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("locking {}", path.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn reserved_ports_differ_and_can_be_bound() {
        let ports: Vec<Port> = (0..20).map(|_| Port::reserve().unwrap()).collect();
        let numbers: HashSet<u16> = ports.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), ports.len());
        for number in numbers {
            TcpListener::bind((Ipv4Addr::LOCALHOST, number)).unwrap();
        }
    }

    #[test]
    fn blocks_do_not_overlap_and_their_addresses_can_be_bound() {
        let (one, two) = (
            Range::Loopback.reserve().unwrap(),
            Range::Loopback.reserve().unwrap(),
        );
        assert_ne!(one.base, two.base);
        assert!(one.address(0).unwrap().is_loopback());
        assert_eq!(one.address(Block::LEN), None);
        TcpListener::bind((two.address(Block::LEN - 1).unwrap(), 0)).unwrap();
    }

    #[test]
    fn a_range_that_is_not_local_is_refused_with_the_reason() {
        let error = Range::Local(Ipv4Addr::new(192, 0, 2, 0))
            .reserve()
            .unwrap_err()
            .to_string();
        assert!(error.contains("not local"), "{error}");
    }
}
