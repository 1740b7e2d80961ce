//! The requests to DynamoDB, and how each response is read.

use super::aws::{Received, Script, Service, checksum, error};
use protocol::{
    Account, AccountName, LimiterName, LoginLimiter, ServiceRefusal, StoreError, Version, WriteOutcome,
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use token_broker::{
    outbound::{SystemClock, Table},
    ports::Store,
};

const ATTEMPTS: usize = 3;

/// Errors that the SDK does not retry.
const FINAL: [(u16, &str); 7] = [
    (400, "AccessDeniedException"),
    (400, "UnrecognizedClientException"),
    (403, "KMSDisabledException"),
    (413, "ACodeOfTheFuture"),
    (400, "ResourceNotFoundException"),
    (400, "ValidationException"),
    (400, "ItemCollectionSizeLimitExceededException"),
];
/// Errors that may not affect another instance, or a later request.
const PASSING: [&str; 3] = ["ExpiredTokenException", "InvalidSignatureException", "ResourceInUseException"];
/// Errors that the SDK retries.
const TRANSIENT: [(u16, &str); 5] = [
    (400, "ProvisionedThroughputExceededException"),
    (400, "ThrottlingException"),
    (400, "RequestLimitExceeded"),
    (500, "InternalServerError"),
    (503, "ServiceUnavailable"),
];

async fn table(service: &Service) -> Table {
    Table::new(&service.sdk().await, "the-table".to_owned(), crate::hosts::none(), Arc::new(SystemClock))
}

fn name() -> AccountName {
    AccountName::parse("default").expect("a name")
}

fn respond(body: Value) -> Script {
    Script::Respond(200, body)
}

fn account(version: u64) -> Account {
    Account { version: Version(version), ..Account::default() }
}

async fn write(service: &Service, expected: u64) -> WriteOutcome {
    table(service).await.write_account(&name(), Version(expected), &account(expected + 1)).await
}

async fn read(service: &Service) -> Result<Account, StoreError> {
    table(service).await.read_account(&name()).await
}

mod requests {
    use super::*;

    #[tokio::test]
    async fn of_reads_are_strongly_consistent() {
        for (limiter, key) in [(false, "account#default"), (true, "login_limiter")] {
            // The second one is for the grant of an account without a pair.
            let service = Service::start([respond(json!({})), respond(json!({}))]);
            let table = table(&service).await;
            if limiter {
                let limiter = table.read_login_limiter(&LimiterName::default()).await;
                assert_eq!(limiter, Ok(LoginLimiter::default()));
            } else {
                assert_eq!(table.read_account(&name()).await, Ok(Account::default()));
            }
            let Received { target, body, .. } = service.requests().remove(0);
            assert_eq!(target, "DynamoDB_20120810.GetItem");
            let key = json!({"pk": {"S": key}});
            assert_eq!(body, json!({"TableName": "the-table", "Key": key, "ConsistentRead": true}));
        }
    }

    #[tokio::test]
    async fn of_a_list_scan_every_page_strongly_consistently() {
        let key = json!({"pk": {"S": "account#b"}});
        let page = |name: &str| json!([{"pk": {"S": name}, "version": {"N": "1"}}]);
        let service = Service::start([
            respond(json!({"Items": page("account#b"), "LastEvaluatedKey": key})),
            respond(json!({"Items": page("account#a")})),
        ]);
        let listed = table(&service).await.list_accounts().await.expect("a list");
        let names: Vec<_> = listed.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        let requests = service.requests();
        assert!(requests.iter().all(|request| request.target == "DynamoDB_20120810.Scan"), "{requests:?}");
        let bodies: Vec<_> = requests.into_iter().map(|request| request.body).collect();
        let first = json!({"TableName": "the-table", "ConsistentRead": true});
        let second = json!({"TableName": "the-table", "ConsistentRead": true, "ExclusiveStartKey": key});
        assert_eq!(bodies, [first, second]);
    }

    async fn written(expected: u64, limiter: bool) -> (Value, Value) {
        let service = Service::start([respond(json!({}))]);
        let outcome = if limiter {
            let next = LoginLimiter { version: Version(expected + 1), ..LoginLimiter::default() };
            table(&service).await.write_login_limiter(&LimiterName::default(), Version(expected), &next).await
        } else {
            write(&service, expected).await
        };
        assert_eq!(outcome, WriteOutcome::Applied);
        let (target, mut body) = service.request();
        assert_eq!(target, "DynamoDB_20120810.PutItem");
        let item = body.as_object_mut().and_then(|body| body.remove("Item")).expect("an item");
        (item, body)
    }

    #[tokio::test]
    async fn of_a_first_write_require_that_no_item_exists() {
        for (limiter, key) in [(false, "account#default"), (true, "login_limiter")] {
            let (item, rest) = written(0, limiter).await;
            assert_eq!((&item["pk"], &item["version"]), (&json!({"S": key}), &json!({"N": "1"})));
            let condition = "attribute_not_exists(pk)";
            assert_eq!(rest, json!({"TableName": "the-table", "ConditionExpression": condition}));
        }
    }

    #[tokio::test]
    async fn of_a_later_write_require_the_version_that_was_read() {
        for (limiter, key) in [(false, "account#default"), (true, "login_limiter")] {
            let (item, rest) = written(7, limiter).await;
            assert_eq!((&item["pk"], &item["version"]), (&json!({"S": key}), &json!({"N": "8"})));
            assert_eq!(
                rest,
                json!({
                    "TableName": "the-table",
                    "ConditionExpression": "#version = :expected",
                    "ExpressionAttributeNames": {"#version": "version"},
                    "ExpressionAttributeValues": {":expected": {"N": "7"}},
                })
            );
        }
    }
}

mod errors {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn of_a_condition_are_the_only_conflict() {
        for expected in [0, 7] {
            let service = Service::start([error(400, "ConditionalCheckFailedException")]);
            assert_eq!(write(&service, expected).await, WriteOutcome::Conflict);
            assert_eq!(service.requests().len(), 1, "a conflict is not tried again");
        }
        for (status, error_type) in FINAL {
            let service = Service::start([error(status, error_type)]);
            let refusal = WriteOutcome::Refused(refusal("PutItem", error_type));
            assert_eq!(write(&service, 7).await, refusal);
            assert_eq!(service.requests().len(), 1, "{error_type} is not tried again");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn that_are_transient_are_tried_three_times() {
        for script in TRANSIENT.map(|(status, text)| error(status, text)).into_iter().chain([Script::Reset]) {
            let service = Service::start(vec![script.clone(); 9]);
            assert_eq!(write(&service, 7).await, WriteOutcome::Unknown, "{script:?}");
            assert_eq!(service.requests().len(), ATTEMPTS, "{script:?}");
            let service = Service::start(vec![script.clone(); 9]);
            assert_eq!(read(&service).await, Err(StoreError::Unreachable), "{script:?}");
            assert_eq!(service.requests().len(), ATTEMPTS, "{script:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn that_no_retry_changes_are_refusals_of_the_broker() {
        for (status, error_type) in FINAL {
            let service = Service::start(vec![error(status, error_type); 3]);
            let refused = |operation| Err(StoreError::Misconfigured(refusal(operation, error_type)));
            assert_eq!(read(&service).await.map(|_| ()), refused("GetItem"));
            let table = table(&service).await;
            let limiter = table.read_login_limiter(&LimiterName::default()).await;
            assert_eq!(limiter.map(|_| ()), refused("GetItem"));
            assert_eq!(table.list_accounts().await.map(|_| ()), refused("Scan"));
            assert_eq!(service.requests().len(), 3, "{error_type} is not tried again");
        }
    }

    fn refusal(operation: &'static str, code: &str) -> ServiceRefusal {
        ServiceRefusal { service: "DynamoDB", operation, code: code.to_owned() }
    }

    #[tokio::test(start_paused = true)]
    async fn of_clocks_and_transient_states_are_unreachable() {
        for error_type in PASSING {
            let service = Service::start(vec![error(400, error_type); 9]);
            assert_eq!(read(&service).await, Err(StoreError::Unreachable), "{error_type}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn that_are_transient_give_way_to_the_retrys_outcome() {
        let failed = || error(500, "InternalServerError");
        let service = Service::start([failed(), failed(), respond(json!({}))]);
        assert_eq!(write(&service, 7).await, WriteOutcome::Applied);
        let service = Service::start([failed(), error(400, "ConditionalCheckFailedException")]);
        assert_eq!(write(&service, 7).await, WriteOutcome::Conflict, "the protocol reads the record back");
    }
}

mod proof {
    use super::*;

    /// Responses that DynamoDB did not write, or not in this form.
    fn strangers() -> [Script; 6] {
        [
            Script::Forge("", &[]),
            Script::Forge("", &[("x-amz-crc32", "0")]),
            Script::Forge("{}", &[("x-amzn-requestid", "an id")]),
            Script::Forge("{}", &[("x-amz-crc32", "1")]),
            Script::Forge("{}", &[("x-amz-crc32", "soon")]),
            Script::Forge("<html>", &[("content-type", "text/html")]),
        ]
    }

    #[tokio::test(start_paused = true)]
    async fn is_a_checksum_of_the_body() {
        assert_eq!(checksum("{}"), "2745614147", "as DynamoDB states it");
        for script in strangers() {
            let service = Service::start(vec![script.clone(); 9]);
            assert_eq!(read(&service).await, Err(StoreError::Unreachable), "{script:?}");
            assert_eq!(service.requests().len(), ATTEMPTS, "{script:?}");
            let service = Service::start(vec![script.clone(); 9]);
            assert_eq!(write(&service, 7).await, WriteOutcome::Unknown, "{script:?}");
            let service = Service::start(vec![script.clone(); 9]);
            let listed = table(&service).await.list_accounts().await.map(|_| ());
            assert_eq!(listed, Err(StoreError::Unreachable), "{script:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_conflict_is_needed_too() {
        let refusal = r#"{"__type":"com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException"}"#;
        let service = Service::start(vec![Script::ForgeError(refusal); 9]);
        assert_eq!(write(&service, 7).await, WriteOutcome::Unknown);
    }

    #[tokio::test(start_paused = true)]
    async fn that_is_missing_once_is_followed_by_the_retry() {
        for script in strangers() {
            let service = Service::start([script, respond(json!({})), respond(json!({}))]);
            assert_eq!(read(&service).await, Ok(Account::default()));
        }
    }
}

mod times {
    use super::*;

    fn about(elapsed: Duration, least_ms: u128, most_ms: u128) {
        assert!((least_ms..=most_ms + 20).contains(&elapsed.as_millis()), "{elapsed:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_takes_one_second_and_an_operation_2500_ms() {
        for write_it in [false, true] {
            let service = Service::start([]);
            if write_it {
                assert_eq!(write(&service, 7).await, WriteOutcome::Unknown);
            } else {
                assert_eq!(read(&service).await, Err(StoreError::Unreachable));
            }
            about(service.elapsed(), 2500, 2500);
            let after: Vec<_> = service.requests().iter().map(|request| request.after).collect();
            assert_eq!(after.len(), ATTEMPTS, "{after:?}");
            about(after[0], 0, 0);
            about(after[1], 1000, 1050);
            about(after[2], 2000, 2150);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_back_off_begins_at_50_ms() {
        // The SDK draws each pause, so one operation proves little.
        for _ in 0..20 {
            let service = Service::start(vec![error(500, "InternalServerError"); ATTEMPTS]);
            assert_eq!(write(&service, 7).await, WriteOutcome::Unknown);
            about(service.elapsed(), 0, 150);
        }
    }
}
