//! A `reqwest-middleware` that authorizes requests.

use crate::{AccountName, Token, TokenSource};
use reqwest::{Method, Request, Response, StatusCode, Url, header::AUTHORIZATION};
use reqwest_middleware::{Error, Middleware, Next, Result};

/// Adds the account's token to each request for the API. Requests for other hosts pass without it.
///
/// On 401 it reports the token's generation. It repeats the request once if the broker returned a newer one and the
/// body can be cloned, which a streaming body cannot. After a redirect it repeats only GET, HEAD and OPTIONS, because
/// another method may already have taken effect.
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
        let (has_effect, sent_to) = (has_effect(request.method()), without_fragment(request.url()));
        let response = next.clone().run(request, extensions).await?;
        // After a redirect to another host, reqwest sends no token, so a 401 from there says nothing about it.
        if response.status() != StatusCode::UNAUTHORIZED || response.url().origin() != self.api.origin() {
            return Ok(response);
        }
        // Reported even if the request cannot be repeated, so that the next one has a good token.
        let renewed = self.source.report(&self.account, token.generation).await;
        // reqwest would start again before the redirects. Only the URL reveals them, so a redirect to the same URL is
        // not noticed.
        if has_effect && without_fragment(response.url()) != sent_to {
            return Ok(response);
        }
        match (again, renewed) {
            (Some(mut again), Ok(renewed)) if renewed.generation > token.generation => {
                authorize(&mut again, &renewed)?;
                next.run(again, extensions).await
            }
            _ => Ok(response),
        }
    }
}

fn has_effect(method: &Method) -> bool {
    ![Method::GET, Method::HEAD, Method::OPTIONS].contains(method)
}

fn without_fragment(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_fragment(None);
    url
}

fn authorize(request: &mut Request, token: &Token) -> Result<()> {
    let unsendable = || Error::middleware(crate::Error::Unreadable("its token cannot be sent in a header"));
    let value = token.authorization().ok_or_else(unsendable)?;
    request.headers_mut().insert(AUTHORIZATION, value);
    Ok(())
}
