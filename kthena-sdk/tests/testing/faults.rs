//! What goes wrong when a test wants it.

use std::time::Duration;

use kthena_sdk::k8s_openapi::api::coordination::v1::Lease;
use kthena_sdk::k8s_openapi::api::core::v1::ConfigMap;
use kthena_sdk::kube::api::PostParams;
use kthena_sdk::kube::{self, Api};
use kthena_sdk::testing::{FakeApi, Fault, Verb};

use crate::{code, map};

#[tokio::test]
async fn a_write_can_fail_before_and_after_it_is_done() {
    for (fault, is_done) in [
        (Fault::Refused(503), false),
        (Fault::Unreachable, false),
        (Fault::Unanswered, true),
    ] {
        let api = FakeApi::new();
        let maps = Api::<ConfigMap>::default_namespaced(api.client());
        api.fail_write(1, fault);
        maps.create(&PostParams::default(), &map("a", &[])).await.unwrap();
        maps.get("a").await.unwrap();
        let failed = maps
            .create(&PostParams::default(), &map("b", &[]))
            .await
            .unwrap_err();
        match fault {
            Fault::Refused(expected) => assert_eq!(code::<()>(Err(failed)), expected),
            _ => assert!(matches!(failed, kube::Error::Service(_)), "{failed:?}"),
        }
        assert_eq!(
            api.get::<ConfigMap>("default", "b").is_some(),
            is_done,
            "{fault:?}"
        );
        maps.create(&PostParams::default(), &map("c", &[])).await.unwrap();
        let answers: Vec<(Verb, Option<u16>)> =
            api.requests().iter().map(|it| (it.verb, it.answer)).collect();
        let second = match fault {
            Fault::Refused(code) => Some(code),
            _ => None,
        };
        let created = |answer| (Verb::Create, answer);
        assert_eq!(
            answers,
            [
                created(Some(201)),
                (Verb::Get, Some(200)),
                created(second),
                created(Some(201))
            ]
        );
    }
}

#[tokio::test]
async fn faults_end_when_the_test_says_so() {
    let api = FakeApi::new();
    let maps = Api::<ConfigMap>::default_namespaced(api.client());
    api.on_request(|request| (request.verb == Verb::Get).then_some(Fault::Refused(429)));
    assert_eq!(code(maps.get("a").await), 429);
    api.recover();
    assert_eq!(code(maps.get("a").await), 404);
}

#[cfg(feature = "leader")]
#[tokio::test(start_paused = true)]
async fn one_candidate_leads_after_another() {
    use kthena_sdk::leader::{Candidate, Config};

    let api = FakeApi::new();
    let candidate = |name: &str| Candidate::new(api.client(), Config::new("default", "operator", name));
    let first = candidate("first").lead().await;
    let second = candidate("second").lead();
    tokio::pin!(second);
    tokio::select! {
        _ = &mut second => panic!("there are two leaders"),
        () = tokio::time::sleep(Duration::from_secs(5)) => {}
    }
    first.release().await.unwrap();
    second.await;
    let lease = api.get::<Lease>("default", "operator").unwrap();
    assert_eq!(lease.spec.unwrap().holder_identity.as_deref(), Some("second"));
}
