//! Where credentials and Region come from. Decides only; `credentials` and `metadata` do the work.

use super::{
    Environment, Keys,
    profile::{Found, Profiles},
};
use crate::http::BaseUrl;
use contract::Secret;
use std::path::PathBuf;

/// Where ECS serves the credentials of a task.
const ECS: &str = "http://169.254.170.2";
/// Plain HTTP goes to this machine, or to these addresses of ECS and EKS.
const METADATA_HOSTS: [&str; 3] = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];

/// Where credentials come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Keys(Keys),
    Container {
        server: BaseUrl,
        /// With the query, as it is.
        path: String,
        authorization: Option<Authorization>,
    },
    WebIdentity {
        token_file: PathBuf,
        role_arn: String,
        session: String,
        endpoint: Option<String>,
    },
    Instance {
        endpoint: BaseUrl,
    },
    /// There are none. Says why.
    Unusable(String),
}

/// The authorization of a request for the container's credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Authorization {
    Token(Secret),
    /// The file is rewritten from time to time.
    File(PathBuf),
}

/// The first source that is there, in the SDK's order. Reads the profile files only if the environment has no keys.
pub(super) fn source(environment: &Environment, profiles: impl FnOnce() -> Profiles) -> Source {
    if let (Some(access_key_id), Some(secret)) =
        (environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY"))
    {
        return Source::Keys(Keys {
            access_key_id: access_key_id.to_owned(),
            secret_access_key: Secret::from(secret),
            session_token: environment.get("AWS_SESSION_TOKEN").map(Secret::from),
            expires_at: None,
        });
    }
    match profiles().keys() {
        Found::Keys(keys) => return Source::Keys(keys),
        Found::Unsupported(what) => return Source::Unusable(what),
        Found::Nothing => {}
    }
    if let (Some(file), Some(role_arn)) =
        (environment.get("AWS_WEB_IDENTITY_TOKEN_FILE"), environment.get("AWS_ROLE_ARN"))
    {
        return Source::WebIdentity {
            token_file: PathBuf::from(file),
            role_arn: role_arn.to_owned(),
            session: environment.get("AWS_ROLE_SESSION_NAME").unwrap_or("token-broker").to_owned(),
            endpoint: environment.first(&["AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"]).map(str::to_owned),
        };
    }
    container(environment).unwrap_or_else(|| instance(environment))
}

fn container(environment: &Environment) -> Option<Source> {
    let relative =
        environment.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").map(|path| format!("{ECS}{path}"));
    let full = || environment.get("AWS_CONTAINER_CREDENTIALS_FULL_URI").map(str::to_owned);
    let text = relative.or_else(full)?;
    let file = environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    let token = environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN");
    let authorization = file
        .map(|file| Authorization::File(PathBuf::from(file)))
        .or_else(|| token.map(|token| Authorization::Token(Secret::from(token))));
    let (server, path) = split(&text);
    Some(match BaseUrl::parse_any(server) {
        Ok(server) if server.target.is_tls() || is_near(&server) => {
            Source::Container { server, path: path.to_owned(), authorization }
        }
        Ok(_) => Source::Unusable("the container's credentials URI is neither https nor local".to_owned()),
        Err(error) => Source::Unusable(format!("the container's credentials URI is {error}")),
    })
}

/// Splits a URL before its path.
fn split(url: &str) -> (&str, &str) {
    let host = url.find("://").map_or(0, |colon| colon + 3);
    let path = url.get(host..).and_then(|rest| rest.find('/')).map(|slash| host + slash);
    path.map_or((url, "/"), |path| url.split_at(path))
}

fn is_near(url: &BaseUrl) -> bool {
    url.target.is_loopback() || METADATA_HOSTS.contains(&url.target.host())
}

fn instance(environment: &Environment) -> Source {
    let what = "there are no AWS credentials in environment, profile and container";
    instance_endpoint(environment).map_or_else(
        || Source::Unusable(format!("{what}, and the instance metadata service is disabled")),
        |endpoint| Source::Instance { endpoint },
    )
}

/// The metadata service, unless it is disabled.
pub(super) fn instance_endpoint(environment: &Environment) -> Option<BaseUrl> {
    let disabled =
        environment.get("AWS_EC2_METADATA_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true"));
    let url = environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or("http://169.254.169.254");
    if disabled { None } else { BaseUrl::parse_any(url).ok() }
}

/// The Region, as far as the environment and the profile files tell.
pub(crate) fn region(environment: &Environment) -> Option<String> {
    let named = environment.first(&["AWS_REGION", "AWS_DEFAULT_REGION"]).map(str::to_owned);
    named.or_else(|| Profiles::read(environment).region())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(variables: &[(&str, &str)]) -> Source {
        source(&variables.iter().copied().collect(), Profiles::default)
    }

    #[test]
    fn the_environment_comes_first() {
        let source = planned(&[
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", "tell-tale"),
            ("AWS_SESSION_TOKEN", "tell-tale"),
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:9001/creds"),
        ]);
        assert!(matches!(source, Source::Keys(Keys { session_token: Some(_), .. })));
        assert!(!format!("{source:?}").contains("tell-tale"));
    }

    #[test]
    fn a_container_may_be_near_or_encrypted_only() {
        for (uri, usable) in [
            ("http://127.0.0.1:9001/creds", true),
            ("http://169.254.170.23/v1/credentials", true),
            ("http://[fd00:ec2::23]/v1/credentials", true),
            ("https://example.com/creds", true),
            ("http://example.com/creds", false),
            ("http://169.254.170.2.example.com/creds", false),
        ] {
            let source = planned(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri)]);
            assert_eq!(matches!(source, Source::Container { .. }), usable, "{uri}");
        }
        let relative = planned(&[("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/x")]);
        let Source::Container { server, path, authorization: None } = relative else {
            panic!("{relative:?}")
        };
        assert_eq!((server.target.host(), path.as_str()), ("169.254.170.2", "/v2/credentials/x"));
        for (url, parts) in [
            ("http://localhost:9001/a/?role=x", ("http://localhost:9001", "/a/?role=x")),
            ("http://localhost", ("http://localhost", "/")),
            ("localhost", ("localhost", "/")),
        ] {
            assert_eq!(split(url), parts);
        }
    }

    #[test]
    fn the_authorization_file_beats_the_token() {
        let uri = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1/creds");
        let token = ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "secret");
        let file = ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/run/token");
        let authorization = |variables: &[(&str, &str)]| match planned(variables) {
            Source::Container { authorization, .. } => authorization,
            other => panic!("{other:?}"),
        };
        assert_eq!(authorization(&[uri, token]), Some(Authorization::Token(Secret::from("secret"))));
        assert_eq!(authorization(&[uri, token, file]), Some(Authorization::File("/run/token".into())));
    }

    #[test]
    fn web_identity_and_instance_come_last() {
        let web = planned(&[
            ("AWS_WEB_IDENTITY_TOKEN_FILE", "/run/token"),
            ("AWS_ROLE_ARN", "arn:aws:iam::1:role/x"),
        ]);
        assert!(matches!(web, Source::WebIdentity { .. }));
        assert!(matches!(planned(&[]), Source::Instance { .. }));
        assert!(matches!(planned(&[("AWS_EC2_METADATA_DISABLED", "True")]), Source::Unusable(_)));
    }
}
