//! The URLs in a response's headers. Pure.
//!
//! A caller that followed the API's own URL would bypass the agent, without the account's token and with the guard
//! token in a header.

use super::location::{elsewhere, on_agent};
use contract::AccountName;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use token_broker_client::http::BaseUrl;

const REFRESH: HeaderName = HeaderName::from_static("refresh");

/// Where a response comes from, and who gets it.
pub(crate) struct Urls<'a> {
    pub(crate) api: &'a BaseUrl,
    pub(crate) account: &'a AccountName,
    /// The path on the API that was requested.
    pub(crate) current: &'a str,
    /// The agent, as the caller names it.
    pub(crate) host: Option<&'a HeaderValue>,
}

impl Urls<'_> {
    /// Replaces the API's URLs with the agent's. An error names the other server to which a redirect leads: without its
    /// `Location`, clients mistake a redirect for an empty success.
    pub(crate) fn keep_on_agent(&self, status: StatusCode, headers: &mut HeaderMap) -> Result<(), String> {
        let is_redirect = status.is_redirection() && status != StatusCode::NOT_MODIFIED;
        if let Some(location) = headers.remove(header::LOCATION) {
            let location = String::from_utf8_lossy(location.as_bytes());
            match self.path(&location).and_then(|path| HeaderValue::try_from(path).ok()) {
                Some(path) => {
                    headers.insert(header::LOCATION, path);
                }
                None if is_redirect => {
                    let elsewhere = elsewhere(self.api, &location);
                    return Err(
                        elsewhere.unwrap_or_else(|| "an address that the agent does not forward".to_owned())
                    );
                }
                None => {}
            }
        }
        replace(headers, &header::CONTENT_LOCATION, |text| self.url(text));
        replace(headers, &header::LINK, |text| self.links(text));
        replace(headers, &REFRESH, |text| self.refresh(text));
        Ok(())
    }

    fn path(&self, url: &str) -> Option<String> {
        on_agent(self.api, self.account, self.current, url)
    }

    /// The URL for the caller: on the agent, or unchanged if it is another server's. Absolute URLs stay absolute,
    /// because many clients do not resolve the URL of a next page.
    fn url(&self, url: &str) -> Option<String> {
        if elsewhere(self.api, url).is_some() {
            return Some(url.to_owned());
        }
        let path = self.path(url)?;
        let host = self.host.and_then(|host| host.to_str().ok());
        Some(
            host.filter(|_| url.contains("://"))
                .map_or_else(|| path.clone(), |host| format!("http://{host}{path}")),
        )
    }

    /// RFC 8288: `<URL>; parameters, <URL>; parameters`.
    fn links(&self, text: &str) -> Option<String> {
        let mut links = String::with_capacity(text.len());
        let mut rest = text;
        let mut is_quoted = false;
        while let Some(at) = rest.find(['<', '"']) {
            let (before, found) = rest.split_at(at);
            links.push_str(before);
            let (mark, found) = found.split_at(1);
            if mark == "\"" || is_quoted {
                is_quoted ^= mark == "\"";
                links.push_str(mark);
                rest = found;
                continue;
            }
            let (url, after) = found.split_once('>')?;
            links.push('<');
            links.push_str(&self.url(url.trim())?);
            links.push('>');
            rest = after;
        }
        links.push_str(rest);
        Some(links)
    }

    /// `5; url=URL`. A refresh to another server is dropped, because it is a redirect.
    fn refresh(&self, text: &str) -> Option<String> {
        let at = text.to_ascii_lowercase().find("url=");
        let Some(at) = at else { return Some(text.to_owned()) };
        let (before, url) = text.split_at(at + "url=".len());
        let url = url.trim().trim_matches(['"', '\'']);
        Some(format!("{before}{}", self.path(url)?))
    }
}

/// Replaces the values of a header, or drops those that have no replacement.
fn replace(headers: &mut HeaderMap, name: &HeaderName, replaced: impl Fn(&str) -> Option<String>) {
    if !headers.contains_key(name) {
        return;
    }
    let values: Vec<_> = headers.get_all(name).iter().cloned().collect();
    headers.remove(name);
    for value in values {
        let text = value.to_str().ok().and_then(&replaced);
        if let Some(value) = text.and_then(|text| HeaderValue::try_from(text).ok()) {
            headers.append(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(status: u16, name: &str, value: &str) -> Result<Option<String>, String> {
        let api = BaseUrl::parse("https://api.example.com/v3").unwrap();
        let host = HeaderValue::from_static("localhost:2774");
        let account = AccountName::default();
        let urls = Urls { api: &api, account: &account, current: "/v3/items", host: Some(&host) };
        let name: HeaderName = name.parse().unwrap();
        let mut headers = HeaderMap::from_iter([(name.clone(), value.parse().unwrap())]);
        urls.keep_on_agent(StatusCode::from_u16(status).unwrap(), &mut headers)?;
        Ok(headers.get(&name).map(|value| value.to_str().unwrap().to_owned()))
    }

    #[test]
    fn the_next_page_is_the_agents() {
        for (name, value, expected) in [
            (
                "link",
                r#"<https://api.example.com/v3/items?page=2>; rel="next", <https://api.example.com/v3/items?page=9>; rel=last"#,
                Some(
                    r#"<http://localhost:2774/proxy/default/items?page=2>; rel="next", <http://localhost:2774/proxy/default/items?page=9>; rel=last"#,
                ),
            ),
            ("link", "</v3/items?page=2>; rel=next", Some("</proxy/default/items?page=2>; rel=next")),
            ("link", "<?page=2>; rel=next", Some("</proxy/default/items?page=2>; rel=next")),
            (
                "link",
                r#"<https://docs.example.com/>; title="a <b> c""#,
                Some(r#"<https://docs.example.com/>; title="a <b> c""#),
            ),
            ("link", "<https://api.example.com/v4/x>; rel=next", None),
            ("link", "<https://api.example.com/v3/x; rel=next", None),
            (
                "content-location",
                "https://api.example.com/v3/items/7",
                Some("http://localhost:2774/proxy/default/items/7"),
            ),
            ("content-location", "/v3/items/7", Some("/proxy/default/items/7")),
            ("refresh", "5; url=https://api.example.com/v3/x", Some("5; url=/proxy/default/x")),
            ("refresh", "5;URL='/v3/x'", Some("5;URL=/proxy/default/x")),
            ("refresh", "5; url=https://example.com/", None),
            ("refresh", "5", Some("5")),
            ("location", "https://api.example.com/v3/x", Some("/proxy/default/x")),
        ] {
            assert_eq!(kept(200, name, value).unwrap().as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn a_redirect_to_another_server_is_an_error_that_names_it() {
        for status in [301, 302, 303, 307, 308] {
            let error =
                kept(status, "location", "https://user:secret@files.example.com/x?key=secret").unwrap_err();
            assert_eq!(error, "files.example.com", "{status}");
        }
        assert!(kept(302, "location", "https://api.example.com/v4/x").is_err());
        assert!(kept(302, "location", "javascript:alert(1)").is_err());
        assert_eq!(kept(302, "location", "/v3/x").unwrap().as_deref(), Some("/proxy/default/x"));
        for status in [201, 304] {
            assert_eq!(kept(status, "location", "https://files.example.com/x"), Ok(None), "{status}");
        }
    }
}
