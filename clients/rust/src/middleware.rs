//! A `reqwest-middleware` that authorizes requests.

use crate::{AccountName, Token, TokenSource};
use reqwest::{
    Request, Response, StatusCode, Url,
    header::{AUTHORIZATION, HeaderValue},
};
use reqwest_middleware::{Error, Middleware, Next, Result};

/// Adds the account's token to each request for the API. Requests for other hosts pass without it.
///
/// On 401 it reports the token's generation. It sends the request once more if the broker returned a newer one and
/// the body can be cloned, which a streaming body cannot.
#[derive(Clone, Debug)]
pub struct BearerToken {
    source: TokenSource,
    account: AccountName,
    api: Url,
}

impl BearerToken {
    /// A middleware for requests of one account to the API with this scheme, host and port.
    pub fn new(source: TokenSource, account: AccountName, api: Url) -> Self {
        Self { source, account, api }
    }
}

#[async_trait::async_trait]
impl Middleware for BearerToken {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut http::Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        if request.url().origin() != self.api.origin() {
            return next.run(request, extensions).await;
        }
        let token = self.source.get(&self.account).await.map_err(Error::middleware)?;
        authorize(&mut request, &token)?;
        let again = request.try_clone();
        let response = next.clone().run(request, extensions).await?;
        // After a redirect to another host, reqwest sends no token. A 401 from there says nothing about it.
        if response.status() != StatusCode::UNAUTHORIZED || response.url().origin() != self.api.origin() {
            return Ok(response);
        }
        // Reported even where the request cannot be sent again: the next one shall have a good token.
        let renewed = self.source.report(&self.account, token.generation).await;
        match (again, renewed) {
            (Some(mut again), Ok(renewed)) if renewed.generation > token.generation => {
                authorize(&mut again, &renewed)?;
                next.run(again, extensions).await
            }
            _ => Ok(response),
        }
    }
}

fn authorize(request: &mut Request, token: &Token) -> Result<()> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.access_token.expose()))
        .map_err(|_| Error::middleware(crate::Error::Unreadable("its token is no header value")))?;
    value.set_sensitive(true);
    request.headers_mut().insert(AUTHORIZATION, value);
    Ok(())
}
