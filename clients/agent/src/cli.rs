//! The command line.

use contract::{AccountName, Action};
use std::fmt;

/// The output of `--help`.
pub const HELP: &str = "\
Tokens from token-broker on localhost.

Usage: token-broker-agent COMMAND [--account NAME]

Commands:
  serve     answer on 127.0.0.1 until SIGTERM
  token     print a token answer
  status    print what the broker knows of one account, or of all
  refresh   replace the account's token pair
  revoke    revoke the account's token pair upstream
  unblock   let the broker try a rejected secret again

Without a command, inside Lambda, it is an extension.

Environment:
  TOKEN_BROKER_FUNCTION  name or ARN of the broker's function, to invoke directly, or
  TOKEN_BROKER_URL       base URL of the broker's HTTP API
  TOKEN_BROKER_PORT      port on 127.0.0.1 (2774)
  TOKEN_BROKER_TOKEN     guard token that callers have to send, or file://PATH
  TOKEN_BROKER_ACCOUNTS  accounts to keep fresh, comma-separated (default)
  CONVIRZA_API_URL       the only host of the proxy (https://platform-api.convirza.com)
";

/// A parsed command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Serve as a Lambda extension.
    Extension,
    /// Serve until a signal.
    Serve,
    /// Call the broker once and print its answer.
    Call(Action, Option<AccountName>),
    /// Print the help.
    Help,
    /// Print the version.
    Version,
}

/// Why the arguments make no command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}; try --help", self.0)
    }
}

impl Command {
    /// Parses the arguments, without the program's name.
    ///
    /// # Errors
    /// An unknown command or option, or a malformed account.
    pub fn parse(arguments: &[String], inside_lambda: bool) -> Result<Self, UsageError> {
        let mut arguments = arguments.iter().map(String::as_str);
        let command = match arguments.next() {
            None if inside_lambda => return Ok(Self::Extension),
            None => return Err(UsageError("a command is needed".to_owned())),
            Some("--help" | "-h" | "help") => return Ok(Self::Help),
            Some("--version" | "-V") => return Ok(Self::Version),
            Some(command) => command,
        };
        let account = account(&mut arguments)?;
        if let Some(extra) = arguments.next() {
            return Err(UsageError(format!("unexpected argument {extra}")));
        }
        if command == "serve" {
            return match account {
                None => Ok(Self::Serve),
                Some(_) => Err(UsageError("serve has TOKEN_BROKER_ACCOUNTS instead of --account".to_owned())),
            };
        }
        // The schedule's action is no caller's.
        let action = Action::parse(command).filter(|action| *action != Action::Maintain);
        let action = action.ok_or_else(|| UsageError(format!("unknown command {command}")))?;
        Ok(Self::Call(action, account))
    }
}

fn account<'a>(
    arguments: &mut (impl Iterator<Item = &'a str> + Clone),
) -> Result<Option<AccountName>, UsageError> {
    let mut ahead = arguments.clone();
    let value = match ahead.next() {
        Some("--account") => ahead.next(),
        Some(option) if option.starts_with("--account=") => option.strip_prefix("--account="),
        _ => return Ok(None),
    };
    *arguments = ahead;
    let name = value.and_then(AccountName::parse);
    name.map(Some).ok_or_else(|| UsageError(format!("--account needs {}", AccountName::RULE)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, UsageError> {
        let arguments: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        Command::parse(&arguments, false)
    }

    #[test]
    fn every_command_is_parsed() {
        let emea = AccountName::parse("emea");
        assert_eq!(parse("serve"), Ok(Command::Serve));
        assert_eq!(parse("token"), Ok(Command::Call(Action::Token, None)));
        assert_eq!(parse("status --account emea"), Ok(Command::Call(Action::Status, emea.clone())));
        assert_eq!(parse("unblock --account=emea"), Ok(Command::Call(Action::Unblock, emea)));
        assert_eq!(parse("--help"), Ok(Command::Help));
        for wrong in
            ["", "maintain", "token --account", "token --account EMEA", "token x", "serve --account emea"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn without_arguments_it_is_an_extension_inside_lambda_only() {
        assert_eq!(Command::parse(&[], true), Ok(Command::Extension));
        assert!(Command::parse(&[], false).is_err());
    }
}
