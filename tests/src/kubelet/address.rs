//! Addresses for pods, none of them twice.

use std::net::Ipv4Addr;

use anyhow::Result;

use crate::reserve::{Block, Range};

/// Blocks are reserved as they are needed. An address is not given again: whoever still talks to an old pod finds
/// nobody there.
#[derive(Debug)]
pub(super) struct Addresses {
    range: Range,
    blocks: Vec<Block>,
    used: u8,
}

impl Addresses {
    pub(super) fn new(range: Range) -> Self {
        Self {
            range,
            blocks: Vec::new(),
            used: 0,
        }
    }

    pub(super) fn next(&mut self) -> Result<Ipv4Addr> {
        if let Some(address) = self.blocks.last().and_then(|block| block.address(self.used)) {
            self.used += 1;
            return Ok(address);
        }
        self.blocks.push(self.range.reserve()?);
        self.used = 0;
        self.next()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn more_addresses_than_a_block_has_are_all_different() {
        let mut addresses = Addresses::new(Range::Loopback);
        let all: HashSet<_> = (0..600).map(|_| addresses.next().unwrap()).collect();
        assert_eq!(all.len(), 600);
    }
}
