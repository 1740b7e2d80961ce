//! The profile files, `~/.aws/credentials` and `~/.aws/config`.

use super::{Environment, Keys};
use contract::Secret;
use std::collections::HashMap;

/// The credentials of the chosen profile.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Keys(Keys),
    /// The profile names a source that is not covered. Says which.
    Unsupported(String),
    Nothing,
}

/// The settings of the chosen profile.
#[derive(Default)]
pub(super) struct Profiles {
    name: String,
    settings: HashMap<String, String>,
}

impl Profiles {
    /// Reads the files that exist.
    pub(super) fn read(environment: &Environment) -> Self {
        let text = |variable, in_home| {
            let file = environment.file(variable, in_home);
            file.and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default()
        };
        let name = environment.first(&["AWS_PROFILE", "AWS_DEFAULT_PROFILE"]).unwrap_or("default");
        Self::parse(
            name,
            &text("AWS_CONFIG_FILE", ".aws/config"),
            &text("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"),
        )
    }

    /// Where both files have a setting, that of the credentials file counts.
    fn parse(name: &str, config: &str, credentials: &str) -> Self {
        let mut settings = section(config, &[name, &format!("profile {name}")]);
        settings.extend(section(credentials, &[name]));
        Self { name: name.to_owned(), settings }
    }

    pub(super) fn region(&self) -> Option<String> {
        self.settings.get("region").cloned()
    }

    pub(super) fn keys(&self) -> Found {
        let get = |name: &str| self.settings.get(name);
        if let Some(kind) = ["role_arn", "sso_session", "sso_start_url", "credential_process"]
            .into_iter()
            .find(|kind| self.settings.contains_key(*kind))
        {
            return Found::Unsupported(format!(
                "profile {} uses {kind}, which is not supported here; put keys into the environment, for example by \
                 `aws configure export-credentials --format env`",
                self.name
            ));
        }
        match (get("aws_access_key_id"), get("aws_secret_access_key")) {
            (Some(id), Some(secret)) => Found::Keys(Keys {
                access_key_id: id.clone(),
                secret_access_key: Secret::from(secret.as_str()),
                session_token: get("aws_session_token").map(|token| Secret::from(token.as_str())),
                expires_at: None,
            }),
            _ => Found::Nothing,
        }
    }
}

/// The settings of the sections with one of these names.
fn section(text: &str, names: &[&str]) -> HashMap<String, String> {
    let mut inside = false;
    let mut settings = HashMap::new();
    for line in text.lines() {
        // An indented line belongs to a nested setting.
        let is_nested = line.starts_with([' ', '\t']);
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
            inside = names.contains(&name.as_str());
        } else if let Some((name, value)) = line.split_once('=').filter(|_| inside && !is_nested)
            && !name.starts_with(['#', ';'])
        {
            settings.insert(name.trim().to_owned(), value.trim().to_owned());
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "[default]\nregion = eu-west-1\ns3 =\n  region = nested\n[profile dev]\nregion=us-east-2\n\
                          [profile sso]\nsso_session = main\n";
    const CREDENTIALS: &str =
        "# aws_access_key_id = commented\n[dev]\naws_access_key_id = id\naws_secret_access_key = s=cret\n";

    #[test]
    fn both_files_make_one_profile() {
        let dev = Profiles::parse("dev", CONFIG, CREDENTIALS);
        assert_eq!(dev.region().as_deref(), Some("us-east-2"));
        let Found::Keys(keys) = dev.keys() else { panic!("keys") };
        assert_eq!((keys.access_key_id.as_str(), keys.secret_access_key.expose()), ("id", "s=cret"));
        let default = Profiles::parse("default", CONFIG, CREDENTIALS);
        assert_eq!((default.region().as_deref(), default.keys()), (Some("eu-west-1"), Found::Nothing));
    }

    #[test]
    fn a_source_that_is_not_covered_is_named() {
        let Found::Unsupported(what) = Profiles::parse("sso", CONFIG, CREDENTIALS).keys() else { panic!() };
        assert!(what.contains("sso_session"), "{what}");
    }
}
