//! Carries calls to the broker over the network.

use crate::{
    BoxFuture, Broker, Call, Clock, Environment, Error, Reply, SystemClock,
    aws::{self, Credentials},
    http::{BaseUrl, HttpClient, collect, full},
    transports::{Agent, HttpApi, Invoke, Outgoing, Transport, endpoint_of, names_its_region, region_of_arn},
};
use http::Request;
use std::{fmt, time::Duration};
use tokio::sync::OnceCell;

/// The longest answer that is read: `status` of a thousand accounts.
const LONGEST_ANSWER: usize = 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Where the agent listens unless told otherwise.
const AGENT_PORT: &str = "2774";

/// The broker, by one of three transports.
pub struct BrokerClient {
    transport: PlannedTransport,
    ready: OnceCell<Transport>,
    http: HttpClient,
    credentials: Option<Credentials>,
    environment: Environment,
}

/// A transport whose Region may have to be asked for.
enum PlannedTransport {
    Agent { base: BaseUrl },
    Invoke { function: String },
    HttpApi { base: BaseUrl },
}

impl fmt::Debug for BrokerClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("BrokerClient")
    }
}

impl BrokerClient {
    /// The agent on localhost, at `TOKEN_BROKER_PORT`. Its guard token is `TOKEN_BROKER_TOKEN` (or the file that it
    /// names as `file://PATH`), `AWS_SESSION_TOKEN` or `AWS_CONTAINER_AUTHORIZATION_TOKEN`. The file is read for each
    /// call, since a rotation replaces it.
    ///
    /// # Errors
    /// There is no guard token, or the port is malformed.
    pub fn agent(environment: &Environment) -> Result<Self, Error> {
        let port = environment.get("TOKEN_BROKER_PORT").unwrap_or(AGENT_PORT);
        if !port.parse().is_ok_and(|port: u16| port > 0) {
            return Err(Error::NotConfigured("TOKEN_BROKER_PORT has to be a port number".to_owned()));
        }
        let base = base_url(&format!("http://127.0.0.1:{port}"), "TOKEN_BROKER_PORT")?;
        Agent::guard(environment)?;
        Ok(Self::new(environment, PlannedTransport::Agent { base }))
    }

    /// Direct invoke of the broker's function, by its name or ARN, with the alias where there is one.
    pub fn invoke(environment: &Environment, function: &str) -> Self {
        Self::new(environment, PlannedTransport::Invoke { function: function.to_owned() })
    }

    /// The broker's HTTP API, by its base URL.
    ///
    /// # Errors
    /// The URL is malformed, or neither https nor local.
    pub fn http_api(environment: &Environment, url: &str) -> Result<Self, Error> {
        Ok(Self::new(environment, PlannedTransport::HttpApi { base: base_url(url, "the broker's URL")? }))
    }

    fn new(environment: &Environment, transport: PlannedTransport) -> Self {
        let http = HttpClient::new(SystemClock, environment.roots(), CONNECT_TIMEOUT);
        let is_signed = !matches!(transport, PlannedTransport::Agent { .. });
        let credentials = is_signed.then(|| Credentials::new(environment, http.clone()));
        Self { transport, ready: OnceCell::new(), http, credentials, environment: environment.clone() }
    }

    async fn plan(&self) -> Result<Transport, Error> {
        Ok(match &self.transport {
            PlannedTransport::Agent { base } => {
                Transport::Agent(Agent { target: base.target.clone(), environment: self.environment.clone() })
            }
            PlannedTransport::Invoke { function } => {
                let region = match region_of_arn(function) {
                    Some(region) => region.to_owned(),
                    None => self.region().await?,
                };
                let configured = self.environment.first(&["AWS_ENDPOINT_URL_LAMBDA", "AWS_ENDPOINT_URL"]);
                let url = configured.map_or_else(|| endpoint_of(&region), str::to_owned);
                let endpoint = base_url(&url, "Lambda's endpoint")?;
                Transport::Invoke(Invoke { endpoint, region, function: function.clone() })
            }
            PlannedTransport::HttpApi { base } => {
                let region = if names_its_region(base) { String::new() } else { self.region().await? };
                Transport::HttpApi(HttpApi::new(base.clone(), &region))
            }
        })
    }

    async fn region(&self) -> Result<String, Error> {
        if let Some(region) = aws::planned_region(&self.environment) {
            return Ok(region);
        }
        let requested = aws::instance_region(&self.http, &self.environment).await;
        requested.ok_or_else(|| Error::Unsigned("there is no Region; set AWS_REGION".to_owned()))
    }

    async fn carry(&self, call: &Call) -> Result<Reply, Error> {
        let transport = self.ready.get_or_try_init(|| self.plan()).await?;
        let request = self.prepare(transport, transport.request(call)?).await?;
        let (parts, body) = request.into_parts();
        let response = self.http.send(transport.target(), Request::from_parts(parts, full(body))).await;
        let response = response.map_err(|error| Error::Unreachable(error.to_string()))?;
        let (head, body) = response.into_parts();
        let body = collect(body, LONGEST_ANSWER).await;
        let body = body.map_err(|error| Error::Unreachable(format!("the answer broke off: {error}")))?;
        transport.read(head.status, &head.headers, body)
    }

    async fn prepare(&self, transport: &Transport, outgoing: Outgoing) -> Result<Request<Vec<u8>>, Error> {
        let malformed = |_| Error::InvalidCall("the call does not fit into a request".to_owned());
        let mut request = Request::new(outgoing.body);
        *request.method_mut() = outgoing.method;
        *request.uri_mut() = outgoing.path_and_query.parse().map_err(malformed)?;
        request.headers_mut().extend(outgoing.headers);
        if let (Some(credentials), Some(scope)) = (&self.credentials, transport.signing()) {
            let now = SystemClock.now();
            let keys = credentials.keys(scope.1, now).await.map_err(Error::Unsigned)?;
            let url = format!("{}{}", transport.target(), outgoing.path_and_query);
            aws::sign(&mut request, &url, &keys, scope, now).map_err(Error::Unsigned)?;
        }
        Ok(request)
    }
}

impl Broker for BrokerClient {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply, Error>> {
        Box::pin(self.carry(call))
    }
}

fn base_url(text: &str, what: &str) -> Result<BaseUrl, Error> {
    BaseUrl::parse(text).map_err(|error| Error::NotConfigured(format!("{what} is wrong: {error}")))
}
