//! The command line.

use clap::{Args, CommandFactory, Parser, Subcommand, error::ErrorKind};
use contract::{AccountName, Action, Call, Generation};
use std::{ffi::OsString, time::Duration};

const ENVIRONMENT: &str = "\
Environment:
  TOKEN_BROKER_FUNCTION  name or ARN of the broker's function, to invoke directly, or
  TOKEN_BROKER_URL       base URL of the broker's HTTP API
  TOKEN_BROKER_PORT      port on 127.0.0.1 (2774)
  TOKEN_BROKER_TOKEN     guard token that callers have to send, or file://PATH
  TOKEN_BROKER_CLIENT    name that the broker logs (AWS_LAMBDA_FUNCTION_NAME)
  TOKEN_BROKER_ACCOUNTS  accounts to keep fresh, comma-separated (default)
  CONVIRZA_API_URL       server that the proxy calls (https://platform-api.convirza.com)
  TOKEN_BROKER_API_URLS  servers for accounts of other providers: ACCOUNT=URL, comma-separated
Region and credentials are found as in every AWS SDK.";

/// Serves tokens of token-broker on localhost. Inside Lambda, without a command, it runs as an extension.
#[derive(Parser)]
#[command(name = "token-broker-agent", version, after_help = ENVIRONMENT)]
struct Line {
    #[command(subcommand)]
    command: Option<Command>,
}

/// What the program should do.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Serve as a Lambda extension.
    #[command(skip)]
    Extension,
    /// Answer on 127.0.0.1 until SIGTERM
    Serve,
    /// Print a token answer
    Token {
        /// The account and lifetime of the token.
        #[command(flatten)]
        wanted: Wanted,
        /// The API refused the token of this generation
        #[arg(long, value_name = "N")]
        rejected_generation: Option<u64>,
        /// Print only the token
        #[arg(long)]
        raw: bool,
    },
    /// Print what the broker knows about one account, or about all
    Status(Account),
    /// Replace the account's token pair
    Refresh(Account),
    /// Revoke the account's token pair upstream
    Revoke {
        /// The account.
        #[command(flatten)]
        account: Account,
        /// Revoke even a pair that only a person can replace
        #[arg(long)]
        confirm: bool,
    },
    /// Let the broker try a rejected secret again
    Unblock(Account),
    /// Run a command with a token in its environment
    Exec {
        /// The account and lifetime of the token.
        #[command(flatten)]
        wanted: Wanted,
        /// The variable that holds the token
        #[arg(long, value_name = "NAME", default_value = "ACCESS_TOKEN", value_parser = variable)]
        env: String,
        /// The command and its arguments
        #[arg(last = true, required = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// Ask the agent on this machine whether it is alive: exit code 0 or 1
    Health {
        /// Ask whether it has a token for each of its accounts
        #[arg(long)]
        ready: bool,
    },
}

/// The account of a command.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The account [default: default; all for status]
    #[arg(long, value_name = "NAME", value_parser = account)]
    pub account: Option<AccountName>,
}

/// The token that a command needs.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The account.
    #[command(flatten)]
    pub account: Account,
    /// How long the token must be valid, in seconds [default: 60]
    #[arg(long, value_name = "S")]
    pub min_ttl: Option<u64>,
}

impl Wanted {
    /// The broker's call for the token.
    pub(crate) fn call(self, rejected: Option<u64>) -> Call {
        Call {
            min_ttl: self.min_ttl.map(Duration::from_secs),
            rejected: rejected.map(Generation),
            ..Call::new(Action::Token, self.account.account)
        }
    }
}

fn account(name: &str) -> Result<AccountName, String> {
    AccountName::parse(name).ok_or_else(|| format!("an account is {}", AccountName::RULE))
}

fn variable(name: &str) -> Result<String, &'static str> {
    let is_name = !name.is_empty() && !name.contains('=');
    is_name.then(|| name.to_owned()).ok_or("the name of a variable is not empty and has no `=`")
}

impl Command {
    /// Parses the arguments, the program's name first.
    ///
    /// # Errors
    /// A missing or malformed command. Requested help and version are errors too.
    pub fn parse(
        arguments: impl IntoIterator<Item = OsString>,
        inside_lambda: bool,
    ) -> Result<Self, clap::Error> {
        match Line::try_parse_from(arguments)?.command {
            Some(command) => Ok(command),
            None if inside_lambda => Ok(Self::Extension),
            None => {
                Err(Line::command().error(ErrorKind::MissingSubcommand, "a command is needed; try --help"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, String> {
        let arguments = ["token-broker-agent"].into_iter().chain(line.split_whitespace());
        Command::parse(arguments.map(OsString::from), false).map_err(|error| error.to_string())
    }

    fn emea() -> Account {
        Account { account: AccountName::parse("emea") }
    }

    #[test]
    fn every_command_is_parsed() {
        assert_eq!(parse("serve"), Ok(Command::Serve));
        let wanted = Wanted::default();
        assert_eq!(
            parse("token"),
            Ok(Command::Token { wanted: wanted.clone(), rejected_generation: None, raw: false })
        );
        let wanted = Wanted { account: emea(), min_ttl: Some(90) };
        let token = Command::Token { wanted, rejected_generation: Some(7), raw: true };
        assert_eq!(parse("token --raw --min-ttl 90 --rejected-generation=7 --account emea"), Ok(token));
        assert_eq!(parse("status --account=emea"), Ok(Command::Status(emea())));
        assert_eq!(parse("refresh"), Ok(Command::Refresh(Account::default())));
        assert_eq!(
            parse("revoke --account emea --confirm"),
            Ok(Command::Revoke { account: emea(), confirm: true })
        );
        assert_eq!(parse("unblock --account emea"), Ok(Command::Unblock(emea())));
        assert_eq!(parse("health"), Ok(Command::Health { ready: false }));
        let exec = Command::Exec {
            wanted: Wanted::default(),
            env: "TOKEN".to_owned(),
            command: ["curl", "--raw"].map(OsString::from).to_vec(),
        };
        assert_eq!(parse("exec --env TOKEN -- curl --raw"), Ok(exec));
    }

    #[test]
    fn the_help_names_the_default_port() {
        assert!(ENVIRONMENT.contains(&format!("127.0.0.1 ({})", contract::agent::PORT)));
    }

    #[test]
    fn a_malformed_line_is_refused() {
        for wrong in [
            "",
            "tokens",
            "maintain",
            "extension",
            "token --account",
            "token --account EMEA",
            "token x",
            "token --min-ttl soon",
            "serve --account emea",
            "status --raw",
            "exec",
            "exec curl",
            "exec --env= -- curl",
            "exec --env A=B -- curl",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_command_has_its_help() {
        for command in ["", "serve", "token", "status", "refresh", "revoke", "unblock", "exec", "health"] {
            let help = parse(&format!("{command} --help")).unwrap_err();
            assert!(help.contains("Usage: token-broker-agent"), "{command}: {help}");
        }
        assert!(parse("--help").unwrap_err().contains("TOKEN_BROKER_API_URLS"));
        assert!(parse("token --help").unwrap_err().contains("--rejected-generation"));
    }

    #[test]
    fn without_arguments_it_is_an_extension_inside_lambda_only() {
        let arguments = || [OsString::from("token-broker-agent")];
        assert_eq!(Command::parse(arguments(), true).unwrap(), Command::Extension);
        assert!(Command::parse(arguments(), false).is_err());
    }
}
