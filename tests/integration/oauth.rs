//! The `oauth2` crate as a caller: a stock OAuth 2.0 client that knows only the URL.

use crate::{front, world};
use emulators::{
    convirza::{Endpoint, Fault},
    server::Server,
};
use oauth2::{
    ClientId, ClientSecret, EndpointNotSet, EndpointSet, HttpRequest, HttpResponse, RequestTokenError,
    ResourceOwnerPassword, ResourceOwnerUsername, Scope, TokenResponse, TokenUrl,
    basic::{BasicClient, BasicErrorResponse, BasicErrorResponseType, BasicTokenResponse},
    http,
};
use std::time::Duration;

type Client = BasicClient<EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointSet>;
type Refusal = RequestTokenError<reqwest::Error, BasicErrorResponse>;

/// The crate requires an id, and sends it with the secret as HTTP Basic authentication.
fn client(front: &Server) -> Client {
    BasicClient::new(ClientId::new("any".to_owned()))
        .set_client_secret(ClientSecret::new("any".to_owned()))
        .set_token_uri(TokenUrl::new(format!("{}/token", front.url())).expect("a URL"))
}

/// Sends the crate's requests with the HTTP client that the broker uses.
async fn send(request: HttpRequest) -> Result<HttpResponse, reqwest::Error> {
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()?;
    let response = client.execute(request.try_into()?).await?;
    let (status, headers) = (response.status(), response.headers().clone());
    let mut answer = HttpResponse::new(response.bytes().await?.to_vec());
    (*answer.status_mut(), *answer.headers_mut()) = (status, headers);
    Ok(answer)
}

/// A program that uses the crate. It caches the token until the expiry that the crate reports.
struct Program {
    client: Client,
    token: Option<(BasicTokenResponse, Duration)>,
    requests: u32,
}

impl Program {
    /// The token at this time since the program's start.
    async fn token(&mut self, now: Duration) -> String {
        if self.token.as_ref().is_none_or(|(_, expires_at)| now >= *expires_at) {
            self.requests += 1;
            let answer =
                self.client.exchange_client_credentials().request_async(&send).await.expect("a token");
            let lifetime = answer.expires_in().expect("an expiry");
            self.token = Some((answer, now + lifetime));
        }
        self.token.as_ref().map(|(token, _)| token.access_token().secret().clone()).expect("a token")
    }
}

#[tokio::test]
async fn a_token_is_obtained_cached_and_renewed() {
    let world = world().await;
    let front = front(&world).await;
    let mut program = Program { client: client(&front), token: None, requests: 0 };
    let first = program.token(Duration::ZERO).await;
    // The broker replaces the pair without the program's knowledge.
    let invoke = format!("{}/2015-03-31/functions/token-broker/invocations", front.url());
    let refresh = http::Request::post(invoke).body(br#"{"action":"refresh"}"#.to_vec()).expect("a request");
    assert_eq!(send(refresh).await.expect("an answer").status(), 200);
    assert_eq!((program.token(Duration::from_secs(899)).await, program.requests), (first.clone(), 1));
    assert_ne!(program.token(Duration::from_secs(900)).await, first);
    let observed = world.convirza.observed();
    assert_eq!((program.requests, observed.logins_arrived, observed.refreshes), (2, 1, 1));
}

#[tokio::test]
async fn a_client_may_authenticate_in_the_form_and_send_a_scope() {
    let world = world().await;
    let front = front(&world).await;
    let client = client(&front).set_auth_type(oauth2::AuthType::RequestBody);
    let request = client.exchange_client_credentials().add_scope(Scope::new("read write".to_owned()));
    let answer = request.add_extra_param("audience", "anything").request_async(&send).await.expect("a token");
    assert_eq!(answer.expires_in(), Some(Duration::from_secs(900)));
}

#[tokio::test]
async fn an_error_is_a_server_response_with_its_code_and_description() {
    let world = world().await;
    world.convirza.faults().set(Endpoint::Login, Fault::ServerError, Some(1));
    let front = front(&world).await;
    let client = client(&front);
    let request = || client.exchange_client_credentials();

    let (user, password) = ("me".to_owned(), "none".to_owned());
    let (user, password) = (ResourceOwnerUsername::new(user), ResourceOwnerPassword::new(password));
    let refusal = client.exchange_password(&user, &password).request_async(&send).await;
    assert_eq!(code_of(refusal), BasicErrorResponseType::UnsupportedGrantType);
    let refusal = request().add_extra_param("min_ttl_seconds", "soon").request_async(&send).await;
    assert_eq!(code_of(refusal), BasicErrorResponseType::InvalidRequest);
    let extension = |code: &str| BasicErrorResponseType::Extension(code.to_owned());
    let refusal = request().add_extra_param("account", "emea").request_async(&send).await;
    assert_eq!(code_of(refusal), extension("unknown_account"));
    assert_eq!(code_of(request().request_async(&send).await), extension("upstream_unavailable"));
}

fn code_of(refusal: Result<BasicTokenResponse, Refusal>) -> BasicErrorResponseType {
    match refusal {
        Err(RequestTokenError::ServerResponse(response)) => {
            assert!(response.error_description().is_some_and(|text| !text.is_empty()), "{response:?}");
            response.error().clone()
        }
        other => panic!("not an error response: {other:?}"),
    }
}
