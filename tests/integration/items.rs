//! The stored items in the table.

use emulators::{World, dynamodb};
use serde_json::{Value, json};

pub(crate) const DEFAULT_ACCOUNT: &str = "account#default";
pub(crate) const LOGIN_LIMITER: &str = "login_limiter";

/// The item with this key, or null if there is none.
pub(crate) async fn get(world: &World, key: &str) -> Value {
    let request = json!({"TableName": world.table(), "Key": {"pk": {"S": key}}});
    let found = dynamodb::call(&world.dynamodb, "GetItem", &request).await;
    found.expect("an answer")["Item"].clone()
}

pub(crate) async fn put(world: &World, item: &Value) {
    let request = json!({"TableName": world.table(), "Item": item});
    dynamodb::call(&world.dynamodb, "PutItem", &request).await.expect("an item");
}
