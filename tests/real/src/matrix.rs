//! Asks all questions twice, of the plain engine and through the proxy, and compares.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use futures::future::try_join_all;
use kthena_tests::{stopwatch::Stopwatch, wait};

use crate::{
    compare::{self, Agreement},
    engine::Engine,
    event,
    metric::Metrics,
    pair::Pair,
    proxy::Proxy,
    question::{self, Departure, Expected, Manner, Question, RENAMED, Run},
    report::{Outcome, Row},
    wire::{self, Answer, Request},
};

/// Engines count when they answer, or a moment later.
const COUNTED: Duration = Duration::from_secs(10);

/// The engines and the proxy of a run.
#[derive(Debug)]
pub(crate) struct Bed<'a> {
    pub(crate) plain: &'a Engine,
    pub(crate) pair: &'a Pair,
    pub(crate) proxy: &'a Proxy,
}

/// Goes through all questions. What is wrong with an answer is in its row; an error means that nothing can be asked any more.
pub(crate) async fn run(bed: &Bed<'_>, run: Run, filter: Option<&str>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    bed.pair.until_idle().await.context("before the first question")?;
    for question in question::all(run) {
        if filter.is_some_and(|filter| !question.name.contains(filter)) {
            continue;
        }
        let clock = Stopwatch::start();
        let before = bed.pair.decode.metrics().await?;
        let asked = bed.ask(&question).await;
        let asked = match asked {
            Ok(agreement) => bed
                .judge(&question, &before)
                .await
                .map(|transferred| (agreement, transferred)),
            Err(error) => Err(error),
        };
        rows.push(Row {
            question: question.name,
            requests: question.requests.len(),
            expected: question.expected,
            took: clock.elapsed(),
            outcome: match asked {
                Ok((agreement, transferred)) => Outcome::Passed {
                    agreement,
                    transferred,
                },
                Err(error) => Outcome::Failed(format!("{error:#}")),
            },
        });
        eprintln!("{}", rows[rows.len() - 1]);
    }
    bed.pair.until_idle().await.context("after the last question")?;
    Ok(rows)
}

impl Bed<'_> {
    /// Asks, and compares the answers.
    async fn ask(&self, question: &Question) -> Result<Agreement> {
        let through = self.proxy.address();
        match question.manner {
            Manner::InTurn => {
                let mut agreement = Agreement::Whole;
                for request in &question.requests {
                    let plain = self.plain(request).await?;
                    let proxied = wire::send(through, request).await.context("through the proxy")?;
                    agreement = compared(question, self.pair.library.unlike(), request, &plain, &proxied)?;
                }
                Ok(agreement)
            }
            Manner::AtOnce => {
                let plain = try_join_all(question.requests.iter().map(|request| self.plain(request))).await?;
                let proxied = question
                    .requests
                    .iter()
                    .map(|request| wire::send(through, request));
                let proxied = try_join_all(proxied).await.context("through the proxy")?;
                let mut agreement = Agreement::Whole;
                for (request, (plain, proxied)) in question.requests.iter().zip(plain.iter().zip(&proxied)) {
                    agreement = compared(question, self.pair.library.unlike(), request, plain, proxied)?;
                }
                Ok(agreement)
            }
            Manner::Departing(departure) => self.depart(&question.requests[0], departure).await,
        }
    }

    async fn plain(&self, request: &Request) -> Result<Answer> {
        // Engines know the model by one name only.
        let (known, wanted) = (format!("\"{RENAMED}\""), "\"tiny\"");
        let body = String::from_utf8_lossy(&request.body).replace(&known, wanted);
        let request = Request {
            body: body.into_bytes(),
            ..request.clone()
        };
        wire::send(self.plain.address(), &request)
            .await
            .context("the plain engine")
    }

    /// Goes before the answer is complete; both engines must become idle long before they could have finished.
    async fn depart(&self, request: &Request, departure: Departure) -> Result<Agreement> {
        let proxied = self
            .leave(self.proxy.address(), request, departure, &self.pair.decode)
            .await?;
        self.pair
            .until_idle()
            .await
            .context("after the client has gone")?;
        let plain = self
            .leave(self.plain.address(), request, departure, self.plain)
            .await?;
        let (plain, proxied) = (event::text(&plain), event::text(&proxied));
        let common = plain.len().min(proxied.len());
        ensure!(
            plain.as_bytes()[..common] == proxied.as_bytes()[..common],
            "the plain engine began {plain:?}, the proxy {proxied:?}"
        );
        Ok(match departure {
            Departure::AfterEvents(count) => Agreement::Events(count),
            Departure::AtDecode | Departure::WhileDecoding => Agreement::Whole,
        })
    }

    /// What came before the client left.
    async fn leave(
        &self,
        to: SocketAddr,
        request: &Request,
        departure: Departure,
        decode: &Engine,
    ) -> Result<Vec<serde_json::Value>> {
        let before = decode.metrics().await?;
        let mut open = wire::begin(to, &request.bytes(to)).await?;
        match departure {
            Departure::AfterEvents(count) => {
                open.until(|answer| event::parse(&answer.text()).len() > count)
                    .await?;
                let events = open
                    .answer()
                    .map(|answer| event::parse(&answer.text()))
                    .unwrap_or_default();
                ensure!(events.len() > count, "the stream ended early: {events:?}");
                Ok(events[..count].to_vec())
            }
            Departure::AtDecode | Departure::WhileDecoding => {
                wait::until("decode to work on the answer", || async {
                    let now = decode.metrics().await?;
                    let begun = match departure {
                        Departure::WhileDecoding => now.generated() > before.generated(),
                        _ => now.running() > 0.0,
                    };
                    Ok(begun.then_some(()))
                })
                .await?;
                Ok(Vec::new())
            }
        }
    }

    /// Waits until decode has counted tokens that prefill computed; how many.
    pub(crate) async fn handed_over(&self, before: &Metrics) -> Result<f64> {
        let counted = wait::within(COUNTED, "decode to count tokens from prefill", || async {
            let tokens = self.pair.decode.metrics().await?.transferred() - before.transferred();
            Ok((tokens > 0.0).then_some(tokens))
        });
        counted.await.with_context(|| self.proxy.tail())
    }

    /// Whether decode got the cache from prefill; how many tokens of it.
    async fn judge(&self, question: &Question, before: &Metrics) -> Result<f64> {
        if let Some(reason) = question.expected.exception() {
            let tokens = self.pair.decode.metrics().await?.transferred() - before.transferred();
            ensure!(
                tokens == 0.0,
                "{tokens} tokens were handed over though it is an exception: {reason}"
            );
            return Ok(tokens);
        }
        self.handed_over(before).await
    }
}

fn compared(
    question: &Question,
    unlike: &[&str],
    request: &Request,
    plain: &Answer,
    proxied: &Answer,
) -> Result<Agreement> {
    let asked = || {
        let body = String::from_utf8_lossy(&request.body);
        format!(
            "asked {} {}",
            request.path,
            body.chars().take(300).collect::<String>()
        )
    };
    let refused = matches!(question.expected, Expected::Refused(_));
    ensure!(
        refused == (plain.status >= 400),
        "the plain engine's answer is {} {}\n    {}",
        plain.status,
        plain.text(),
        asked()
    );
    match compare::answers(plain, proxied, unlike) {
        Ok(agreement) => Ok(agreement),
        Err(difference) => bail!("plain | proxied: {difference}\n    {}", asked()),
    }
}
