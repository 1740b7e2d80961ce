//! Random items: of any form, or damaged.

use aws_sdk_dynamodb::types::AttributeValue;
use proptest::{
    collection::{hash_map, vec},
    option,
    prelude::*,
    sample::Index,
};
use token_broker::outbound::dynamodb::item::Item;

/// A token that must not appear in an error.
pub(crate) const TELL_TALE: &str = "tell-tale";

const NAMES: [&str; 14] = [
    "pk",
    "version",
    "pair",
    "lease",
    "cooldown",
    "rejected_secret",
    "rejected_secret_refusals",
    "rejected_secret_retry_at_ms",
    "pending_revocations",
    "permits",
    "blocked_until_ms",
    "until_ms",
    "holder",
    "generation",
];

/// Items with known attributes of the wrong form, and with unknown ones. Half of them have a version, without which
/// nothing else is parsed.
pub(crate) fn wild_item() -> impl Strategy<Value = Item> {
    let name =
        prop_oneof![12 => prop::sample::select(&NAMES[..]).prop_map(str::to_owned), 1 => "[a-z_]{1,8}"];
    let names = name.boxed();
    let version = any::<u64>().prop_map(|version| AttributeValue::N(version.to_string()));
    (hash_map(names.clone(), value(names), 0..8), option::of(version)).prop_map(|(mut item, version)| {
        item.extend(version.map(|version| ("version".to_owned(), version)));
        item
    })
}

/// The item with one attribute, at any depth, removed or replaced.
pub(crate) fn damaged(item: Item) -> impl Strategy<Value = Item> {
    let replacement = option::of(value("[a-z_]{1,8}".boxed()));
    (vec(any::<Index>(), 1..=3), replacement).prop_map(move |(path, replacement)| {
        let mut item = item.clone();
        damage(&mut item, &path, replacement);
        item
    })
}

fn value(names: BoxedStrategy<String>) -> impl Strategy<Value = AttributeValue> {
    let leaf = prop_oneof![
        Just(AttributeValue::S(TELL_TALE.to_owned())),
        any::<u64>().prop_map(|number| AttributeValue::N(number.to_string())),
        Just(AttributeValue::N("-1e400".to_owned())),
        any::<bool>().prop_map(AttributeValue::Bool),
        Just(AttributeValue::Null(true)),
    ];
    leaf.prop_recursive(3, 16, 4, move |value| {
        prop_oneof![
            vec(value.clone(), 0..3).prop_map(AttributeValue::L),
            hash_map(names.clone(), value, 0..6).prop_map(AttributeValue::M),
        ]
    })
}

fn damage(item: &mut Item, path: &[Index], replacement: Option<AttributeValue>) {
    let mut names: Vec<_> = item.keys().cloned().collect();
    let Some((step, deeper)) = path.split_first().filter(|_| !names.is_empty()) else { return };
    names.sort_unstable();
    let name = step.get(&names).clone();
    match item.get_mut(&name) {
        Some(AttributeValue::M(inner)) if !deeper.is_empty() => damage(inner, deeper, replacement),
        Some(AttributeValue::L(list)) if !deeper.is_empty() && !list.is_empty() => {
            let index = step.index(list.len());
            match list.get_mut(index) {
                Some(AttributeValue::M(inner)) => damage(inner, deeper, replacement),
                _ => drop(list.remove(index)),
            }
        }
        _ => {
            item.remove(&name);
            item.extend(replacement.map(|value| (name, value)));
        }
    }
}
