use http::{Request, Response};
use kube::client::Body;
use serde_json::json;

use super::*;

fn three() -> Statuses {
    let routes = ["a", "b", "c"].map(|name| (("ns".to_owned(), name.to_owned()), Default::default()));
    Statuses {
        routes: routes.into(),
        servers: Default::default(),
    }
}

/// Writes three statuses to an API server that answers with these codes, then breaks; which objects were asked for?
async fn written(codes: &[u16]) -> (Outcome, Vec<String>) {
    let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let client = Client::new(service, "default");
    let codes = codes.to_vec();
    let server = tokio::spawn(async move {
        let mut asked = Vec::new();
        for code in codes {
            let (request, answer) = handle.next_request().await.expect("a request");
            let path = request.uri().path().trim_end_matches("/status");
            let name = path.rsplit('/').next().expect("a name").to_owned();
            let body = match code {
                200 => json!({
                    "apiVersion": "networking.serving.volcano.sh/v1alpha1",
                    "kind": "ModelRoute",
                    "metadata": { "name": name },
                    "spec": { "rules": [] },
                }),
                _ => json!({
                    "apiVersion": "v1", "kind": "Status", "status": "Failure", "message": "no", "code": code,
                }),
            };
            let body = Body::from(body.to_string().into_bytes());
            answer.send_response(Response::builder().status(code).body(body).expect("an answer"));
            asked.push(name);
        }
        asked
    });
    let outcome = write(&client, three(), &Metrics::default()).await;
    (outcome, server.await.expect("no panic"))
}

#[tokio::test]
async fn a_refused_status_does_not_hold_back_the_others() {
    let (outcome, asked) = written(&[200, 422, 200]).await;
    assert_eq!(outcome, Outcome::Refused);
    assert_eq!(asked, ["a", "b", "c"]);
}

#[tokio::test]
async fn an_object_that_is_gone_is_no_failure() {
    assert_eq!(written(&[200, 404, 200]).await.0, Outcome::Written);
}

#[tokio::test]
async fn an_api_server_that_does_not_answer_is_not_asked_on() {
    let (outcome, asked) = written(&[200]).await;
    assert_eq!((outcome, asked.len()), (Outcome::Unanswered, 1));
}
