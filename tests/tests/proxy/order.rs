//! Objects in any order: what the proxy does depends on what there is, not on what came first.

use anyhow::Result;
use futures::{StreamExt, TryStreamExt, stream};
use kthena_api::labels;
use kthena_tests::{kubelet::RunningPod, proxy::Proxy};
use serde_json::Value;

use crate::{
    bed::{Bed, assert_pairs, chat},
    object::{Pod, route, split_server},
};

/// One of the objects that make up a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Route,
    Server,
    Prefill,
    Decode,
}

const PIECES: [Piece; 4] = [Piece::Route, Piece::Server, Piece::Prefill, Piece::Decode];

/// All orders of the four.
fn orders() -> Vec<[Piece; 4]> {
    let mut found = Vec::new();
    for code in 0..256_usize {
        let order = [code & 3, code >> 2 & 3, code >> 4 & 3, code >> 6].map(|at| PIECES[at]);
        if PIECES.iter().all(|piece| order.contains(piece)) {
            found.push(order);
        }
    }
    found
}

/// A model of its own, called `name`.
struct Model<'a> {
    bed: &'a Bed,
    name: String,
}

impl Model<'_> {
    fn asked(&self) -> String {
        format!("{}-{}", self.bed.model(), self.name)
    }

    fn pod(&self, make: fn(&str) -> Pod, role: &str) -> Pod {
        make(&format!("{}-{role}", self.name))
            .label(labels::MODEL_SERVING_NAME, &self.name)
            .group(&format!("{}-0", self.name))
    }

    /// Creates one piece and waits until the proxy has it.
    async fn add(&self, piece: Piece) -> Result<Option<RunningPod>> {
        let (bed, name) = (self.bed, self.name.as_str());
        match piece {
            Piece::Route => {
                bed.apply(&[route(name, &self.asked(), &[(name, 100)])]).await?;
            }
            Piece::Server => {
                bed.apply(&[split_server(name, name)]).await?;
            }
            Piece::Prefill | Piece::Decode => {
                let pod = match piece {
                    Piece::Prefill => self.pod(Pod::prefill, "prefill"),
                    _ => self.pod(Pod::decode, "decode"),
                };
                let pod = bed.run(pod).await?;
                let is_ready = |object: &Value| object["ready"] == true;
                bed.proxy.until(&bed.space, "pods", &pod.name, is_ready).await?;
                return Ok(Some(pod));
            }
        }
        Ok(None)
    }

    /// Two requests, and both go through both engines.
    async fn check(
        &self,
        proxy: &Proxy,
        prefill: &RunningPod,
        decode: &RunningPod,
        before: u64,
    ) -> Result<()> {
        proxy
            .until_split(&self.bed.space, &self.name, &[&prefill.name], &[&decode.name])
            .await?;
        let url = format!("{}/chat/completions", proxy.base());
        for stream in [false, true] {
            let mut body = chat(&self.asked(), "hello");
            body["stream"] = stream.into();
            kthena_tests::http::post(&url, &body).await?.said()?;
        }
        assert_pairs(&[prefill], &[decode], before + 2).await
    }
}

async fn one_order(bed: &Bed, number: usize, order: [Piece; 4]) -> Result<()> {
    let model = Model {
        bed,
        name: format!("m{number}"),
    };
    let mut pods = Vec::new();
    for piece in order {
        if let Some(pod) = model.add(piece).await? {
            pods.push((piece, pod));
        }
    }
    pods.sort_by_key(|(piece, _)| *piece != Piece::Prefill);
    let [(_, prefill), (_, decode)] = pods.as_slice() else {
        panic!("{order:?} has two pods")
    };
    model.check(&bed.proxy, prefill, decode, 0).await?;
    bed.delete(&prefill.name).await?;
    bed.delete(&decode.name).await
}

#[test]
fn four_objects_have_twenty_four_orders() {
    assert_eq!(orders().len(), 24);
}

#[tokio::test]
async fn a_route_a_server_and_two_pods_serve_whatever_came_first() -> Result<()> {
    let bed = Bed::start("order").await?;
    stream::iter(orders().into_iter().enumerate())
        .map(|(number, order)| one_order(&bed, number, order))
        .buffer_unordered(4)
        .try_collect()
        .await
}

/// At the start everything comes at once, and which kind is listed first is chance.
#[tokio::test]
async fn a_proxy_that_starts_late_serves_what_is_there() -> Result<()> {
    let bed = Bed::start("late").await?;
    let model = Model {
        bed: &bed,
        name: "llm".to_owned(),
    };
    for piece in [Piece::Route, Piece::Server] {
        model.add(piece).await?;
    }
    let prefill = bed.run(model.pod(Pod::prefill, "prefill")).await?;
    let decode = bed.run(model.pod(Pod::decode, "decode")).await?;
    let account = Proxy::account(&bed.cluster, &bed.space).await?;
    for start in 0..8 {
        let mut proxy = Proxy::builder(&account).start().await?;
        proxy.until_ready().await?;
        // Ready means that it knows all there is: the first request is answered.
        let url = format!("{}/chat/completions", proxy.base());
        kthena_tests::http::post(&url, &chat(&model.asked(), "hello"))
            .await?
            .said()?;
        model.check(&proxy, &prefill, &decode, start * 3 + 1).await?;
    }
    Ok(())
}
