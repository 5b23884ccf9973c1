//! `mooncake`, in two dialects.
//!
//! vLLM-Ascend's: prefill returns parameters, as with NIXL. vLLM's own MooncakeConnector: nothing travels back; the router names
//! the transfer and tells decode where prefill's bootstrap server is and what prefill calls itself, which that server knows.
//! A configured bootstrap port means the second.

use super::{Answer, Connector, Decode, HandOver, Order, nixl};
use crate::cluster::endpoint::Endpoint;
use crate::openai::{Edits, Key};

/// Both dialects.
#[derive(Debug)]
pub(super) struct Mooncake;

pub(super) const MOONCAKE: Mooncake = Mooncake;

impl Connector for Mooncake {
    fn name(&self) -> &'static str {
        "mooncake"
    }

    fn order(&self, prefill: &Endpoint) -> Order {
        match prefill.ports().mooncake_bootstrap {
            Some(_) => Order::TogetherAfterLookup,
            None => Order::PrefillFirst,
        }
    }

    fn reads_once(&self) -> bool {
        true
    }

    fn prefill(&self, hand_over: &HandOver<'_>, edits: &mut Edits) {
        if hand_over.prefill.ports().mooncake_bootstrap.is_none() {
            return nixl::ask(edits);
        }
        let parameters = serde_json::json!({
            "do_remote_decode": true,
            "do_remote_prefill": false,
            "transfer_id": transfer_id(hand_over),
        });
        edits.set(Key::KvTransferParams, parameters.to_string());
    }

    fn decode(&self, hand_over: &HandOver<'_>, answer: Option<&Answer<'_>>, edits: &mut Edits) -> Decode {
        let Some(port) = hand_over.prefill.ports().mooncake_bootstrap else {
            return nixl::parameters(hand_over, answer, edits);
        };
        let parameters = serde_json::json!({
            "do_remote_decode": false,
            "do_remote_prefill": true,
            "remote_bootstrap_addr": format!("http://{}:{port}", hand_over.prefill.address().url_host()),
            "remote_engine_id": hand_over.engine_id,
            "transfer_id": transfer_id(hand_over),
        });
        edits.set(Key::KvTransferParams, parameters.to_string());
        Decode::WithCache
    }
}

fn transfer_id(hand_over: &HandOver<'_>) -> String {
    format!("xfer-{}", hand_over.id)
}

/// Reads the engine's id from its bootstrap server's answer to `GET /query`: an object with an entry for each data-parallel
/// rank, of which the first serves a plain engine.
pub fn engine_id(answer: &[u8]) -> Option<String> {
    let ranks: std::collections::BTreeMap<String, serde_json::Value> = serde_json::from_slice(answer).ok()?;
    ranks
        .get("0")
        .or_else(|| ranks.values().next())?
        .get("engine_id")?
        .as_str()
        .map(str::to_owned)
}
