//! Region, credentials and signatures, found and made as an AWS SDK does it.
//!
//! | source of credentials | covered |
//! | --- | --- |
//! | environment | `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN` |
//! | profile files | keys that are in them; not `role_arn`, `sso_*` and `credential_process` |
//! | web identity | `AWS_WEB_IDENTITY_TOKEN_FILE` and `AWS_ROLE_ARN`, as EKS sets them |
//! | container | the relative URI of ECS; the full URI of EKS Pod Identity, Greengrass and SnapStart |
//! | instance | the metadata service, version 2 |

mod credentials;
mod environment;
mod metadata;
mod plan;
mod profile;
mod signature;
mod web_identity;

pub(crate) use credentials::Credentials;
pub use environment::{Environment, GuardTokenError};
pub(crate) use metadata::region as instance_region;
pub(crate) use plan::region as planned_region;
pub(crate) use signature::sign;

use contract::{Secret, Timestamp};

/// Keys to sign with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: Secret,
    pub(crate) session_token: Option<Secret>,
    /// Keys without it do not expire.
    pub(crate) expires_at: Option<Timestamp>,
}
