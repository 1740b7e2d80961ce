//! The `oauth2` crate as a caller: a stock OAuth 2.0 client that is told nothing but the URL.

use super::{
    front, handler, world,
    world::{
        convirza::{Endpoint, Fault},
        server::Server,
    },
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

/// The crate wants an id, and sends it with the secret as HTTP Basic authentication.
fn client(front: &Server) -> Client {
    BasicClient::new(ClientId::new("any".to_owned()))
        .set_client_secret(ClientSecret::new("any".to_owned()))
        .set_token_uri(TokenUrl::new(format!("{}/token", front.url())).expect("a URL"))
}

/// The crate's way to send a request, with the HTTP client that the broker has.
async fn send(request: HttpRequest) -> Result<HttpResponse, reqwest::Error> {
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()?;
    let response = client.execute(request.try_into()?).await?;
    let (status, headers) = (response.status(), response.headers().clone());
    let mut answer = HttpResponse::new(response.bytes().await?.to_vec());
    (*answer.status_mut(), *answer.headers_mut()) = (status, headers);
    Ok(answer)
}

/// What a program around the crate does: it keeps the token for as long as the crate says that it is good.
struct Kept {
    client: Client,
    token: Option<(BasicTokenResponse, Duration)>,
    asked: u32,
}

impl Kept {
    /// The token at this time of the program's life.
    async fn token(&mut self, now: Duration) -> String {
        if self.token.as_ref().is_none_or(|(_, good_until)| now >= *good_until) {
            self.asked += 1;
            let answer =
                self.client.exchange_client_credentials().request_async(&send).await.expect("a token");
            let lifetime = answer.expires_in().expect("an expiry");
            self.token = Some((answer, now + lifetime));
        }
        self.token.as_ref().map(|(token, _)| token.access_token().secret().clone()).expect("a token")
    }
}

#[tokio::test]
async fn a_token_is_obtained_kept_and_renewed() {
    let world = world().await;
    let front = front::start(0, handler(&world).await).await.expect("a front");
    let mut kept = Kept { client: client(&front), token: None, asked: 0 };
    let first = kept.token(Duration::ZERO).await;
    // Another pair for the broker, of which the caller cannot know.
    let invoke = format!("{}/2015-03-31/functions/token-broker/invocations", front.url());
    let refresh = http::Request::post(invoke).body(br#"{"action":"refresh"}"#.to_vec()).expect("a request");
    assert_eq!(send(refresh).await.expect("an answer").status(), 200);
    assert_eq!((kept.token(Duration::from_secs(899)).await, kept.asked), (first.clone(), 1));
    assert_ne!(kept.token(Duration::from_secs(900)).await, first);
    let observed = world.convirza.observed();
    assert_eq!((kept.asked, observed.logins_arrived, observed.refreshes), (2, 1, 1));
}

#[tokio::test]
async fn a_client_that_authenticates_in_the_form_and_asks_for_a_scope_is_served_as_well() {
    let world = world().await;
    let front = front::start(0, handler(&world).await).await.expect("a front");
    let client = client(&front).set_auth_type(oauth2::AuthType::RequestBody);
    let request = client.exchange_client_credentials().add_scope(Scope::new("read write".to_owned()));
    let answer = request.add_extra_param("audience", "anything").request_async(&send).await.expect("a token");
    assert_eq!(answer.expires_in(), Some(Duration::from_secs(900)));
}

#[tokio::test]
async fn an_error_is_a_server_response_with_its_code_and_description() {
    let world = world().await;
    world.convirza.faults().set(Endpoint::Login, Fault::ServerError, Some(1));
    let front = front::start(0, handler(&world).await).await.expect("a front");
    let client = client(&front);
    let asked = || client.exchange_client_credentials();

    let (user, password) = ("me".to_owned(), "none".to_owned());
    let (user, password) = (ResourceOwnerUsername::new(user), ResourceOwnerPassword::new(password));
    let refusal = client.exchange_password(&user, &password).request_async(&send).await;
    assert_eq!(code_of(refusal), BasicErrorResponseType::UnsupportedGrantType);
    let refusal = asked().add_extra_param("min_ttl_seconds", "soon").request_async(&send).await;
    assert_eq!(code_of(refusal), BasicErrorResponseType::InvalidRequest);
    let extension = |code: &str| BasicErrorResponseType::Extension(code.to_owned());
    let refusal = asked().add_extra_param("account", "emea").request_async(&send).await;
    assert_eq!(code_of(refusal), extension("unknown_account"));
    assert_eq!(code_of(asked().request_async(&send).await), extension("upstream_unavailable"));
}

fn code_of(refusal: Result<BasicTokenResponse, Refusal>) -> BasicErrorResponseType {
    match refusal {
        Err(RequestTokenError::ServerResponse(response)) => {
            assert!(response.error_description().is_some_and(|text| !text.is_empty()), "{response:?}");
            response.error().clone()
        }
        other => panic!("no error of the server: {other:?}"),
    }
}
