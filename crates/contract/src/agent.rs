//! What a caller of the agent has to know.

/// Where the agent listens on 127.0.0.1 unless told otherwise.
pub const PORT: u16 = 2774;

/// The headers that may carry the guard token. The second is that of AWS's own extension.
pub const GUARD_HEADERS: [&str; 2] = ["x-token-broker-token", "x-aws-parameters-secrets-token"];

/// The route that answers a token. Its query has the parameters of the call.
pub const TOKEN_PATH: &str = "/v1/token";
