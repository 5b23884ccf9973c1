//! One cluster for all tests of a process that want the same kind.

use anyhow::{Result, anyhow};
use tokio::sync::OnceCell;

use super::{Builder, Cluster};

/// A cluster that the first caller starts. For statics:
///
/// ```no_run
/// use kthena_tests::cluster::{Cluster, Shared};
///
/// static SCHEDULED: Shared = Shared::new(|| Cluster::builder().controller_manager().scheduler());
/// # async fn example() -> anyhow::Result<()> {
/// let cluster = SCHEDULED.get().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Shared {
    what: fn() -> Builder,
    // A failed start is kept as text: forty tests should not each try again for half a minute.
    cluster: OnceCell<Result<Cluster, String>>,
}

impl Shared {
    pub const fn new(what: fn() -> Builder) -> Self {
        Self {
            what,
            cluster: OnceCell::const_new(),
        }
    }

    /// The cluster, started by whoever comes first.
    pub async fn get(&'static self) -> Result<&'static Cluster> {
        let start = || async { (self.what)().start().await.map_err(|error| format!("{error:#}")) };
        self.cluster
            .get_or_init(start)
            .await
            .as_ref()
            .map_err(|text| anyhow!("{text}"))
    }
}
