//! The shared records in DynamoDB.

pub mod item;
mod store;

pub use store::Table;
