//! How do columns become types? What does not read back is [`StoreError::Corrupt`], never a default.

use std::str::FromStr;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::StoreError;
use crate::base::clock::Timestamp;

pub(super) fn id<T: FromStr>(text: &str) -> Result<T, StoreError> {
    text.parse().map_err(|_| StoreError::Corrupt("an identifier"))
}

pub(super) fn hash(bytes: &[u8]) -> Result<[u8; 32], StoreError> {
    bytes.try_into().map_err(|_| StoreError::Corrupt("a hash"))
}

pub(super) fn time(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

pub(super) fn maybe_time(millis: Option<i64>) -> Option<Timestamp> {
    millis.map(Timestamp::from_millis)
}

pub(super) fn millis(at: Option<Timestamp>) -> Option<i64> {
    at.map(Timestamp::as_millis)
}

pub(super) fn from_json<T: DeserializeOwned>(text: &str, what: &'static str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|_| StoreError::Corrupt(what))
}

pub(super) fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|_| StoreError::Ours("JSON".to_owned()))
}
