//! A stretch of network between a program and a server, which a test can break.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use crate::reserve::Port;

/// Passes connections on to a server. Dropping it breaks them.
#[derive(Debug)]
pub struct Relay {
    port: Port,
    target: SocketAddr,
    flow: watch::Sender<Flow>,
    /// `None` while it is cut.
    task: Option<JoinHandle<()>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Running,
    /// Bytes are lost on the way, and nobody is told.
    Stalled,
}

impl Relay {
    /// A relay to a server, given as `https://127.0.0.1:6443` or without the scheme.
    pub async fn to(url: &str) -> Result<Self> {
        let target = url.rsplit("://").next().unwrap_or(url);
        let mut relay = Self {
            port: Port::reserve()?,
            target: target
                .parse()
                .with_context(|| format!("{target} is no address"))?,
            flow: watch::Sender::new(Flow::Running),
            task: None,
        };
        relay.mend().await?;
        Ok(relay)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port.number()).into()
    }

    /// Breaks all connections; new ones are refused.
    pub async fn cut(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            task.await.ok(); // its connections end with it
        }
    }

    /// Connections stay and are even made, but nothing comes through: the other side has gone without a word.
    pub fn stall(&mut self) {
        self.flow.send_replace(Flow::Stalled);
    }

    /// All is well again. What was stalled goes on.
    pub async fn mend(&mut self) -> Result<()> {
        self.flow.send_replace(Flow::Running);
        if self.task.is_none() {
            let listener = TcpListener::bind(self.address())
                .await
                .with_context(|| format!("listening at {}", self.address()))?;
            self.task = Some(tokio::spawn(serve(listener, self.target, self.flow.subscribe())));
        }
        Ok(())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

async fn serve(listener: TcpListener, target: SocketAddr, flow: watch::Receiver<Flow>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((near, _)) = accepted else { continue };
                connections.spawn(pass(near, target, flow.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Both directions, until one ends.
async fn pass(near: TcpStream, target: SocketAddr, flow: watch::Receiver<Flow>) {
    let mut waiting = flow.clone();
    if waiting.wait_for(|flow| *flow == Flow::Running).await.is_err() {
        return;
    }
    let Ok(far) = TcpStream::connect(target).await else {
        return;
    };
    near.set_nodelay(true).ok();
    far.set_nodelay(true).ok();
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    tokio::select! {
        _ = copy(near_in, far_out, flow.clone()) => {}
        _ = copy(far_in, near_out, flow) => {}
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut flow: watch::Receiver<Flow>,
) -> Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        flow.wait_for(|flow| *flow == Flow::Running).await?; // an end does not get through either
        if read == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..read]).await?;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut input, mut output) = stream.split();
                    tokio::io::copy(&mut input, &mut output).await
                });
            }
        });
        address
    }

    async fn ping(stream: &mut TcpStream) -> Result<u8> {
        stream.write_all(b"x").await?;
        Ok(stream.read_u8().await?)
    }

    #[tokio::test]
    async fn a_cut_is_noticed_and_mended() {
        let mut relay = Relay::to(&format!("https://{}", echo().await)).await.unwrap();
        let mut stream = TcpStream::connect(relay.address()).await.unwrap();
        ping(&mut stream).await.unwrap();
        relay.cut().await;
        ping(&mut stream).await.unwrap_err();
        TcpStream::connect(relay.address()).await.unwrap_err();
        relay.mend().await.unwrap();
        let mut stream = TcpStream::connect(relay.address()).await.unwrap();
        ping(&mut stream).await.unwrap();
    }

    #[tokio::test]
    async fn a_stall_is_not_noticed_and_loses_nothing() {
        let mut relay = Relay::to(&echo().await.to_string()).await.unwrap();
        let mut old = TcpStream::connect(relay.address()).await.unwrap();
        ping(&mut old).await.unwrap();
        relay.stall();
        let mut new = TcpStream::connect(relay.address()).await.unwrap();
        old.write_all(b"a").await.unwrap();
        new.write_all(b"b").await.unwrap();
        let silence = tokio::time::timeout(Duration::from_millis(50), async {
            tokio::join!(old.read_u8(), new.read_u8())
        });
        silence.await.unwrap_err();
        relay.mend().await.unwrap();
        assert_eq!(
            (old.read_u8().await.unwrap(), new.read_u8().await.unwrap()),
            (b'a', b'b')
        );
    }
}
