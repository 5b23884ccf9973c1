//! `http` and `lmcache`: prefill first, decode then; the cache goes through a store that both engines share.

use super::{Answer, Connector, Decode, HandOver, Order};
use crate::cluster::endpoint::Endpoint;
use crate::openai::Edits;

/// Two plain requests, one after the other.
#[derive(Debug)]
pub(super) struct Http {
    name: &'static str,
}

pub(super) const HTTP: Http = Http { name: "http" };
pub(super) const LMCACHE: Http = Http { name: "lmcache" };

impl Connector for Http {
    fn name(&self) -> &'static str {
        self.name
    }

    fn order(&self, _: &Endpoint) -> Order {
        Order::PrefillFirst
    }

    fn prefill(&self, _: &HandOver<'_>, _: &mut Edits) {}

    fn decode(&self, _: &HandOver<'_>, _: Option<&Answer<'_>>, _: &mut Edits) -> Decode {
        Decode::WithCache
    }
}
