//! Requests that a test makes itself, where the official clients would say too little or cost too much.

use std::{sync::OnceLock, time::Duration};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// What an answer may take in all.
const PATIENCE: Duration = Duration::from_secs(60);

/// An answer as far as it came.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Vec<u8>,
    /// Why the body broke off, if it did.
    pub broken: Option<String>,
}

/// An answer whose head is here and whose body is still coming.
#[derive(Debug)]
pub struct Coming {
    response: reqwest::Response,
    body: Vec<u8>,
}

/// A client without connections; connections belong to a runtime, and so to one test.
pub fn client() -> reqwest::Client {
    static PROVIDER: OnceLock<()> = OnceLock::new();
    // The client wants one even for plain HTTP. Whichever test comes first installs it.
    PROVIDER.get_or_init(|| drop(rustls::crypto::ring::default_provider().install_default()));
    reqwest::Client::builder()
        .timeout(PATIENCE)
        .tls_certs_only([]) // nothing here speaks TLS, and to read the system's takes longer than most requests
        .no_proxy()
        .build()
        .expect("a client without settings of its own can be made")
}

/// `GET`, on a connection of its own.
pub async fn get(url: &str) -> Result<Answer> {
    let response = client().get(url).send().await;
    Coming::new(response.with_context(|| format!("GET {url}"))?)
        .rest()
        .await
}

/// `POST` with JSON, on a connection of its own.
pub async fn post(url: &str, body: &Value) -> Result<Answer> {
    begin(&client(), url, body).await?.rest().await
}

/// `POST` with JSON, up to the head of the answer.
pub async fn begin(client: &reqwest::Client, url: &str, body: &Value) -> Result<Coming> {
    let response = client.post(url).json(body).send().await;
    Ok(Coming::new(response.with_context(|| format!("POST {url}"))?))
}

impl Coming {
    fn new(response: reqwest::Response) -> Self {
        Self {
            response,
            body: Vec::new(),
        }
    }

    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// Reads until so many events of a stream are here.
    pub async fn events(&mut self, count: usize) -> Result<()> {
        while events(&self.body).count() < count {
            match self.response.chunk().await.context("reading the stream")? {
                Some(bytes) => self.body.extend_from_slice(&bytes),
                None => bail!("the stream ended after {:?}", String::from_utf8_lossy(&self.body)),
            }
        }
        Ok(())
    }

    /// Reads to the end, clean or not.
    pub async fn rest(mut self) -> Result<Answer> {
        let broken = loop {
            match self.response.chunk().await {
                Ok(Some(bytes)) => self.body.extend_from_slice(&bytes),
                Ok(None) => break None,
                Err(error) => break Some(format!("{:#}", anyhow::Error::new(error))),
            }
        };
        Ok(Answer {
            status: self.status(),
            headers: self.response.headers().clone(),
            body: self.body,
            broken,
        })
    }
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("{} {}", self.status, self.text()))
    }

    /// The data of all events of a stream.
    pub fn events(&self) -> Vec<String> {
        events(&self.body).collect()
    }

    /// What the model said: the answer must be a good one, whole or streamed, and complete.
    pub fn said(&self) -> Result<String> {
        if self.status != 200 || self.broken.is_some() {
            bail!("{} {:?}: {}", self.status, self.broken, self.text());
        }
        let mut events = self.events();
        if events.is_empty() {
            return piece(&self.json()?).with_context(|| self.text());
        }
        if events.pop().as_deref() != Some("[DONE]") {
            bail!("the stream ended early: {}", self.text());
        }
        let pieces = events
            .iter()
            .map(|event| piece(&serde_json::from_str(event).context("an event")?));
        pieces.collect::<Result<_>>().with_context(|| self.text())
    }

    /// The error's code, for answers that are OpenAI errors.
    pub fn code(&self) -> Result<String> {
        let code = self.json()?["error"]["code"].as_str().map(str::to_owned);
        code.with_context(|| self.text())
    }
}

fn events(body: &[u8]) -> impl Iterator<Item = String> {
    let text = String::from_utf8_lossy(body).into_owned();
    let complete = text.rfind("\n\n").map_or(0, |end| end + 1);
    let data = text[..complete]
        .lines()
        .filter_map(|line| line.strip_prefix("data:"))
        .map(|data| data.trim().to_owned());
    data.collect::<Vec<_>>().into_iter()
}

fn piece(value: &Value) -> Result<String> {
    let Some(choices) = value["choices"].as_array() else {
        bail!("neither an answer nor a part of one: {value}")
    };
    let said = choices.iter().filter_map(|choice| {
        let places = [
            &choice["text"],
            &choice["message"]["content"],
            &choice["delta"]["content"],
        ];
        places.into_iter().find_map(Value::as_str)
    });
    Ok(said.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &str) -> Answer {
        Answer {
            status: 200,
            headers: http::HeaderMap::new(),
            body: body.into(),
            broken: None,
        }
    }

    #[test]
    fn only_a_complete_stream_says_something() {
        let stream = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\ndata: {\"choices\":[]}\n\n";
        assert_eq!(answer(&format!("{stream}data: [DONE]\n\n")).said().unwrap(), "a");
        assert!(answer(stream).said().is_err());
        assert!(answer(&format!("{stream}data: [DONE]")).said().is_err());
        let error = "data: {\"error\":{\"code\":\"x\"}}\n\ndata: [DONE]\n\n";
        assert!(answer(&format!("{stream}{error}")).said().is_err());
    }
}
