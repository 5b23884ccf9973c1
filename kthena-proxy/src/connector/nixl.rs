//! `nixl`: prefill returns an object that tells decode where to read the cache. vLLM's NixlConnector, and vLLM-Ascend's
//! MooncakeConnector, which speaks the same protocol.
//!
//! The object's members grow with engine versions (14 in vLLM 0.32) and some cannot be made up, so it is handed on as it is.

use super::{Alone, Answer, Connector, Decode, HandOver, Order, reachable};
use crate::cluster::endpoint::Endpoint;
use crate::openai::{Edits, Key};

/// Parameters through the router.
#[derive(Debug)]
pub(super) struct Nixl {
    name: &'static str,
}

pub(super) const NIXL: Nixl = Nixl { name: "nixl" };
/// Without `kvConnector`: the same questions, asked of engines that may not know them.
pub(super) const AUTO: Nixl = Nixl { name: "auto" };

impl Connector for Nixl {
    fn name(&self) -> &'static str {
        self.name
    }

    fn order(&self, _: &Endpoint) -> Order {
        Order::PrefillFirst
    }

    fn reads_once(&self) -> bool {
        true
    }

    fn prefill(&self, _: &HandOver<'_>, edits: &mut Edits) {
        ask(edits);
    }

    fn decode(&self, hand_over: &HandOver<'_>, answer: Option<&Answer<'_>>, edits: &mut Edits) -> Decode {
        parameters(hand_over, answer, edits)
    }
}

/// Asks prefill to keep its blocks for a decode engine and to say where they are.
pub(super) fn ask(edits: &mut Edits) {
    edits.set(
        Key::KvTransferParams,
        r#"{"do_remote_decode":true,"do_remote_prefill":false}"#,
    );
}

/// Hands on what prefill returned.
pub(super) fn parameters(hand_over: &HandOver<'_>, answer: Option<&Answer<'_>>, edits: &mut Edits) -> Decode {
    match answer.and_then(Answer::parameters) {
        Some(parameters) => {
            edits.set(Key::KvTransferParams, reachable(parameters, hand_over.prefill));
            Decode::WithCache
        }
        None => Decode::Alone(Alone::NoParameters),
    }
}
