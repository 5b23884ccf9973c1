//! One engine: its state, its servers, its life.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::api::Api;
use crate::config::{self, Config, Connector, Role, TlsError};
use crate::fault::Faults;
use crate::http::conn::{Life, Terms};
use crate::http::date;
use crate::http::server::Server;
use crate::kv::serve::SideChannel;
use crate::kv::store::{self, Store};
use crate::kv::table::Table;
use crate::metrics::Metrics;
use crate::models::{Adapters, Models};
use crate::record::Recorder;
use crate::sched::Scheduler;
use crate::sim_api::Admin;
use crate::stats::{Counters, Stats};
use crate::text::model::hash_bytes;

mod handle;

pub use handle::{Handle, WaitError};

/// Why an engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be served on.
    #[error("cannot listen on {address} ({what})")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What it is for.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// The certificates cannot be used.
    #[error("HTTPS cannot be set up")]
    Tls(#[from] TlsError),
}

/// A simulated engine. [`Engine::start`] makes one; what is held of it is a [`Handle`].
pub struct Engine {
    pub(crate) config: Config,
    pub(crate) engine_id: String,
    pub(crate) fingerprint: String,
    /// Start, in seconds since 1970.
    pub(crate) started: f64,
    pub(crate) counters: Arc<Counters>,
    pub(crate) metrics: Metrics,
    pub(crate) scheduler: Arc<Scheduler>,
    pub(crate) table: Arc<Table>,
    pub(crate) store: Option<store::Access>,
    pub(crate) models: Mutex<Models>,
    pub(crate) adapters: Arc<Adapters>,
    pub(crate) faults: Arc<Faults>,
    pub(crate) recorder: Recorder,
    /// Host and port that hand-over parameters name.
    pub(crate) side_channel: (String, u16),
    /// Everything but the connections of clients.
    pub(crate) tasks: TaskTracker,
    /// The connections of clients.
    serving: TaskTracker,
    life: watch::Sender<Life>,
    dead: watch::Sender<bool>,
}

impl Engine {
    /// Starts an engine. It lives until its handle is dropped, or until it is terminated or killed.
    ///
    /// # Errors
    ///
    /// When an address is taken or a certificate cannot be used.
    pub async fn start(config: Config) -> Result<Handle, StartError> {
        let tls = config::acceptor(&config)?;
        let bind = async |address: SocketAddr, what| {
            let bound = async {
                let listener = Server::bind(address).await?;
                let bound = listener.local_addr()?;
                Ok((listener, bound))
            };
            bound.await.map_err(|source| StartError::Bind {
                address,
                what,
                source,
            })
        };
        let (listener, address) = bind(config.listen, "the engine").await?;
        let admin = match config.admin {
            Some(admin) => Some(bind(admin, "administration").await?),
            None => None,
        };
        let stores = match config.store_listen {
            Some(address) => Some(bind(address, "the shared store").await?),
            None => None,
        };
        let side_port = match config.connector {
            Connector::Nixl | Connector::MooncakeAscend => Some(config.side_channel_port),
            Connector::Mooncake | Connector::Sglang if config.role != Role::Decode => {
                Some(config.bootstrap_port)
            }
            Connector::None | Connector::Lmcache | Connector::Mooncake | Connector::Sglang => None,
        };
        let side = match side_port {
            Some(port) => Some(bind(SocketAddr::new(address.ip(), port), "KV hand-over").await?),
            None => None,
        };
        let side_address = side.as_ref().map(|(_, address)| *address);
        let engine = Arc::new(Self::new(config, address, side_address));
        let keep_alive = engine.config.keep_alive;
        let terms = |until| Terms {
            life: engine.life.subscribe(),
            until,
            keep_alive,
        };
        let serving = Server {
            terms: terms(Life::Draining),
            tasks: engine.serving.clone(),
        };
        // Blocks can still be read while the engine answers its last requests.
        let server = Server {
            terms: terms(Life::Closed),
            tasks: engine.tasks.clone(),
        };
        serving.spawn(listener, tls, Arc::new(Api(engine.clone())));
        let admin_address = admin.as_ref().map(|(_, address)| *address);
        if let Some((listener, _)) = admin {
            server.spawn(listener, None, Arc::new(Admin(engine.clone())));
        }
        if let Some((listener, _)) = side {
            let channel = SideChannel {
                table: engine.table.clone(),
                engine_id: engine.engine_id.clone(),
                connector: engine.config.connector,
                address: engine.side_channel.clone(),
                tokens_per_second: engine.config.transfer_tokens_per_second,
            };
            server.spawn(listener, None, Arc::new(channel));
        }
        let store_address = stores.as_ref().map(|(_, address)| *address);
        if let Some((listener, _)) = stores {
            let store = Store::named(&engine.config.store);
            server.spawn(listener, None, Arc::new(store::Server(store)));
        }
        engine.spawn_reaper();
        Ok(Handle::new(
            engine,
            address,
            admin_address,
            side_address,
            store_address,
        ))
    }

    fn new(config: Config, address: SocketAddr, side: Option<SocketAddr>) -> Self {
        let counters = Arc::new(Counters::new());
        let host = config
            .side_channel_host
            .clone()
            .unwrap_or_else(|| address.ip().to_string());
        let setup = format!("{:?}/{:?}/{}", config.kind, config.connector, config.root());
        Self {
            engine_id: uuid::Uuid::new_v4().to_string(),
            fingerprint: format!(
                "vllm-{}-{:08x}",
                config.engine_version,
                hash_bytes(7, setup.as_bytes()) as u32
            ),
            started: date::unix_now_f64(),
            metrics: Metrics::default(),
            scheduler: Scheduler::new(
                config.max_num_seqs,
                config.num_blocks,
                config.block_size,
                config.prefix_caching,
            ),
            table: Table::new(counters.clone(), config.lease),
            store: (config.connector == Connector::Lmcache).then(|| store::Access::named(&config.store)),
            models: Mutex::new(Models::new(&config)),
            adapters: Arc::default(),
            faults: Arc::default(),
            recorder: Recorder::new(config.record),
            side_channel: (host, side.map_or(0, |address| address.port())),
            tasks: TaskTracker::new(),
            serving: TaskTracker::new(),
            life: watch::Sender::new(Life::Up),
            dead: watch::Sender::new(false),
            counters,
            config,
        }
    }

    /// A snapshot of all counters.
    pub(crate) fn stats(&self) -> Stats {
        let load = self.scheduler.load();
        let mut stats = self.counters.snapshot();
        stats.engine_id.clone_from(&self.engine_id);
        stats.kind = self.config.kind;
        stats.role = self.config.role;
        stats.running = load.running as u64;
        stats.waiting = (load.waiting + load.loading) as u64;
        stats.kv.total = load.blocks_total as u64;
        stats.kv.used = load.blocks_used as u64;
        stats.faults = self.faults.hits();
        stats
    }

    /// Brings the engine down as a failed assertion does: requests in flight fail, health is bad for a
    /// moment, then the port closes.
    pub(crate) fn die(self: &Arc<Self>) {
        if self.dead.send_replace(true) {
            return;
        }
        tracing::error!(engine = self.engine_id, "the engine core has died");
        self.counters.touch();
        let engine = self.clone();
        self.tasks.spawn(async move {
            tokio::time::sleep(engine.config.death).await;
            engine.end(Life::Closed);
        });
    }

    pub(crate) fn is_dead(&self) -> bool {
        *self.dead.borrow()
    }

    /// Whether the engine still does anything.
    pub(crate) fn is_up(&self) -> bool {
        !self.is_dead() && *self.life.borrow() < Life::Closed
    }

    /// Resolves when the engine has died.
    pub(crate) async fn died(&self) {
        let mut dead = self.dead.subscribe();
        if dead.wait_for(|dead| *dead).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Moves on in life; there is no way back.
    fn end(&self, life: Life) {
        self.life.send_if_modified(|now| {
            let later = *now < life;
            *now = life.max(*now);
            later
        });
        self.counters.touch();
    }

    fn spawn_reaper(&self) {
        let (table, mut life) = (self.table.clone(), self.life.subscribe());
        self.tasks.spawn(async move {
            tokio::select! {
                () = table.reap() => {}
                _ = life.wait_for(|life| *life >= Life::Closed) => {}
            }
        });
    }
}
