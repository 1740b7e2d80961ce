//! The state of a grant that only a person can renew.

use super::pair::{from_origin, to_origin};
use super::{
    Item, ItemError,
    attributes::{
        get_flag, get_instant, get_map, get_number, get_numbers, get_secret, get_texts, instant, map, number,
        numbers, optional, required, text, texts,
    },
};
use aws_sdk_dynamodb::types::AttributeValue;
use protocol::{Fingerprint, GrantState, Holder, Mark, Predecessor, SecretVersion, Trial, Usage};
use std::time::Duration;

pub(super) fn from_grant(grant: &GrantState) -> Item {
    let GrantState { held, trial, sent, predecessor, send_after, resend_within } = grant;
    let mut item = Item::from([map("held", from_usage(held))]);
    item.extend(trial.as_ref().map(|trial| {
        let mut fields = from_usage(&trial.usage);
        fields.extend([text("token", trial.token.expose())]);
        fields.extend(from_origin(&trial.origin));
        map("trial", fields)
    }));
    if !sent.is_empty() {
        item.extend([numbers("sent", sent.iter().map(|fingerprint| fingerprint.0))]);
    }
    item.extend(predecessor.map(|predecessor| {
        let Predecessor { token, by } = predecessor;
        map("predecessor", Item::from([number("token", token.0), number("by", by.0)]))
    }));
    item.extend(send_after.map(|at| instant("send_after_ms", at)));
    let millis = u64::try_from(resend_within.as_millis()).unwrap_or(u64::MAX);
    item.extend((millis > 0).then(|| number("resend_within_ms", millis)));
    item
}

pub(super) fn to_grant(item: &Item) -> Result<GrantState, ItemError> {
    let trial = |fields: &Item| -> Result<Trial, ItemError> {
        Ok(Trial {
            token: required(fields, "token", get_secret)?,
            origin: to_origin(fields)?,
            usage: to_usage(fields)?,
        })
    };
    let predecessor = |fields: &Item| -> Result<Predecessor, ItemError> {
        let token = Fingerprint(required(fields, "token", get_number)?);
        Ok(Predecessor { token, by: Holder(required(fields, "by", get_number)?) })
    };
    let resend_within_ms = optional(item, "resend_within_ms", get_number)?.unwrap_or_default();
    Ok(GrantState {
        held: to_usage(required(item, "held", get_map)?)?,
        trial: optional(item, "trial", get_map)?.map(trial).transpose()?,
        sent: optional(item, "sent", get_numbers)?.unwrap_or_default().into_iter().map(Fingerprint).collect(),
        predecessor: optional(item, "predecessor", get_map)?.map(predecessor).transpose()?,
        send_after: optional(item, "send_after_ms", get_instant)?,
        resend_within: Duration::from_millis(resend_within_ms),
    })
}

fn from_usage(usage: &Usage) -> Item {
    let mut item = Item::new();
    item.extend(usage.mark.iter().flat_map(|mark| {
        [
            instant("marked_at_ms", mark.at),
            instant("settled_at_ms", mark.settled_at),
            number("marked_by", mark.by.0),
        ]
    }));
    if usage.lost {
        item.extend([("lost".to_owned(), AttributeValue::Bool(true))]);
    }
    if !usage.lost_under.is_empty() {
        item.extend([texts("lost_under", usage.lost_under.iter().map(|version| version.0.clone()))]);
    }
    item
}

fn to_usage(item: &Item) -> Result<Usage, ItemError> {
    let mark = match optional(item, "marked_at_ms", get_instant)? {
        Some(at) => Some(Mark {
            at,
            settled_at: required(item, "settled_at_ms", get_instant)?,
            by: Holder(required(item, "marked_by", get_number)?),
        }),
        None => None,
    };
    Ok(Usage {
        mark,
        lost: optional(item, "lost", get_flag)?.unwrap_or_default(),
        lost_under: optional(item, "lost_under", get_texts)?
            .unwrap_or_default()
            .into_iter()
            .map(SecretVersion)
            .collect(),
    })
}
