//! Encrypted connections.

use emulators::fakes::{Server, respond};
use http::Request;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use token_broker_client::{
    SystemClock,
    http::{BaseUrl, HttpClient, Roots, SendError, collect, empty},
};

async fn start() -> Server {
    Server::script_encrypted(async |_| respond(200, "hello")).await
}

fn named(variable: &str, path: &Path) -> Roots {
    Roots::from_environment(|name| (name == variable).then(|| path.display().to_string()))
}

fn client(roots: Roots) -> HttpClient {
    HttpClient::new(SystemClock, roots, Duration::from_secs(30))
}

async fn get(client: &HttpClient, url: &str) -> Result<Vec<u8>, SendError> {
    let target = BaseUrl::parse(url).unwrap().target;
    let response = client.send(&target, Request::get("/").body(empty()).unwrap()).await?;
    Ok(collect(response.into_body(), 100).await.unwrap())
}

#[tokio::test]
async fn a_named_authority_is_trusted_and_no_other() {
    let server = start().await;
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("authority.pem");
    std::fs::write(&file, server.certificate().unwrap()).unwrap();
    let trusting = client(named("SSL_CERT_FILE", &file));
    assert_eq!(get(&trusting, &server.url()).await.unwrap(), b"hello");
    let error = get(&client(Roots::default()), &server.url()).await.unwrap_err();
    assert!(matches!(&error, SendError::NotConnected(_, why) if why.contains("certificate")), "{error}");
    let error = get(&trusting, &format!("https://{}", server.address())).await.unwrap_err();
    assert!(matches!(&error, SendError::NotConnected(..)), "the name must match: {error}");
}

#[tokio::test]
async fn a_folder_of_authorities_is_trusted() {
    let server = start().await;
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("authorities");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("one.pem"), server.certificate().unwrap()).unwrap();
    std::fs::write(folder.join("README"), "no certificate").unwrap();
    let trusting = client(named("SSL_CERT_DIR", &folder));
    assert_eq!(get(&trusting, &server.url()).await.unwrap(), b"hello");
}

#[tokio::test]
async fn an_authority_that_cannot_be_read_is_an_error() {
    let server = start().await;
    let missing = named("AWS_CA_BUNDLE", Path::new("/does/not/exist.pem"));
    let error = get(&client(missing), &server.url()).await.unwrap_err();
    assert!(error.to_string().contains("/does/not/exist.pem"), "{error}");
}
