//! A field of a JSON object that somebody sends.

/// A field that may be absent, `null`, or have a value.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) enum GivenField<T> {
    #[default]
    Absent,
    Null,
    Value(T),
}

impl<T> GivenField<T> {
    pub(crate) fn value(self) -> Option<T> {
        if let Self::Value(value) = self { Some(value) } else { None }
    }
}
