//! Calls to AWS follow the environment's proxy, as in every AWS SDK. Calls to the upstream never do: the login limit
//! counts by address, so a proxy would change which logins count together.

use crate::{http_client, instance, world};
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Uri},
    response::IntoResponse,
};
use emulators::server::Server;
use serde_json::json;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

/// The hosts to which requests went through the proxy.
type Hosts = Arc<Mutex<BTreeSet<String>>>;

/// Forwards a request to the host that it names.
async fn pass_on(
    State(hosts): State<Hosts>,
    uri: Uri,
    mut headers: HeaderMap,
    body: Bytes,
) -> impl IntoResponse {
    let host = uri.authority().map(ToString::to_string).unwrap_or_default();
    hosts.lock().unwrap().insert(host);
    for name in ["host", "content-length"] {
        headers.remove(name);
    }
    let request = http_client().post(uri.to_string()).headers(headers).body(body);
    let answer = request.send().await.expect("an answer");
    let (status, headers) = (answer.status(), answer.headers().clone());
    (status, headers, answer.bytes().await.expect("a body"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_upstream_is_called_without_one_and_aws_through_it() {
    let world = world().await;
    let hosts = Hosts::default();
    let routes = Router::new().fallback(pass_on).with_state(Arc::clone(&hosts));
    let proxy = Server::start("a proxy", 0, routes).await.expect("a free port");
    let url = proxy.url();
    let names = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];
    let settings = names.map(|name| (name, url.as_str()));
    let instance = instance::start(&world, &settings).await;
    instance.invoke(json!({})).await.expect("a token");
    instance.invoke(json!({"action": "refresh"})).await.expect("a token");
    instance.invoke(json!({"action": "revoke"})).await.expect("a report");
    assert_eq!(world.convirza.observed().logins_arrived, 1);
    let host = |url: String| url.trim_start_matches("http://").to_owned();
    let aws = [world.dynamodb.url(), world.secrets_manager.url()].map(host);
    assert_eq!(*hosts.lock().unwrap(), BTreeSet::from(aws));
}
