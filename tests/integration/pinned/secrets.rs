//! The requests to Secrets Manager, and how each response is read.

use super::aws::{Script, Service, error};
use protocol::{AccountName, Credentials, Login, Secret, SecretError, SecretVersion, ServiceRefusal};
use serde_json::{Value, json};
use token_broker::{outbound::SecretsManager, ports::Secrets};

async fn read(service: &Service) -> Result<Credentials, SecretError> {
    let secrets = SecretsManager::new(&service.sdk().await, "the/prefix-".to_owned(), crate::hosts::none());
    secrets.read(&AccountName::parse("default").expect("a name")).await
}

fn secret(fields: &Value) -> Script {
    let mut body = json!({"ARN": "arn", "Name": "the/prefix-default", "VersionId": "v7"});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    Script::Respond(200, body)
}

#[tokio::test]
async fn a_secret_is_read_by_its_prefixed_name() {
    let text = r#"{"email":"e","password":"p"}"#;
    let service = Service::start([secret(&json!({"SecretString": text}))]);
    let credentials = read(&service).await.expect("credentials");
    assert_eq!(credentials.version, SecretVersion("v7".to_owned()));
    let login = Login::Convirza { email: Secret::from("e"), password: Secret::from("p") };
    assert_eq!(credentials.login, login);
    let (target, body) = service.request();
    assert_eq!(target, "secretsmanager.GetSecretValue");
    assert_eq!(body, json!({"SecretId": "the/prefix-default"}));
}

#[tokio::test(start_paused = true)]
async fn only_a_secret_that_does_not_exist_is_missing() {
    for error_type in ["ResourceNotFoundException", "InvalidRequestException"] {
        let service = Service::start([error(400, error_type)]);
        assert_eq!(read(&service).await, Err(SecretError::Missing), "{error_type}");
        assert_eq!(service.requests().len(), 1, "{error_type}");
    }
    for code in [
        "AccessDeniedException",
        "DecryptionFailure",
        "InvalidParameterException",
        "UnrecognizedClientException",
    ] {
        let service = Service::start([error(400, code)]);
        let (service_name, operation) = ("Secrets Manager", "GetSecretValue");
        let refusal = ServiceRefusal { service: service_name, operation, code: code.to_owned() };
        assert_eq!(read(&service).await, Err(SecretError::Misconfigured(refusal)));
        assert_eq!(service.requests().len(), 1, "{code}");
    }
}

#[tokio::test]
async fn a_secret_that_is_not_the_documented_json_is_bad() {
    for (fields, says) in [
        (json!({"SecretBinary": "AAAA"}), "it is binary, but must be text"),
        (json!({}), "it has no value yet"),
        (json!({"SecretString": "tell-tale"}), "it must be a JSON object"),
        (json!({"SecretString": "{}"}), "`email` is missing"),
    ] {
        let service = Service::start([secret(&fields)]);
        assert_eq!(read(&service).await.map(|_| ()), Err(SecretError::Bad(says.to_owned())));
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_without_a_value_is_not_missing() {
    // The message of AWS.
    let message = "Secrets Manager can't find the specified secret value for staging label: AWSCURRENT";
    let body = json!({"__type": "ResourceNotFoundException", "Message": message});
    let service = Service::start([Script::Respond(400, body)]);
    assert_eq!(read(&service).await, Err(SecretError::Bad("it has no value yet".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn a_response_without_proof_is_unreachable() {
    const ID: (&str, &str) = ("x-amzn-requestid", "an id");
    const WHOLE: &str =
        r#"{"ARN":"arn","VersionId":"v7","SecretString":"{\"email\":\"e\",\"password\":\"p\"}"}"#;
    for script in [
        Script::Forge("", &[]),
        Script::Forge("", &[ID]),
        Script::Forge("{}", &[ID]),
        Script::Forge(WHOLE, &[]),
        Script::Forge(WHOLE, &[("x-amzn-requestid", "")]),
        Script::Forge(r#"{"VersionId":"v7","SecretString":"{}"}"#, &[ID]),
        Script::Forge(r#"{"ARN":"arn","SecretString":"{}"}"#, &[ID]),
        Script::Forge(r#"{"ARN":"arn","VersionId":"","SecretString":"{}"}"#, &[ID]),
        Script::ForgeError(r#"{"__type":"ResourceNotFoundException"}"#),
    ] {
        let service = Service::start(vec![script.clone(); 9]);
        assert_eq!(read(&service).await, Err(SecretError::Unreachable), "{script:?}");
    }
    assert!(read(&Service::start([Script::Forge(WHOLE, &[ID])])).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn transient_errors_are_tried_three_times() {
    for script in [
        error(400, "ThrottlingException"),
        error(500, "InternalServiceError"),
        error(503, "ServiceUnavailable"),
        Script::Reset,
    ] {
        let service = Service::start(vec![script.clone(); 9]);
        assert_eq!(read(&service).await, Err(SecretError::Unreachable), "{script:?}");
        assert_eq!(service.requests().len(), 3, "{script:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_takes_1500_ms_and_an_operation_four_seconds() {
    let service = Service::start([]);
    assert_eq!(read(&service).await, Err(SecretError::Unreachable));
    let elapsed = service.elapsed().as_millis();
    assert!((4000..4020).contains(&elapsed), "{elapsed}");
    let second = service.requests()[1].after.as_millis();
    // The SDK pauses for up to a second between attempts.
    assert!((1500..2520).contains(&second), "{second}");
}
