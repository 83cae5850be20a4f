//! How far a stream of changes was read: the CRM's own mark of it, which is kept and given back,
//! and never computed with.

use std::{collections::BTreeMap, fmt};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::record::ObjectType;

/// Bytes of a place.
const PLACE_BYTES_MAX: usize = 1_024;

/// After which change a stream is to go on. The vendor's, and opaque.
#[derive(Clone, PartialEq, Eq)]
pub struct StreamPlace(Vec<u8>);

impl StreamPlace {
    /// Of 1 to 1,024 bytes; `None`: it is none.
    pub fn new(bytes: Vec<u8>) -> Option<Self> {
        (1..=PLACE_BYTES_MAX).contains(&bytes.len()).then_some(Self(bytes))
    }

    /// As the vendor wrote it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for StreamPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamPlace({} bytes)", self.0.len())
    }
}

/// The places of an integration's streams, one for each kind of object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamPlaces(BTreeMap<ObjectType, StreamPlace>);

impl StreamPlaces {
    /// Of one kind alone.
    pub fn of(object: ObjectType, place: StreamPlace) -> Self {
        Self(BTreeMap::from([(object, place)]))
    }

    /// That of a kind.
    pub fn get(&self, object: ObjectType) -> Option<&StreamPlace> {
        self.0.get(&object)
    }
}

/// As stored: base64, by the name of each kind.
impl Serialize for StreamPlaces {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(kind, place)| (kind.as_str(), STANDARD.encode(place.as_bytes()))))
    }
}

/// What cannot be read is no place: the stream begins anew, and a poll covers what is missed.
impl<'de> Deserialize<'de> for StreamPlaces {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = BTreeMap::<String, String>::deserialize(deserializer)?;
        let read = |(kind, place): (String, String)| {
            Some((kind.parse().ok()?, StreamPlace::new(STANDARD.decode(place).ok()?)?))
        };
        Ok(Self(stored.into_iter().filter_map(read).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_back_and_what_is_none_is_left() {
        let places = StreamPlaces::of(ObjectType::Lead, StreamPlace::new(vec![0, 255, 7]).unwrap());
        let text = serde_json::to_string(&places).unwrap();

        assert_eq!(text, r#"{"Lead":"AP8H"}"#);
        assert_eq!(serde_json::from_str::<StreamPlaces>(&text).unwrap(), places);
        let others = r#"{"Lead":"AP8H","Contact":"","Person":"!","Planet":"AP8H"}"#;
        assert_eq!(serde_json::from_str::<StreamPlaces>(others).unwrap(), places);
    }

    #[test]
    fn place_has_bytes_and_not_too_many() {
        assert!(StreamPlace::new(Vec::new()).is_none() && StreamPlace::new(vec![0; 1_025]).is_none());
        assert_eq!(format!("{:?}", StreamPlace::new(vec![1; 1_024]).unwrap()), "StreamPlace(1024 bytes)");
    }
}
