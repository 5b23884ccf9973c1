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
//! `DELETE /sim/faults` (`DELETE /sim/faults/ID` for one), `GET /sim/config`.

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
