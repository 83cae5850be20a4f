//! Record keys as two columns: an object type and an id.

use super::{StoreError, known};
use crate::domain::record::{ObjectType, RecordKey};

/// For `unnest`: the types, and the ids.
pub(super) fn key_columns(keys: &[RecordKey]) -> (Vec<String>, Vec<String>) {
    keys.iter().map(|key| (key.object_type.as_str().to_owned(), key.record_id.clone())).unzip()
}

pub(super) fn key_of(object_type: &str, record_id: String) -> Result<RecordKey, StoreError> {
    let object_type = known(object_type.parse::<ObjectType>().ok(), "external_refs", "object_type")?;
    Ok(RecordKey { object_type, record_id })
}

pub(super) fn successor_of(
    object_type: Option<&str>,
    record_id: Option<String>,
) -> Result<Option<RecordKey>, StoreError> {
    object_type.zip(record_id).map(|(object_type, record_id)| key_of(object_type, record_id)).transpose()
}
