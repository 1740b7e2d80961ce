//! Writes and reads single attributes.

use super::{Item, ItemError};
use aws_sdk_dynamodb::types::AttributeValue;
use protocol::{Secret, Timestamp, UpstreamUrl};

pub(super) fn text(name: &str, value: impl Into<String>) -> (String, AttributeValue) {
    (name.to_owned(), AttributeValue::S(value.into()))
}

pub(super) fn number(name: &str, value: u64) -> (String, AttributeValue) {
    (name.to_owned(), AttributeValue::N(value.to_string()))
}

pub(super) fn instant(name: &str, at: Timestamp) -> (String, AttributeValue) {
    number(name, at.as_millis())
}

pub(super) fn map(name: &str, item: Item) -> (String, AttributeValue) {
    (name.to_owned(), AttributeValue::M(item))
}

pub(super) fn list(name: &str, items: impl Iterator<Item = Item>) -> (String, AttributeValue) {
    (name.to_owned(), AttributeValue::L(items.map(AttributeValue::M).collect()))
}

pub(super) fn numbers(name: &str, values: impl Iterator<Item = u64>) -> (String, AttributeValue) {
    (name.to_owned(), AttributeValue::L(values.map(|value| AttributeValue::N(value.to_string())).collect()))
}

pub(super) fn texts(name: &str, values: impl Iterator<Item = String>) -> (String, AttributeValue) {
    (name.to_owned(), AttributeValue::L(values.map(AttributeValue::S).collect()))
}

pub(super) fn get_flag(value: &AttributeValue) -> Option<bool> {
    value.as_bool().ok().copied()
}

pub(super) fn get_numbers(value: &AttributeValue) -> Option<Vec<u64>> {
    value.as_l().ok()?.iter().map(get_number).collect()
}

pub(super) fn get_texts(value: &AttributeValue) -> Option<Vec<String>> {
    value.as_l().ok()?.iter().map(|text| get_text(text).map(str::to_owned)).collect()
}

pub(super) fn get_text(value: &AttributeValue) -> Option<&str> {
    value.as_s().ok().map(String::as_str)
}

pub(super) fn get_secret(value: &AttributeValue) -> Option<Secret> {
    get_text(value).filter(|text| !text.is_empty()).map(Secret::from)
}

pub(super) fn get_url(value: &AttributeValue) -> Option<UpstreamUrl> {
    UpstreamUrl::parse(get_text(value)?).ok()
}

pub(super) fn get_endpoint(value: &AttributeValue) -> Option<UpstreamUrl> {
    UpstreamUrl::parse_endpoint(get_text(value)?).ok()
}

pub(super) fn get_small_number(value: &AttributeValue) -> Option<u32> {
    u32::try_from(get_number(value)?).ok()
}

pub(super) fn get_number(value: &AttributeValue) -> Option<u64> {
    value.as_n().ok()?.parse().ok()
}

pub(super) fn get_instant(value: &AttributeValue) -> Option<Timestamp> {
    get_number(value).map(Timestamp::from_millis)
}

pub(super) fn get_map(value: &AttributeValue) -> Option<&Item> {
    value.as_m().ok()
}

pub(super) fn get_maps(value: &AttributeValue) -> Option<Vec<&Item>> {
    value.as_l().ok()?.iter().map(get_map).collect()
}

pub(super) fn required<'a, T>(
    item: &'a Item,
    attribute: &'static str,
    get: impl Fn(&'a AttributeValue) -> Option<T>,
) -> Result<T, ItemError> {
    optional(item, attribute, get)?.ok_or(ItemError { attribute })
}

pub(super) fn optional<'a, T>(
    item: &'a Item,
    attribute: &'static str,
    get: impl Fn(&'a AttributeValue) -> Option<T>,
) -> Result<Option<T>, ItemError> {
    item.get(attribute).map(|value| get(value).ok_or(ItemError { attribute })).transpose()
}
