use std::sync::Arc;

use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;

/// An API server that has one Lease, or none, and that can fall silent.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    lease: Option<Value>,
    version: u64,
    requests: usize,
    mood: Mood,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum Mood {
    #[default]
    Well,
    Refusing,
    Silent,
}

impl Server {
    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let server = server.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect_bytes().await?;
                if server.0.lock().mood == Mood::Silent {
                    std::future::pending::<()>().await;
                }
                let (code, answer) = server.answer(&head, &body);
                let answer = http::Response::builder()
                    .status(code)
                    .body(Body::from(answer.to_string().into_bytes()));
                Ok::<_, tower::BoxError>(answer?)
            }
        });
        Client::new(service, "default")
    }

    fn answer(&self, head: &http::request::Parts, body: &[u8]) -> (u16, Value) {
        let mut state = self.0.lock();
        if head
            .uri
            .query()
            .is_some_and(|query| query.contains("fieldSelector"))
            || state.mood == Mood::Refusing
        {
            return refusal(403);
        }
        state.requests += 1;
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let stored = state.lease.clone();
        match (head.method.as_str(), stored) {
            ("GET", Some(lease)) => (200, lease),
            ("POST", None) => state.store(body),
            ("POST", Some(_)) => refusal(409),
            ("PUT", Some(lease))
                if lease["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"] =>
            {
                refusal(409)
            }
            ("PUT", Some(_)) => state.store(body),
            _ => refusal(404),
        }
    }

    fn candidate(&self, name: &str) -> Candidate {
        Candidate::new(self.client(), Config::new("default", "lease", name))
    }

    fn set(&self, mood: Mood) {
        self.0.lock().mood = mood;
    }

    fn holder(&self) -> Option<String> {
        let state = self.0.lock();
        Some(
            state.lease.as_ref()?["spec"]["holderIdentity"]
                .as_str()?
                .to_owned(),
        )
    }
}

impl State {
    fn store(&mut self, mut lease: Value) -> (u16, Value) {
        self.version += 1;
        lease["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.lease = Some(lease.clone());
        (200, lease)
    }
}

fn refusal(code: u16) -> (u16, Value) {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        _ => "Conflict",
    };
    let status =
        json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason });
    (code, status)
}

/// How long a future takes on the paused clock.
async fn measured<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let begun = Instant::now();
    (future.await, begun.elapsed())
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn who_ends_in_order_is_followed_within_a_look() {
    let server = Server::default();
    let mut first = server.candidate("a").lead().await;
    let second = server.candidate("b").lead();
    tokio::select! {
        lost = first.lost() => panic!("{lost}"),
        _ = second => panic!("two lead"),
        () = sleep(seconds(60)) => {}
    }
    assert_eq!(server.holder().as_deref(), Some("a"));
    let second = tokio::spawn(server.candidate("b").lead());
    sleep(seconds(1)).await;
    first.release().await.unwrap();
    assert_eq!(server.holder(), None);
    let (_leader, took) = measured(second).await;
    assert!(took <= seconds(2), "{took:?}");
    assert_eq!(server.holder().as_deref(), Some("b"));
}

#[tokio::test(start_paused = true)]
async fn who_vanishes_is_followed_once_the_lease_has_expired() {
    let server = Server::default();
    drop(server.candidate("a").lead().await);
    let (_leader, took) = measured(server.candidate("b").lead()).await;
    assert!(took >= seconds(15) && took <= seconds(18), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn who_cannot_renew_gives_up_before_others_may_begin() {
    for mood in [Mood::Refusing, Mood::Silent] {
        let server = Server::default();
        let mut leader = server.candidate("a").lead().await;
        server.set(mood);
        let (lost, took) = measured(leader.lost()).await;
        assert_eq!((lost, took), (Lost::Late(seconds(10)), seconds(10)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_disturbance_costs_nothing() {
    let server = Server::default();
    let mut leader = server.candidate("a").lead().await;
    let disturb = async {
        server.set(Mood::Silent);
        sleep(seconds(6)).await;
        server.set(Mood::Well);
        sleep(seconds(60)).await;
    };
    tokio::select! {
        lost = leader.lost() => panic!("{lost}"),
        () = disturb => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_somebody_else_has_is_lost_at_once() {
    let server = Server::default();
    let mut leader = server.candidate("a").lead().await;
    let mut lease = server.0.lock().lease.clone().unwrap();
    lease["spec"]["holderIdentity"] = "b".into();
    server.0.lock().store(lease);
    let (lost, took) = measured(leader.lost()).await;
    assert_eq!(lost, Lost::Taken("b".into()));
    assert!(took <= seconds(2), "{took:?}");
    // It is not ours to release.
    leader.release().await.unwrap();
    assert_eq!(server.holder().as_deref(), Some("b"));
}

#[tokio::test(start_paused = true)]
async fn what_others_write_beside_the_holder_is_no_loss() {
    let server = Server::default();
    let mut leader = server.candidate("a").lead().await;
    let mut lease = server.0.lock().lease.clone().unwrap();
    lease["metadata"]["annotations"] = json!({ "note": "looked at" });
    server.0.lock().store(lease);
    tokio::select! {
        lost = leader.lost() => panic!("{lost}"),
        () = sleep(seconds(30)) => {}
    }
    let lease = server.0.lock().lease.take().unwrap();
    assert_eq!(lease["metadata"]["annotations"]["note"], "looked at");
    // Now it is gone, and is made anew.
    tokio::select! {
        lost = leader.lost() => panic!("{lost}"),
        () = sleep(seconds(30)) => {}
    }
    assert_eq!(server.holder().as_deref(), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn leading_takes_a_request_every_two_seconds() {
    let server = Server::default();
    let mut leader = server.candidate("a").lead().await;
    let before = server.0.lock().requests;
    tokio::select! {
        lost = leader.lost() => panic!("{lost}"),
        () = sleep(seconds(61)) => {}
    }
    assert_eq!(server.0.lock().requests - before, 30);
}

#[test]
fn no_two_processes_have_one_identity() {
    let (one, other) = (identity(), identity());
    assert!(one != other && one.contains('_'), "{one} {other}");
}
