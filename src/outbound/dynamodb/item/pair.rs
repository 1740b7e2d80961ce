//! The pair of an account, and the tokens to revoke.

use super::{
    Item, ItemError,
    attributes::{
        get_endpoint, get_instant, get_map, get_number, get_secret, get_small_number, get_text, get_url,
        instant, map, number, optional, required, text,
    },
};
use aws_sdk_dynamodb::types::AttributeValue;
use protocol::{
    ApiVersion, Endpoints, Extra, Generation, ObtainedBy, Origin, Pair, RefreshToken, Revocation,
    RevocationRetry, SecretVersion, TokenKind, Verdict, millis,
};
use std::time::Duration;

pub(super) fn from_pair(pair: &Pair) -> Item {
    let mut item = Item::from([
        number("generation", pair.generation.0),
        text("access_token", pair.access_token.expose()),
        instant("issued_at_ms", pair.issued_at),
        instant("expires_at_ms", pair.expires_at),
        text(
            "obtained_by",
            match pair.obtained_by {
                ObtainedBy::Login => "login",
                ObtainedBy::Refresh => "refresh",
            },
        ),
    ]);
    item.extend(pair.refresh_token.iter().flat_map(from_refresh_token));
    item.extend(pair.replaces.map(|generation| number("replaces", generation.0)));
    item.extend(pair.secret_version.as_ref().map(|version| text("secret_version", version.0.clone())));
    item.extend(from_verdict(pair.verdict));
    item.extend(from_origin(&pair.origin));
    item.extend(pair.extra.as_ref().map(|extra| text("extra", extra.expose())));
    item.extend(pair.refresh_ahead.map(|ahead| number("refresh_ahead_seconds", ahead.as_secs())));
    item
}

pub(super) fn to_pair(item: &Item) -> Result<Pair, ItemError> {
    Ok(Pair {
        generation: Generation(required(item, "generation", get_number)?),
        access_token: required(item, "access_token", get_secret)?,
        refresh_token: to_refresh_token(item)?,
        issued_at: required(item, "issued_at_ms", get_instant)?,
        expires_at: required(item, "expires_at_ms", get_instant)?,
        obtained_by: required(item, "obtained_by", |value| match get_text(value)? {
            "login" => Some(ObtainedBy::Login),
            "refresh" => Some(ObtainedBy::Refresh),
            _ => None,
        })?,
        replaces: optional(item, "replaces", get_number)?.map(Generation),
        origin: to_origin(item)?,
        secret_version: optional(item, "secret_version", get_text)?
            .map(|version| SecretVersion(version.to_owned())),
        verdict: optional(item, "verdict", get_map)?.map_or(Ok(Verdict::Unverified), to_verdict)?,
        extra: optional(item, "extra", |value| Extra::parse(get_text(value)?))?,
        refresh_ahead: optional(item, "refresh_ahead_seconds", get_small_number)?
            .map(|seconds| Duration::from_secs(seconds.into())),
    })
}

fn from_refresh_token(refresh_token: &RefreshToken) -> Item {
    let RefreshToken { token, expires_at, consumed, earlier_life } = refresh_token;
    let state = if *consumed { "consumed" } else { "available" };
    let mut item = Item::from([text("refresh_token", token.expose()), text("refresh_token_state", state)]);
    item.extend(expires_at.map(|at| instant("refresh_expires_at_ms", at)));
    item.extend(earlier_life.map(|life| number("earlier_refresh_life_ms", millis(life))));
    item
}

fn to_refresh_token(pair: &Item) -> Result<Option<RefreshToken>, ItemError> {
    let token = optional(pair, "refresh_token", get_secret)?;
    let consumed = optional(pair, "refresh_token_state", |value| match get_text(value)? {
        "available" => Some(false),
        "consumed" => Some(true),
        _ => None,
    })?;
    let expires_at = optional(pair, "refresh_expires_at_ms", get_instant)?;
    let earlier_life = optional(pair, "earlier_refresh_life_ms", get_number)?.map(Duration::from_millis);
    match (token, consumed, expires_at) {
        (Some(token), Some(consumed), expires_at) => {
            Ok(Some(RefreshToken { token, expires_at, consumed, earlier_life }))
        }
        (None, None, None) => Ok(None),
        (Some(_), None, _) => Err(ItemError { attribute: "refresh_token_state" }),
        (None, _, _) => Err(ItemError { attribute: "refresh_token" }),
    }
}

fn from_verdict(verdict: Verdict) -> Option<(String, AttributeValue)> {
    let fields = match verdict {
        Verdict::Unverified => return None,
        Verdict::Alive { at } => Item::from([text("state", "alive"), instant("at_ms", at)]),
        Verdict::Inconclusive { probe_after } => {
            Item::from([text("state", "inconclusive"), instant("at_ms", probe_after)])
        }
        Verdict::Dead => Item::from([text("state", "dead")]),
    };
    Some(map("verdict", fields))
}

fn to_verdict(item: &Item) -> Result<Verdict, ItemError> {
    let state = required(item, "state", get_text)?;
    let at = optional(item, "at_ms", get_instant)?;
    match (state, at) {
        ("alive", Some(at)) => Ok(Verdict::Alive { at }),
        ("inconclusive", Some(probe_after)) => Ok(Verdict::Inconclusive { probe_after }),
        ("dead", None) => Ok(Verdict::Dead),
        ("alive" | "inconclusive" | "dead", _) => Err(ItemError { attribute: "at_ms" }),
        _ => Err(ItemError { attribute: "state" }),
    }
}

pub(super) fn from_revocation(revocation: &Revocation) -> Item {
    let kind = match revocation.kind {
        TokenKind::Access => "access",
        TokenKind::Refresh => "refresh",
    };
    let mut item = Item::from([
        text("token", revocation.token.expose()),
        text("kind", kind),
        instant("expires_at_ms", revocation.expires_at),
    ]);
    item.extend(from_origin(&revocation.origin));
    item.extend(revocation.retry.map(|RevocationRetry { at, failures }| {
        map("retry", Item::from([instant("at_ms", at), number("failures", u64::from(failures))]))
    }));
    item
}

pub(super) fn to_revocation(item: &Item) -> Result<Revocation, ItemError> {
    Ok(Revocation {
        token: required(item, "token", get_secret)?,
        kind: required(item, "kind", |value| match get_text(value)? {
            "access" => Some(TokenKind::Access),
            "refresh" => Some(TokenKind::Refresh),
            _ => None,
        })?,
        origin: to_origin(item)?,
        expires_at: required(item, "expires_at_ms", get_instant)?,
        retry: optional(item, "retry", get_map)?.map(to_retry).transpose()?,
    })
}

fn to_retry(item: &Item) -> Result<RevocationRetry, ItemError> {
    Ok(RevocationRetry {
        at: required(item, "at_ms", get_instant)?,
        failures: required(item, "failures", get_small_number)?,
    })
}

/// An OAuth 2.0 origin carries Convirza V2's mark, so that release 0.1.0 sends its tokens nowhere: it does not know the
/// other attributes, and drops them with its next write.
pub(super) fn from_origin(origin: &Origin) -> Option<(String, AttributeValue)> {
    const V2: &str = "convirza-v2";
    let (mark, urls) = match origin {
        Origin::Convirza { api_version, oauth_url, api_url } => {
            let mark = (*api_version == ApiVersion::V2).then_some(V2);
            (mark, [("oauth_url", oauth_url.as_ref()), ("api_url", api_url.as_ref()), ("", None)])
        }
        Origin::OAuth2(Endpoints { token_url, revoke_url, probe_url }) => {
            let further = [("revoke_url", revoke_url.as_ref()), ("probe_url", probe_url.as_ref())];
            (Some(V2), [("token_url", Some(token_url)), further[0], further[1]])
        }
    };
    let urls = urls.into_iter().filter_map(|(name, url)| Some(text(name, url?.as_str())));
    let fields: Item = mark.map(|mark| text("api_version", mark)).into_iter().chain(urls).collect();
    (!fields.is_empty()).then(|| map("origin", fields))
}

pub(super) fn to_origin(item: &Item) -> Result<Origin, ItemError> {
    let Some(fields) = optional(item, "origin", get_map)? else { return Ok(Origin::default()) };
    let api_version = optional(fields, "api_version", |value| match get_text(value)? {
        "convirza-v2" => Some(ApiVersion::V2),
        _ => None,
    })?;
    if let Some(token_url) = optional(fields, "token_url", get_endpoint)? {
        return Ok(Origin::OAuth2(Endpoints {
            token_url,
            revoke_url: optional(fields, "revoke_url", get_endpoint)?,
            probe_url: optional(fields, "probe_url", get_endpoint)?,
        }));
    }
    Ok(Origin::Convirza {
        api_version: api_version.unwrap_or_default(),
        oauth_url: optional(fields, "oauth_url", get_url)?,
        api_url: optional(fields, "api_url", get_url)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{Secret, Timestamp, UpstreamUrl};

    const AT: Timestamp = Timestamp::from_millis(1_000_000);

    fn pair(refresh_token: Option<RefreshToken>, verdict: Verdict) -> Item {
        from_pair(&Pair {
            generation: Generation(7),
            access_token: Secret::from("access"),
            refresh_token,
            issued_at: AT,
            expires_at: AT,
            obtained_by: ObtainedBy::Login,
            replaces: None,
            origin: Origin::Convirza {
                api_version: ApiVersion::V2,
                oauth_url: UpstreamUrl::parse("https://oauth.example").ok(),
                api_url: None,
            },
            secret_version: None,
            verdict,
            extra: None,
            refresh_ahead: None,
        })
    }

    fn full() -> Item {
        let token = Secret::from("refresh");
        let refresh_token = RefreshToken { token, expires_at: Some(AT), consumed: true, earlier_life: None };
        pair(Some(refresh_token), Verdict::Alive { at: AT })
    }

    fn nested<'a>(item: &'a mut Item, name: &str) -> &'a mut Item {
        match item.get_mut(name) {
            Some(AttributeValue::M(nested)) => nested,
            other => panic!("{name} is {other:?}"),
        }
    }

    fn refused(item: &Item) -> &'static str {
        to_pair(item).unwrap_err().attribute
    }

    #[test]
    fn the_state_of_a_refresh_token_needs_its_token() {
        let mut item = full();
        item.remove("refresh_token");
        assert_eq!(refused(&item), "refresh_token");
        item.remove("refresh_token_state");
        assert_eq!(refused(&item), "refresh_token", "an expiry without its token");
        item.remove("refresh_expires_at_ms");
        assert_eq!(to_pair(&item).unwrap().refresh_token, None);
    }

    #[test]
    fn a_refresh_token_needs_a_known_state() {
        let mut item = full();
        item.extend([text("refresh_token_state", "spent")]);
        assert_eq!(refused(&item), "refresh_token_state");
        item.remove("refresh_token_state");
        assert_eq!(refused(&item), "refresh_token_state");
    }

    #[test]
    fn a_verdict_has_an_instant_unless_the_token_is_dead() {
        for (state, dated) in [("alive", false), ("inconclusive", false), ("dead", true)] {
            let mut item = full();
            let verdict = nested(&mut item, "verdict");
            verdict.extend([text("state", state)]);
            if !dated {
                verdict.remove("at_ms");
            }
            assert_eq!(refused(&item), "at_ms", "{state}");
        }
        let mut item = full();
        nested(&mut item, "verdict").extend([text("state", "unverified")]);
        assert_eq!(refused(&item), "state");
    }

    #[test]
    fn a_bad_url_makes_an_item_unreadable() {
        for bad in ["http://oauth.example", "https://user:word@oauth.example", ""] {
            let mut item = full();
            nested(&mut item, "origin").extend([text("oauth_url", bad)]);
            assert_eq!(refused(&item), "oauth_url", "{bad}");
        }
    }
}
