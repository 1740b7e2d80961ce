//! The table: strongly consistent reads, and conditional writes only.

use super::item::{self, Item};
use crate::{
    outbound::{UpstreamHosts, aws_http, sdk},
    ports::{Clock, Listed, Store},
};
use async_trait::async_trait;
use aws_sdk_dynamodb::{
    Client,
    config::{retry::RetryConfig, timeout::TimeoutConfig},
    error::{ProvideErrorMetadata, SdkError},
    operation::put_item::PutItemError,
    types::AttributeValue,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use protocol::{
    Account, AccountName, LimiterName, LoginLimiter, Read, STORE_TIMEOUT, StoreError, Version, WriteOutcome,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// DynamoDB answers within milliseconds. After this long, the answer counts as lost.
const ATTEMPT: Duration = Duration::from_millis(1000);
const ATTEMPTS: u32 = 3;

/// The DynamoDB table of all records.
pub struct Table {
    client: Client,
    name: String,
    hosts: UpstreamHosts,
}

impl Table {
    /// The table `name`. Its items may name only these hosts, and its responses correct the clock. The SDK's settings
    /// apply, except for timeouts and retries.
    pub fn new(
        sdk: &aws_config::SdkConfig,
        name: String,
        hosts: UpstreamHosts,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let timeouts = TimeoutConfig::builder()
            .operation_attempt_timeout(ATTEMPT)
            .operation_timeout(STORE_TIMEOUT)
            .build();
        let retries = RetryConfig::standard()
            .with_max_attempts(ATTEMPTS)
            .with_initial_backoff(Duration::from_millis(50));
        let mut config =
            aws_sdk_dynamodb::config::Builder::from(sdk).timeout_config(timeouts).retry_config(retries);
        config.set_http_client(
            sdk.http_client().map(|client| aws_http::proven(client, has_checksum, Some(clock))),
        );
        Self { client: Client::from_conf(config.build()), name, hosts }
    }

    /// An item as an account's record.
    fn account(&self, key: &str, item: &Item) -> Read<Account> {
        let account = item::to_account(item).map_err(|error| unreadable(key, &error.to_string()))?;
        if self.hosts.allow_all_of(&account) {
            Ok(account)
        } else {
            let what = "attribute `origin` names a host that is neither in the settings nor in BROKER_UPSTREAM_HOSTS";
            Err(unreadable(key, what))
        }
    }

    async fn get(&self, key: String) -> Result<Option<Item>, StoreError> {
        let request = self.client.get_item().table_name(&self.name).consistent_read(true);
        match request.key("pk", AttributeValue::S(key)).send().await {
            Ok(output) => Ok(output.item),
            Err(error) => Err(failed("GetItem", &error)),
        }
    }

    async fn put(&self, item: Item, expected: Version) -> WriteOutcome {
        let request = self.client.put_item().table_name(&self.name).set_item(Some(item));
        let request = if expected == Version(0) {
            request.condition_expression("attribute_not_exists(pk)")
        } else {
            request
                .condition_expression("#version = :expected")
                .expression_attribute_names("#version", "version")
                .expression_attribute_values(":expected", AttributeValue::N(expected.0.to_string()))
        };
        match request.send().await {
            Ok(_) => WriteOutcome::Applied,
            Err(error)
                if matches!(
                    error.as_service_error(),
                    Some(PutItemError::ConditionalCheckFailedException(_))
                ) =>
            {
                WriteOutcome::Conflict
            }
            Err(error) => match failed("PutItem", &error) {
                StoreError::Misconfigured(refusal) => WriteOutcome::Refused(refusal),
                _ => WriteOutcome::Unknown,
            },
        }
    }
}

#[async_trait]
impl Store for Table {
    async fn read_account(&self, name: &AccountName) -> Result<Account, StoreError> {
        let key = item::account_key(name);
        let account = match self.get(key.clone()).await? {
            Some(item) => self.account(&key, &item),
            None => Ok(Account::default()),
        };
        if takes_precedence(&account) {
            return account;
        }
        let key = item::grant_key(name);
        match self.get(key.clone()).await? {
            Some(item) => self.account(&key, &item),
            None => account,
        }
    }

    async fn write_account(&self, name: &AccountName, expected: Version, next: &Account) -> WriteOutcome {
        self.put(item::from_account(name, next), expected).await
    }

    async fn read_login_limiter(&self, name: &LimiterName) -> Result<LoginLimiter, StoreError> {
        let key = item::limiter_key(name);
        match self.get(key.clone()).await? {
            Some(item) => item::to_login_limiter(&item).map_err(|error| {
                // Deleting the limiter forgets permits that still count.
                let what = format!("{error}; wait five minutes before you delete it");
                unreadable(&key, &what)
            }),
            None => Ok(LoginLimiter::default()),
        }
    }

    async fn write_login_limiter(
        &self,
        name: &LimiterName,
        expected: Version,
        next: &LoginLimiter,
    ) -> WriteOutcome {
        self.put(item::from_login_limiter(name, next), expected).await
    }

    async fn list_accounts(&self) -> Result<Vec<Listed>, StoreError> {
        let request = self.client.scan().table_name(&self.name).consistent_read(true);
        let mut pages = request.into_paginator().items().send();
        let mut accounts = BTreeMap::new();
        while let Some(item) = pages.next().await {
            let item = item.map_err(|error| failed("Scan", &error))?;
            if let Some(name) = item::account_of(&item) {
                let is_grant = item::is_grant(&item);
                let key = if is_grant { item::grant_key(&name) } else { item::account_key(&name) };
                let record = self.account(&key, &item);
                // If a name has two items, the one that a read returns is kept.
                let replaces = |known: &Read<Account>| {
                    if is_grant { !takes_precedence(known) } else { takes_precedence(&record) }
                };
                if accounts.get(&name).is_none_or(replaces) {
                    accounts.insert(name, record);
                }
            }
        }
        Ok(accounts.into_iter().collect())
    }
}

/// Whether the item of an account takes precedence over that of a grant with the same name. Without a pair, the account
/// may be a grant that only a person can renew.
fn takes_precedence(of_account: &Read<Account>) -> bool {
    !matches!(of_account, Ok(account) if account.pair.is_none())
}

/// DynamoDB never responds with an empty body, whose checksum would be zero.
fn has_checksum(response: &HttpResponse) -> bool {
    let stated = response.headers().get("x-amz-crc32").and_then(|text| text.parse().ok());
    response.body().bytes().is_some_and(|body| !body.is_empty() && stated == Some(crc32fast::hash(body)))
}

fn unreadable(key: &str, what: &str) -> StoreError {
    StoreError::Unreadable(format!("item `{key}`: {what}"))
}

fn failed<E: ProvideErrorMetadata>(operation: &'static str, error: &SdkError<E, HttpResponse>) -> StoreError {
    tracing::warn!(operation, code = sdk::failure_code(error), "DynamoDB failed");
    sdk::refusal("DynamoDB", operation, error).map_or(StoreError::Unreachable, StoreError::Misconfigured)
}
