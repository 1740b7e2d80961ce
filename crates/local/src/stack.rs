//! The local stack: a world, the broker behind its front, the agent and the console.

use crate::{
    agent::{self, LocalAgent},
    clock::WorldClock,
    console::{CALLERS, Console},
    front::{self, Function, HTTP_ALIAS, LOCAL_IDENTITY, SCHEDULE_ALIAS},
    wiring,
};
use emulators::{
    Ports, StartError, World,
    convirza::{DEFAULT_EMAIL, DEFAULT_PASSWORD, Route, Settings},
    server::{Listen, Server},
    v2_secret,
};
use serde_json::json;
use std::{error::Error, iter, net::IpAddr, sync::Arc};
use token_broker::{
    config::Config,
    inbound::Handler,
    ports,
    telemetry::{InvocationLog, Style},
};
use token_broker_client::TokenSource;

/// An account of the deprecated V2.
pub const V2_ACCOUNT: &str = "legacy";
/// The account of `events/direct-token-with-options.json`.
pub const SECOND_ACCOUNT: &str = "emea";

/// How a stack starts. By default it has free ports of loopback, except the agent's usual port.
#[derive(Default)]
pub struct Options {
    /// The port of the broker and the console; the emulators take the next three. 0: any free ones.
    pub port: u16,
    /// Another address of this machine at which everything can be reached.
    pub bind: Option<IpAddr>,
    /// The text of `TOKEN_BROKER_PORT`, the agent's port.
    pub agent_port: Option<String>,
    /// Convirza's limits.
    pub convirza: Settings,
    /// The broker's settings: names and values of variables.
    pub broker: Vec<(String, String)>,
    /// Further accounts.
    pub accounts: Vec<NewAccount>,
    /// Further users of Convirza, each an email and a password.
    pub users: Vec<(String, String)>,
    /// Answers of the emulated API.
    pub routes: Vec<Route>,
}

/// An account with its user at Convirza.
#[derive(Clone, Debug)]
pub struct NewAccount {
    /// The account's name.
    pub name: String,
    /// The user's email.
    pub email: String,
    /// The user's password.
    pub password: String,
}

/// A running stack. It stops when it is dropped.
pub struct Stack {
    /// The emulated services.
    pub world: Arc<World>,
    /// The broker's front, which serves the console too.
    pub broker: Server,
    /// The agent.
    pub agent: LocalAgent,
    _resets: Arc<Resets>,
}

impl Stack {
    /// Starts a stack. `print` gets a line for each invocation of the broker.
    pub async fn start(
        options: Options,
        print: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Self, Box<dyn Error>> {
        let port = |offset| {
            if options.port == 0 { Some(0) } else { options.port.checked_add(offset) }
        };
        let listen = |offset| {
            let port = port(offset).ok_or("--port is too high")?;
            Ok::<_, &str>(Listen { port, also: options.bind })
        };
        let ports = Ports { convirza: listen(1)?, dynamodb: listen(2)?, secrets_manager: listen(3)? };
        let world = Arc::new(World::start(ports, options.convirza).await?);
        world.put_secret(V2_ACCOUNT, &v2_secret(&world, DEFAULT_EMAIL, DEFAULT_PASSWORD)).await?;
        world.add_account(SECOND_ACCOUNT, "emea@example.invalid", "local-emea").await?;
        for account in &options.accounts {
            world.add_account(&account.name, &account.email, &account.password).await?;
        }
        for (email, password) in &options.users {
            world.convirza.set_password(email, password);
        }
        world.convirza.set_routes(options.routes);
        world.mark_start();

        let config = wiring::config(&world, &settings(&options.broker))?;
        let clock = WorldClock::of(&world);
        let ports = wiring::ports(&world, &config, Arc::new(clock.clone()))?;
        let instances = Instances { config, ports, print: Arc::new(print) };
        let console = Console::new(&world, &instances.config, instances.callers())?;
        let function = Arc::new(Function::new(instances.function(), clock));
        let broker = front::start_with(listen(0)?, Arc::clone(&function), console.routes()).await?;
        let port = options.agent_port.as_deref();
        let agent = agent::start(&world, &broker.url(), port, options.bind).await?;

        let tokens = agent.tokens().clone();
        let resets = Arc::new(Resets { world: Arc::clone(&world), instances, function, console, tokens });
        // Weak, because Convirza is among the reset services.
        let weak = Arc::downgrade(&resets);
        world.convirza.on_reset(Box::new(move || {
            let resets = weak.upgrade();
            Box::pin(async move {
                match resets {
                    Some(resets) => resets.reset().await,
                    None => Ok(()),
                }
            })
        }));
        Ok(Self { world, broker, agent, _resets: resets })
    }
}

/// Everything that a reset restarts.
struct Resets {
    world: Arc<World>,
    instances: Instances,
    function: Arc<Function>,
    console: Arc<Console>,
    tokens: TokenSource,
}

impl Resets {
    /// The caches come last, so that they cannot be filled with outdated values.
    async fn reset(&self) -> Result<(), StartError> {
        self.world.reset().await?;
        self.function.replace(self.instances.function());
        self.console.reset(self.instances.callers());
        self.tokens.clear();
        Ok(())
    }
}

/// Makes instances of the broker, each with an empty cache.
struct Instances {
    config: Config,
    ports: ports::Ports,
    print: Arc<dyn Fn(&str) + Send + Sync>,
}

impl Instances {
    fn fresh(&self) -> Handler {
        wiring::handler(&self.config, self.ports.clone())
    }

    /// The instance of the front. It logs, and the aliases decide the way in.
    fn function(&self) -> Handler {
        let (config, print) = (&self.config, Arc::clone(&self.print));
        let log =
            InvocationLog::new(&config.function, config.audit, Style::Readable, move |line| print(line));
        self.fresh().behind(config.aliases.clone()).logging_to(log)
    }

    /// The instances of the console.
    fn callers(&self) -> impl Iterator<Item = Handler> {
        iter::repeat_with(|| self.fresh()).take(CALLERS)
    }
}

/// The settings of the broker: the template's rules and aliases, except that the local identity, which all HTTP
/// requests have, may do everything.
fn settings(further: &[(String, String)]) -> Vec<(&str, String)> {
    let rules = json!([
        {"caller": "direct:live", "accounts": ["*"], "actions": ["token", "status"]},
        {"caller": "direct:operator", "accounts": ["*"], "actions": ["*"]},
        {"caller": "direct:schedule", "accounts": ["*"], "actions": ["status"]},
        {"caller": LOCAL_IDENTITY, "accounts": ["*"], "actions": ["*"]},
    ]);
    let own = [
        ("BROKER_CALLERS", rules.to_string()),
        ("BROKER_HTTP_ALIAS", HTTP_ALIAS.to_owned()),
        ("BROKER_SCHEDULE_ALIAS", SCHEDULE_ALIAS.to_owned()),
    ];
    further.iter().map(|(name, value)| (name.as_str(), value.clone())).chain(own).collect()
}
