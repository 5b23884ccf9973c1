//! SGLang: prefill and decode are asked at once and meet in a room of prefill's bootstrap server.
//!
//! Both are told the room, the server's host and its port, as SGLang's own load balancer does. A request with several prompts
//! needs a room for each; several answers to one prompt (`n`) take rooms that follow the first, on both sides, so `n` stays.

use super::{Answer, Connector, Decode, HandOver, Order};
use crate::cluster::endpoint::Endpoint;
use crate::openai::{Edits, Key};

/// The port of the bootstrap server unless the engine was started with another.
const DEFAULT_PORT: u16 = 8998;

/// Rooms of a bootstrap server.
#[derive(Debug)]
pub(super) struct SgLang;

pub(super) const SGLANG: SgLang = SgLang;

impl Connector for SgLang {
    fn name(&self) -> &'static str {
        "sglang"
    }

    fn order(&self, _: &Endpoint) -> Order {
        Order::Together
    }

    fn prefill(&self, hand_over: &HandOver<'_>, edits: &mut Edits) {
        edits.keep(Key::N);
        meet(hand_over, edits);
    }

    fn decode(&self, hand_over: &HandOver<'_>, _: Option<&Answer<'_>>, edits: &mut Edits) -> Decode {
        meet(hand_over, edits);
        Decode::WithCache
    }

    fn decode_stands_alone(&self) -> bool {
        false
    }
}

fn meet(hand_over: &HandOver<'_>, edits: &mut Edits) {
    let host = serde_json::Value::from(hand_over.prefill.address().host()).to_string();
    let port = hand_over
        .prefill
        .ports()
        .sglang_bootstrap
        .unwrap_or(DEFAULT_PORT)
        .to_string();
    // Rooms are 63-bit numbers; the low bits are left to tell the prompts of one request apart.
    let room = (hand_over.id.as_u64_pair().0 >> 1) & !0xFFFF;
    if hand_over.prompts > 1 {
        let list = |items: Vec<String>| format!("[{}]", items.join(","));
        edits.set(Key::BootstrapHost, list(vec![host; hand_over.prompts]));
        edits.set(Key::BootstrapPort, list(vec![port; hand_over.prompts]));
        edits.set(
            Key::BootstrapRoom,
            list(
                (0..hand_over.prompts as u64)
                    .map(|n| (room + n).to_string())
                    .collect(),
            ),
        );
    } else {
        edits.set(Key::BootstrapHost, host);
        edits.set(Key::BootstrapPort, port);
        edits.set(Key::BootstrapRoom, room.to_string());
    }
}
