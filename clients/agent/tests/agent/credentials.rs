//! Where credentials and Region come from. The command line, since the AWS SDK reads the process's environment.

use crate::support::program;
use emulators::fakes::{Broker, Server, respond};
use serde_json::Value;
use std::{path::PathBuf, process::Output, time::Duration};
use tokio::time::Instant;

const FAR: &str = "2999-01-01T00:00:00Z";

fn keys(id: &str) -> String {
    format!(
        r#"{{"Code":"Success","AccessKeyId":"{id}","SecretAccessKey":"s","Token":"t-{id}","Expiration":"{FAR}"}}"#
    )
}

/// A folder for this test, with these files in `.aws`.
fn folder(name: &str, files: &[(&str, &str)]) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(folder.join(".aws")).unwrap();
    for (name, content) in files {
        std::fs::write(folder.join(".aws").join(name), content).unwrap();
    }
    folder
}

async fn run(broker: &Broker, variables: &[(&str, String)]) -> Output {
    let mut command = program();
    command.arg("token").env("TOKEN_BROKER_FUNCTION", "token-broker:live");
    command.env("AWS_ENDPOINT_URL_LAMBDA", broker.url());
    command.envs(variables.iter().map(|(name, value)| (name, value))).output().await.unwrap()
}

/// The credential scope and the session token of the one call.
async fn signed_with(variables: &[(&str, String)]) -> (String, Option<String>) {
    let broker = Broker::start().await;
    let output = run(&broker, variables).await;
    assert!(output.status.success(), "{output:?}");
    let headers = broker.calls().pop().unwrap().0;
    let authorization = headers["authorization"].to_str().unwrap();
    let scope = authorization.split(['=', ',']).nth(1).unwrap().to_owned();
    (scope, headers.get("x-amz-security-token").map(|token| token.to_str().unwrap().to_owned()))
}

/// The error of a command that does not reach the broker.
async fn refused(variables: &[(&str, String)]) -> String {
    let broker = Broker::start().await;
    let output = run(&broker, variables).await;
    assert_eq!((output.status.code(), broker.called().get()), (Some(1), 0), "{output:?}");
    let line: Value = serde_json::from_slice(&output.stderr).unwrap();
    line["message"].as_str().unwrap().to_owned()
}

fn region() -> (&'static str, String) {
    ("AWS_REGION", "eu-west-1".to_owned())
}

/// A machine whose metadata service gives keys of its role, an identity that must never be a fallback.
async fn machine() -> Server {
    Server::script(async |request| {
        let session =
            request.headers().get("x-aws-ec2-metadata-token").map(|value| value == "metadata session");
        match (request.method().as_str(), request.uri().path(), session) {
            ("PUT", "/latest/api/token", None) => {
                let mut response = http::Response::new(emulators::fakes::Body::from("metadata session"));
                response.headers_mut().insert("x-aws-ec2-metadata-token-ttl-seconds", 300.into());
                emulators::fakes::Ending::Respond(response)
            }
            ("GET", "/latest/meta-data/placement/region", Some(true)) => respond(200, "ap-south-1"),
            ("GET", "/latest/meta-data/iam/security-credentials/", Some(true)) => respond(200, "role"),
            ("GET", "/latest/meta-data/iam/security-credentials/role", Some(true)) => {
                respond(200, keys("INSTANCE"))
            }
            _ => respond(401, ""),
        }
    })
    .await
}

#[tokio::test]
async fn a_container_gives_keys_to_the_holder_of_its_token() {
    let container = Server::script(async |request| {
        assert_eq!(request.headers()["authorization"], "of the file");
        assert_eq!(request.uri().path(), "/v1/credentials");
        respond(200, keys("POD"))
    })
    .await;
    let home = folder("pod", &[("token", "of the file")]);
    let (scope, session) = signed_with(&[
        region(),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/v1/credentials", container.url())),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", home.join(".aws/token").display().to_string()),
    ])
    .await;
    assert!(scope.starts_with("POD/") && scope.ends_with("/eu-west-1/lambda/aws4_request"), "{scope}");
    assert_eq!(session.as_deref(), Some("t-POD"));
}

#[tokio::test]
async fn a_refusal_of_the_container_is_reported() {
    const REFUSAL: &str = "ResourceNotFoundException: No EKS Pod Identity Association found for pod";
    let container = Server::script(async |_| respond(404, REFUSAL)).await;
    let machine = machine().await;
    let error = refused(&[
        region(),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", container.url()),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", machine.url()),
    ])
    .await;
    assert!(error.contains("container") && error.contains(REFUSAL), "{error}");
}

#[tokio::test]
async fn an_instance_gives_keys_and_region_by_version_2() {
    let machine = machine().await;
    let (scope, _) = signed_with(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", machine.url())]).await;
    assert!(scope.starts_with("INSTANCE/") && scope.contains("/ap-south-1/"), "{scope}");
}

#[tokio::test]
async fn a_role_that_the_instance_may_not_assume_is_reported() {
    let machine = Server::script(async |request| match (request.method().as_str(), request.uri().path()) {
        ("PUT", _) => {
            let mut response = http::Response::new(emulators::fakes::Body::from("metadata session"));
            response.headers_mut().insert("x-aws-ec2-metadata-token-ttl-seconds", 300.into());
            emulators::fakes::Ending::Respond(response)
        }
        (_, "/latest/meta-data/iam/security-credentials/") => respond(200, "role"),
        _ => {
            respond(200, r#"{"Code":"AssumeRoleUnauthorizedAccess","Message":"EC2 cannot assume the role"}"#)
        }
    })
    .await;
    let error = refused(&[region(), ("AWS_EC2_METADATA_SERVICE_ENDPOINT", machine.url())]).await;
    assert!(error.contains("AssumeRoleUnauthorizedAccess"), "{error}");
}

#[tokio::test]
async fn a_metadata_service_that_hangs_is_named_soon() {
    let hanging = Server::script(async |request| {
        if request.method() == "PUT" {
            let mut response = http::Response::new(emulators::fakes::Body::from("metadata session"));
            response.headers_mut().insert("x-aws-ec2-metadata-token-ttl-seconds", 300.into());
            return emulators::fakes::Ending::Respond(response);
        }
        std::future::pending().await
    })
    .await;
    let began = Instant::now();
    let error = refused(&[region(), ("AWS_EC2_METADATA_SERVICE_ENDPOINT", hanging.url())]).await;
    assert!(error.contains("metadata service"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_web_identity_is_exchanged_for_keys() {
    let sts = Server::script(async |_| {
        respond(
            200,
            "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
             <AccessKeyId>WEB</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t-WEB</SessionToken>\
             <Expiration>2999-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>\
             </AssumeRoleWithWebIdentityResponse>",
        )
    })
    .await;
    let home = folder("web", &[("token", "a.b.c")]);
    let file = ("AWS_WEB_IDENTITY_TOKEN_FILE", home.join(".aws/token").display().to_string());
    let role = ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/x".to_owned());
    let variables = [region(), file.clone(), role, ("AWS_ENDPOINT_URL_STS", sts.url())];
    let (scope, session) = signed_with(&variables).await;
    assert!(scope.starts_with("WEB/"), "{scope}");
    assert_eq!(session.as_deref(), Some("t-WEB"));
    let machine = machine().await;
    let error = refused(&[region(), file, ("AWS_EC2_METADATA_SERVICE_ENDPOINT", machine.url())]).await;
    assert!(error.contains("AWS_ROLE_ARN"), "{error}");
}

#[tokio::test]
async fn a_profile_gives_keys_and_region() {
    let home = folder(
        "profile",
        &[
            ("credentials", "[dev]\naws_access_key_id = PROFILE\naws_secret_access_key = s\n[default]\n"),
            ("config", "[profile dev]\nregion = us-west-2\n"),
        ],
    );
    let home = ("HOME", home.display().to_string());
    for variable in ["AWS_PROFILE", "AWS_DEFAULT_PROFILE"] {
        let (scope, session) = signed_with(&[home.clone(), (variable, "dev".to_owned())]).await;
        assert!(scope.starts_with("PROFILE/") && scope.contains("/us-west-2/"), "{scope}");
        assert_eq!(session, None);
    }
}

#[tokio::test]
async fn a_profile_may_name_a_program_that_gives_keys() {
    let answer = r#"{"Version":1,"AccessKeyId":"PROCESS","SecretAccessKey":"s"}"#;
    let home = folder("process", &[("answer", answer)]);
    let config = format!("[default]\ncredential_process = /bin/cat {}\n", home.join(".aws/answer").display());
    let home = folder("process", &[("config", &config)]);
    let (scope, _) = signed_with(&[region(), ("HOME", home.display().to_string())]).await;
    assert!(scope.starts_with("PROCESS/"), "{scope}");
}

#[tokio::test]
async fn an_unusable_profile_is_never_replaced_by_another_identity() {
    let machine = machine().await;
    for (number, (profile, config, named)) in [
        (Some("prodd"), "[profile prod]\naws_access_key_id = A\naws_secret_access_key = s\n", "prodd"),
        (Some("prod"), "[profile prod]\nregion = eu-west-1\n", "prod"),
        (Some("prod"), "[profile prod]\nregion = eu-west-1\n  aws_access_key_id = A\n", "prod"),
        (Some("prod"), "[profile prod]\n  aws_access_key_id = A\n  aws_secret_access_key = s\n", "prod"),
        (Some("prod"), "\u{feff}[profile prod]\naws_access_key_id = A\naws_secret_access_key = s\n", "prod"),
        (Some("prod"), "[profile prod]\naws_access_key_id = A\n", "prod"),
        (Some("prod"), "[profile prod]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = base\n", "base"),
        (Some("prod"), "[profile prod]\nsso_session = main\nsso_account_id = 1\nsso_role_name = r\n", "prod"),
        (Some("prod"), "[profile prod]\nsso_start_url = https://x.awsapps.com/start\n", "prod"),
        (Some("prod"), "[profile prod]\nlogin_session = arn:aws:iam::1:user/x\n", "prod"),
        (None, "[default]\naws_access_key_id = A\n", "default"),
        (None, "[default]\naws_secret_access_key = s\n", "default"),
        (
            None,
            "[default]\nregion = eu-west-1\n  aws_access_key_id = A\n  aws_secret_access_key = s\n",
            "default",
        ),
        (None, "[default]\n  aws_access_key_id = A\n  aws_secret_access_key = s\n", "default"),
        (None, "\u{feff}[default]\naws_access_key_id = A\naws_secret_access_key = s\n", "default"),
        (None, "[default]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = base\n", "base"),
        (None, "[default]\nsso_start_url = https://x.awsapps.com/start\n", "default"),
        (None, "[default]\nsso_account_id = 1\n", "default"),
        (None, "[default]\nlogin_session = arn:aws:iam::1:user/x\n", "default"),
    ]
    .into_iter()
    .enumerate()
    {
        let home = folder(&format!("unusable-{number}"), &[("config", config)]);
        let mut variables = vec![
            region(),
            ("HOME", home.display().to_string()),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", machine.url()),
        ];
        variables.extend(profile.map(|name| ("AWS_PROFILE", name.to_owned())));
        let error = refused(&variables).await;
        assert!(error.contains(named), "{config}: {error}");
    }
}

#[tokio::test]
async fn a_default_profile_without_credentials_names_none() {
    let machine = machine().await;
    let home = folder(
        "region-only",
        &[("config", "[default]\nregion = us-west-2\ns3 =\n  addressing_style = path\n")],
    );
    let (scope, _) = signed_with(&[
        ("HOME", home.display().to_string()),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", machine.url()),
    ])
    .await;
    assert!(scope.starts_with("INSTANCE/") && scope.contains("/us-west-2/"), "{scope}");
}

#[tokio::test]
async fn half_a_key_pair_in_the_environment_is_an_error() {
    let machine = machine().await;
    for (set, missing) in
        [("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID")]
    {
        let error =
            refused(&[region(), (set, "x".to_owned()), ("AWS_EC2_METADATA_SERVICE_ENDPOINT", machine.url())])
                .await;
        assert!(error.contains(missing), "{error}");
    }
}

#[tokio::test]
async fn without_keys_the_error_lists_the_sources_tried() {
    let error = refused(&[region(), ("AWS_EC2_METADATA_DISABLED", "true".to_owned())]).await;
    assert!(error.contains("profile") && error.contains("metadata"), "{error}");
}

#[tokio::test]
async fn an_endpoint_that_is_not_a_url_is_an_error() {
    let broker = Broker::start().await;
    for url in ["", "lambda", "http://lambda.example.com"] {
        let aws =
            [region(), ("AWS_ACCESS_KEY_ID", "A".to_owned()), ("AWS_SECRET_ACCESS_KEY", "s".to_owned())];
        let mut command = program();
        command.arg("token").env("TOKEN_BROKER_FUNCTION", "f").env("AWS_ENDPOINT_URL", broker.url());
        let output = command.envs(aws).env("AWS_ENDPOINT_URL_LAMBDA", url).output().await.unwrap();
        // An empty variable counts as unset.
        assert_eq!(output.status.code(), Some(i32::from(!url.is_empty())), "{url}: {output:?}");
    }
}
