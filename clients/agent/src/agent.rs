//! Handles a request.

use crate::{
    Guard, Settings,
    connections::Connection,
    gate, oauth,
    proxy::Proxy,
    query, reply,
    route::{Route, route},
};
use contract::{AccountName, Action, Call, ErrorCode, Unknown, agent::TOKEN_PATH, parameters};
use http::{Request, Response};
use hyper::body::Incoming;
use std::{fmt, sync::Arc};
use token_broker_client::{
    TokenSource,
    http::{Body, HttpClient, full},
};

/// The agent, apart from its port.
pub struct Agent {
    pub(crate) source: TokenSource,
    pub(crate) guard: Arc<Guard>,
    pub(crate) accounts: Vec<AccountName>,
    proxy: Proxy,
    any_host: bool,
}

impl fmt::Debug for Agent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Agent").field("accounts", &self.accounts).finish_non_exhaustive()
    }
}

impl Agent {
    /// An agent that gets its tokens from `source` and reaches the API by `http`.
    pub fn new(settings: &Settings, source: TokenSource, http: HttpClient) -> Self {
        Self {
            proxy: Proxy::new(settings.api.clone(), settings.apis.clone(), http),
            source,
            guard: Arc::clone(&settings.guard),
            accounts: settings.accounts.clone(),
            any_host: settings.any_host,
        }
    }

    /// Answers a request. The longer answers box their state, because each connection reserves room for the largest.
    /// Everything except `/ping` needs the guard token, in its header or as an OAuth client secret.
    pub(crate) async fn handle(
        &self,
        request: Request<Incoming>,
        connection: &Arc<Connection>,
    ) -> Response<Body> {
        let (head, body) = request.into_parts();
        if let Err(refusal) = gate::check_origin(&head, self.any_host) {
            return reply::refused(refusal);
        }
        let path = head.uri.path().to_owned();
        let route = route(&head.method, &path);
        let is_open = matches!(route, Route::Ping | Route::OAuth);
        if !is_open {
            if !self.guard.admits(|token| gate::is_guarded(&head.headers, token)) {
                return reply::unguarded();
            }
            connection.authenticated();
        }
        match route {
            Route::Ping => reply::json(200, full(r#"{"status":"alive"}"#)),
            Route::Ready => {
                let _busy = connection.busy();
                self.ready().await
            }
            Route::Token => {
                let _busy = connection.busy();
                self.token(head.uri.query().unwrap_or_default()).await
            }
            Route::OAuth => Box::pin(oauth::token(self, Request::from_parts(head, body), connection)).await,
            Route::Proxy { account, rest } => {
                let request = Request::from_parts(head, body);
                Box::pin(self.proxy.pass(&self.source, &account, rest, request, connection)).await
            }
            Route::NoAccount => {
                let description =
                    "the path must be /proxy/ACCOUNT/PATH, and its second segment is not an account";
                reply::error(400, ErrorCode::InvalidRequest, description, None)
            }
            Route::Wrong { allow } => reply::wrong_method(allow),
            Route::Unknown => {
                let description = format!(
                    "no route has this path; the routes are GET {TOKEN_PATH}, POST /oauth/token, \
                     ANY /proxy/ACCOUNT/PATH, GET /ping and GET /readyz"
                );
                reply::error(404, ErrorCode::InvalidRequest, &description, None)
            }
        }
    }

    async fn token(&self, query: &str) -> Response<Body> {
        let call = match Call::from_parameters(&parameters(query.as_bytes()), Action::Token, Unknown::Refuse)
        {
            Ok(call) => call,
            Err(error) => return reply::malformed(&error),
        };
        match query::answer(&self.source, &call).await {
            Ok(token) => reply::token(&token, self.source.now()),
            Err(error) => reply::no_token(&error),
        }
    }

    /// Whether there is a token for each account, or why not.
    async fn ready(&self) -> Response<Body> {
        for account in &self.accounts {
            if let Err(error) = self.source.get(account).await {
                let description = format!("account {account}: {}", error.description());
                return reply::error(503, reply::code(&error), &description, error.retry_after());
            }
        }
        reply::json(200, full(r#"{"status":"ready"}"#))
    }
}
