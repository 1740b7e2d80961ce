//! Carries calls to the broker over the network.

use crate::{
    BoxFuture, Broker, Call, Environment, Error, Reply, SystemClock,
    http::{BaseUrl, HttpClient, Target, collect, full},
    transports::{Agent, read},
};
#[cfg(feature = "aws")]
use crate::{
    Clock,
    aws::Aws,
    transports::{HttpApi, Invoke, region_of, region_of_arn},
};
#[cfg(feature = "aws")]
use aws_config::SdkConfig;
#[cfg(feature = "aws")]
use contract::{ClientName, ErrorCode, Field, unknown_field};
use http::Request;
#[cfg(feature = "aws")]
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::{fmt, time::Duration};
#[cfg(feature = "aws")]
use tokio::sync::OnceCell;

/// The longest answer that is read: `status` of a thousand accounts.
const LONGEST_ANSWER: usize = 1024 * 1024;
/// The longest pause before another try of the HTTP API.
#[cfg(feature = "aws")]
const PAUSE: Duration = Duration::from_millis(500);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The broker, by one of three transports.
pub struct BrokerClient {
    transport: Transport,
    http: HttpClient,
    #[cfg(feature = "aws")]
    environment: Environment,
    #[cfg(feature = "aws")]
    given: Option<SdkConfig>,
    #[cfg(feature = "aws")]
    name: Option<ClientName>,
    /// The broker is older than the field `client`.
    #[cfg(feature = "aws")]
    is_nameless: AtomicBool,
}

/// Credentials and Region are resolved on the first call, because that may take a request.
enum Transport {
    Agent(Agent),
    #[cfg(feature = "aws")]
    Invoke(String, OnceCell<Invoke>),
    #[cfg(feature = "aws")]
    HttpApi(BaseUrl, OnceCell<HttpApi>),
}

impl fmt::Debug for BrokerClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("BrokerClient")
    }
}

impl BrokerClient {
    /// The agent on localhost, at `TOKEN_BROKER_PORT`. Its guard token is `TOKEN_BROKER_TOKEN` (or the file that it
    /// names as `file://PATH`), `AWS_SESSION_TOKEN` or `AWS_CONTAINER_AUTHORIZATION_TOKEN`. The file is read for each
    /// call, because a rotation replaces it.
    ///
    /// # Errors
    /// There is no guard token, or the port is malformed.
    pub fn agent(environment: &Environment) -> Result<Self, Error> {
        let port = environment.agent_port().filter(|port| *port > 0);
        let port =
            port.ok_or_else(|| Error::NotConfigured("TOKEN_BROKER_PORT must be a port number".to_owned()))?;
        let base = base_url(&format!("http://127.0.0.1:{port}"), "TOKEN_BROKER_PORT")?;
        Agent::guard(environment)?;
        let agent = Agent { target: base.target, environment: environment.clone() };
        Ok(Self::new(environment, Transport::Agent(agent)))
    }

    /// Invokes the broker's function directly, by its name or ARN, with the alias if there is one.
    #[cfg(feature = "aws")]
    pub fn invoke(environment: &Environment, function: &str) -> Self {
        Self::new(environment, Transport::Invoke(function.to_owned(), OnceCell::new()))
    }

    /// The broker's HTTP API, by its base URL.
    ///
    /// # Errors
    /// The URL is malformed, or neither https nor local.
    #[cfg(feature = "aws")]
    pub fn http_api(environment: &Environment, url: &str) -> Result<Self, Error> {
        let base = base_url(url, "the broker's URL")?;
        Ok(Self::new(environment, Transport::HttpApi(base, OnceCell::new())))
    }

    /// Takes Region, credentials and endpoint from these settings instead of those of the process.
    #[cfg(feature = "aws")]
    #[must_use]
    pub fn with_aws(mut self, settings: SdkConfig) -> Self {
        self.given = Some(settings);
        self
    }

    fn new(environment: &Environment, transport: Transport) -> Self {
        Self {
            transport,
            http: HttpClient::new(SystemClock, environment.roots(), CONNECT_TIMEOUT),
            #[cfg(feature = "aws")]
            environment: environment.clone(),
            #[cfg(feature = "aws")]
            given: None,
            #[cfg(feature = "aws")]
            name: environment.client_name(),
            #[cfg(feature = "aws")]
            is_nameless: AtomicBool::new(false),
        }
    }

    /// Carries a call under this client's name. If a broker refuses the field as unknown, the call is repeated without
    /// it, and so are later calls. The agent calls the broker under its own name.
    #[cfg(feature = "aws")]
    async fn carry_named(&self, call: &Call) -> Result<Reply, Error> {
        let is_nameless = matches!(self.transport, Transport::Agent(_)) || self.is_nameless.load(Relaxed);
        let name = self.name.as_ref().filter(|_| !is_nameless && call.client.is_none());
        let Some(name) = name else { return self.carry(call).await };
        match self.carry(&Call { client: Some(name.clone()), ..call.clone() }).await {
            Err(error) if is_too_old_for_names(&error) => {
                self.is_nameless.store(true, Relaxed);
                self.carry(call).await
            }
            result => result,
        }
    }

    #[cfg(not(feature = "aws"))]
    async fn carry_named(&self, call: &Call) -> Result<Reply, Error> {
        self.carry(call).await
    }

    #[cfg(feature = "aws")]
    async fn aws(&self, region: Option<&str>) -> Result<Aws, Error> {
        match &self.given {
            Some(settings) => Aws::given(settings.clone(), &self.http),
            None => Aws::load(&self.environment, &self.http, region).await,
        }
    }

    async fn carry(&self, call: &Call) -> Result<Reply, Error> {
        match &self.transport {
            Transport::Agent(agent) => self.send(&agent.target, agent.request(call)?.into_request()?).await,
            #[cfg(feature = "aws")]
            Transport::Invoke(function, ready) => {
                let ready = ready.get_or_try_init(async || {
                    let aws = self.aws(region_of_arn(function)).await?;
                    Ok(Invoke { lambda: aws.lambda()?, aws, function: function.clone() })
                });
                ready.await?.carry(call).await
            }
            #[cfg(feature = "aws")]
            Transport::HttpApi(base, ready) => {
                let ready = ready
                    .get_or_try_init(async || HttpApi::new(self.aws(region_of(base)).await?, base.clone()));
                let api = ready.await?;
                let sent = self.send(&api.base.target, api.request(call).await?).await;
                if !sent.as_ref().is_err_and(is_transient) {
                    return sent;
                }
                // As the SDK does for direct invocations.
                tokio::time::sleep(SystemClock.draw().jittered(PAUSE)).await;
                self.send(&api.base.target, api.request(call).await?).await
            }
        }
    }

    async fn send(&self, target: &Target, request: Request<Vec<u8>>) -> Result<Reply, Error> {
        let sent = self.http.send(target, request.map(full)).await;
        let (head, body) = sent.map_err(|error| Error::Unreachable(error.to_string()))?.into_parts();
        let body = collect(body, LONGEST_ANSWER).await;
        let body = body.map_err(|error| Error::Unreachable(format!("the answer ended early: {error}")))?;
        read(head.status, &head.headers, body)
    }
}

impl Broker for BrokerClient {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply, Error>> {
        Box::pin(self.carry_named(call))
    }
}

#[cfg(feature = "aws")]
fn is_too_old_for_names(error: &Error) -> bool {
    error.code() == ErrorCode::InvalidRequest
        && error.description().starts_with(&unknown_field(Field::Client))
}

/// Whether API Gateway or Lambda failed in a way that a retry may solve. Answers of the broker itself never count.
#[cfg(feature = "aws")]
fn is_transient(error: &Error) -> bool {
    match error {
        Error::Intercepted { status, .. } => [429, 500, 502, 503, 504].contains(status),
        Error::Unreachable(_) => true,
        _ => false,
    }
}

fn base_url(text: &str, what: &str) -> Result<BaseUrl, Error> {
    BaseUrl::parse(text).map_err(|error| Error::NotConfigured(format!("{what} is wrong: {error}")))
}
