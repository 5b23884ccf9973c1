//! The end of the process, as its tasks see it.

use tokio::sync::watch;

/// Tells all tasks that the process is to end.
#[derive(Debug, Default)]
pub(crate) struct Stop(watch::Sender<bool>);

/// What a task waits for.
#[derive(Debug, Clone)]
pub(crate) struct Stopped(watch::Receiver<bool>);

impl Stop {
    pub(crate) fn now(&self) {
        self.0.send_replace(true);
    }

    pub(crate) fn stopped(&self) -> Stopped {
        Stopped(self.0.subscribe())
    }
}

impl Stopped {
    /// Resolves once the process is to end.
    pub(crate) async fn wait(mut self) {
        // An error says that the sender is gone, which is the end as well.
        let _ended = self.0.wait_for(|stopped| *stopped).await;
    }
}
