//! A simulator of vLLM and SGLang engines that one can believe: HTTP, SSE, prefill/decode hand-over,
//! metrics, faults.
//!
//! # Terms
//!
//! - **Engine**: one simulated server process. Several live in one process without knowing of each other.
//! - **Role**: an engine is *plain*, or it *prefills* (computes prompts and keeps their KV blocks) or
//!   *decodes* (reads KV blocks and generates).
//! - **Connector**: how KV blocks find their way from one engine to the other, as in the engines' own
//!   `--kv-transfer-config`.
//! - **Hand-over**: the way of one prompt's blocks. It is offered by a prefill engine, *pinned* there until it
//!   is read, and *leaks* if nobody reads it before its lease ends.
//!
//! # Picture
//!
//! ```text
//!             client (the proxy)
//!        POST /v1/… │          │ POST /v1/…  {kv_transfer_params: …}
//!                   ▼          ▼
//!   Engine{prefill}              Engine{decode}
//!   scheduler → tokens           scheduler → fetch ─┐
//!        │ offer                                    │  TCP, to the host and port that the request names
//!        ▼                                          │
//!   side channel / bootstrap server  ◄──────────────┘
//! ```
//!
//! The text of an answer is a function of the prompt's tokens, the weights and the sampling parameters. A
//! decode engine has it only from what was handed over, so a wrong hand-over shows in the text.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use kthena_sim::{Config, Connector, Engine, Fault, Role, Rule};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let prefill = Engine::start(Config::instant().paired(Role::Prefill, Connector::Nixl)).await?;
//! let decode = Engine::start(Config::instant().paired(Role::Decode, Connector::Nixl)).await?;
//! println!("prefill {} decode {}", prefill.url(), decode.url());
//!
//! // The next chat request that decode gets loses its connection after three events.
//! decode.faults().add(Rule::new(Fault::ResetAfterEvents { events: 3 }).path("/v1/chat/completions").times(1));
//!
//! // ... send requests through a proxy, then look at what the engines were sent and what they counted:
//! for request in prefill.requests("/v1/chat/completions") {
//!     println!("{}", String::from_utf8_lossy(&request.body));
//! }
//! let stats = decode.wait_for(Duration::from_secs(1), |stats| stats.running == 0).await?;
//! assert_eq!(stats.decode_recomputed, 0);
//!
//! decode.terminate(Duration::from_secs(1)).await;
//! prefill.kill().await;
//! # Ok(())
//! # }
//! ```
//!
//! The same over HTTP: `GET /sim/stats`, `GET /sim/requests?path=…`, `DELETE /sim/requests`, `GET`, `POST` and
//! `DELETE /sim/faults` (`DELETE /sim/faults/ID` for one), `GET /sim/config`. A rule is written as it is named
//! here: `{"fault": {"type": "reset_after_events", "events": 3}, "path": "/v1/chat/completions", "times": 1}`.
//!
//! # Connectors
//!
//! [`Config::paired`] sets role, connector and the kind of engine that belongs to it.
//!
//! | [`Connector`] | prefill is asked with | decode is asked with | they meet at |
//! | --- | --- | --- | --- |
//! | `Nixl` | `kv_transfer_params.do_remote_decode` | the object that prefill answered with | `side_channel_port` of prefill |
//! | `MooncakeAscend` | the same | the same, with other members | the same |
//! | `Mooncake` | the same, and a `transfer_id` | `transfer_id`, `remote_bootstrap_addr`, `remote_engine_id` | `bootstrap_port` of prefill, which also answers `GET /query` |
//! | `Sglang` | `bootstrap_room` | `bootstrap_room`, `bootstrap_host`, `bootstrap_port` (8998 unless said) | `bootstrap_port` of prefill |
//! | `Lmcache` | nothing | nothing | the store that both name |
//!
//! Parameters that were used, that expired, or that another engine made are refused with status 500, the type
//! `KvTransferRefused`, a header `x-kthena-sim-refused: used` (or `unknown`, `expired`, `foreign`) and a counter
//! in [`Stats::refused`]. That is the one thing a real engine does not do: it cannot tell. What it cannot reach
//! or wait for any longer it answers with `InternalServerError`, here as there; inside a stream that is an event,
//! because vLLM sends the head of a stream before its first token.
//!
//! A NIXL decode engine dies, as the real one does, of parameters without `remote_block_ids`, of a prompt that
//! needs more blocks than its parameters name, and of giving up on parameters that lack another member; a
//! Mooncake engine dies of being asked for the other role's part.
//!
//! # What is simplified
//!
//! - **The model** is a hash over the tokens, and its words are drawn from a list: enough to compare texts, and
//!   nothing to read. Without a seed the seed is 0, where a real engine draws a new one, so that the same request
//!   has the same text on every engine.
//! - **Time** is a rate for each sequence. A batch does not slow its members down, and prefill does not hold up
//!   decoding: tests want times that depend on one request.
//! - **A whole answer** is computed at once and held back until its last token is due, to save timers; its blocks
//!   are taken at the start.
//! - **Preemption** is counted when no block is left, and does not happen: the sequence goes on without the
//!   block. A prompt larger than all blocks together is computed with what there is.
//! - **Hand-over** moves token ids over HTTP instead of KV over RDMA, and ends a hand-over when they are sent.
//!   Reading the wrong blocks gives other text, not the very text that the real cache would give.
//! - **A decode engine fetches once for a request**, where each of several sequences would: a second read of the
//!   same blocks would be refused here. Seats are held while blocks are on their way.
//! - **The shared store** holds hashes of chunks as large as a KV block, forgets the oldest and has no latency.
//! - **SGLang** follows its public sources; no recording of it was at hand. `/v1/responses` and `/v1/messages`
//!   have vLLM's shapes there as well.
//! - **Not there**: tools and structured output (ignored), images and audio, beam search, `suffix`, penalties
//!   (accepted, without effect), data parallel ranks, KV events, stored responses, HTTP/2, `python_*`,
//!   `process_*` and `http_*` metrics.

mod api;
mod config;
mod engine;
mod fault;
mod generate;
mod http;
mod kv;
mod metrics;
mod models;
mod record;
mod sched;
mod sim_api;
mod stats;
mod text;

pub use config::{Config, Connector, Eos, Kind, ParseEosError, Role, Task, TlsError};
pub use engine::{Engine, Handle, StartError, WaitError};
pub use fault::{Fault, FaultId, Faults, Rule};
pub use record::{End, Recorded};
pub use stats::{Abort, KvStats, Phase, PhaseStats, Refused, Stats};
