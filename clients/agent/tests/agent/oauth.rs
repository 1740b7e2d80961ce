//! `POST /oauth/token`.

use crate::support::{Answer, GUARD, World};
use http::Request;
use token_broker_client::http::full;

async fn post(world: &World, header: Option<(&str, &str)>, form: &str) -> Answer {
    let mut request =
        Request::post("/oauth/token").header("content-type", "application/x-www-form-urlencoded");
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    world.agent.client().send(request.body(full(form.to_owned())).unwrap()).await
}

#[tokio::test]
async fn the_guard_token_is_the_client_secret() {
    let world = World::start().await;
    // client:a guard token
    let basic = Some(("authorization", "Basic Y2xpZW50OmEgZ3VhcmQgdG9rZW4="));
    let in_form =
        format!("grant_type=client_credentials&client_id=x&client_secret={GUARD}&scope=y&account=emea");
    for (answer, account) in [
        (post(&world, basic, "grant_type=client_credentials").await, "default"),
        (post(&world, None, &in_form).await, "emea"),
        (post(&world, basic, &in_form).await, "emea"),
        (post(&world, Some(("x-token-broker-token", GUARD)), &in_form).await, "emea"),
    ] {
        let token = answer.json();
        assert_eq!((answer.status.as_u16(), token["account"].as_str()), (200, Some(account)));
        assert_eq!(token["token_type"], "Bearer");
        assert!(token["expires_in"].is_u64() && token["expires_at"].is_null(), "{token}");
        assert_eq!(answer.headers["cache-control"], "no-store");
    }
}

#[tokio::test]
async fn errors_are_those_of_rfc_6749() {
    let world = World::start().await;
    let answer = post(&world, None, "grant_type=client_credentials&client_id=x&client_secret=wrong").await;
    assert_eq!(answer.error(), (401, "invalid_client".to_owned()));
    assert!(answer.headers["www-authenticate"].to_str().unwrap().starts_with("Basic"));
    let answer = post(&world, None, &format!("grant_type=password&client_secret={GUARD}")).await;
    assert_eq!(answer.error(), (400, "unsupported_grant_type".to_owned()));
    let twice = format!("grant_type=client_credentials&client_secret={GUARD}&account=a&account=b");
    assert_eq!(post(&world, None, &twice).await.error(), (400, "invalid_request".to_owned()));
    let answer = world.agent.post("/oauth/token", "{}").await;
    assert_eq!(answer.error(), (400, "invalid_request".to_owned()));
}
