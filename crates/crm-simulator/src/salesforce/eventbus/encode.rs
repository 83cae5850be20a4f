//! Avro's binary form, as far as change events need it. Owns: the bytes of each kind of value.
//! Must not: know a schema; whoever makes a value answers for its fitting one.

/// A value of Avro.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum AvroValue {
    Null,
    Boolean(bool),
    Int(i32),
    Long(i64),
    Text(String),
    /// A symbol of an enum, by its place.
    Symbol(i32),
    Array(Vec<AvroValue>),
    /// A branch of a union, by its place, and its value.
    Branch(i32, Box<AvroValue>),
    Record(Vec<AvroValue>),
}

impl AvroValue {
    /// Of a union with null in front.
    pub(super) fn nullable(value: Option<Self>) -> Self {
        value.map_or_else(Self::null_branch, |value| Self::Branch(1, Box::new(value)))
    }

    pub(super) fn null_branch() -> Self {
        Self::Branch(0, Box::new(Self::Null))
    }

    pub(super) fn texts(texts: &[String]) -> Self {
        Self::Array(texts.iter().cloned().map(Self::Text).collect())
    }

    /// The bytes, without a schema or a frame around them.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        bytes
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Null => {}
            Self::Boolean(flag) => bytes.push(u8::from(*flag)),
            Self::Int(number) | Self::Symbol(number) => write_long(bytes, i64::from(*number)),
            Self::Long(number) => write_long(bytes, *number),
            Self::Text(text) => {
                write_long(bytes, length(text.len()));
                bytes.extend_from_slice(text.as_bytes());
            }
            Self::Array(values) => {
                if !values.is_empty() {
                    write_long(bytes, length(values.len()));
                    Self::write_all(values, bytes);
                }
                write_long(bytes, 0);
            }
            Self::Branch(place, value) => {
                write_long(bytes, i64::from(*place));
                value.write(bytes);
            }
            Self::Record(values) => Self::write_all(values, bytes),
        }
    }

    fn write_all(values: &[Self], bytes: &mut Vec<u8>) {
        for value in values {
            value.write(bytes);
        }
    }
}

/// Zigzag, seven bits a byte, the lowest first.
fn write_long(bytes: &mut Vec<u8>, number: i64) {
    let mut rest = ((number << 1) ^ (number >> 63)).cast_unsigned();
    loop {
        let low = u8::try_from(rest & 0x7f).expect("seven bits");
        rest >>= 7;
        if rest == 0 {
            bytes.push(low);
            return;
        }
        bytes.push(low | 0x80);
    }
}

fn length(count: usize) -> i64 {
    i64::try_from(count).expect("no value in memory is so long")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From Avro's specification, "Binary Encoding".
    #[test]
    fn values_have_the_bytes_of_the_specification() {
        let text = |text: &str| AvroValue::Text(text.to_owned());
        for (value, bytes) in [
            (AvroValue::Long(0), vec![0]),
            (AvroValue::Long(-1), vec![1]),
            (AvroValue::Long(1), vec![2]),
            (AvroValue::Long(-2), vec![3]),
            (AvroValue::Long(-64), vec![0x7f]),
            (AvroValue::Long(64), vec![0x80, 1]),
            (AvroValue::Long(i64::MIN), [vec![0xff; 9], vec![1]].concat()),
            (AvroValue::Int(2), vec![4]),
            (text("foo"), vec![6, 0x66, 0x6f, 0x6f]),
            (AvroValue::Record(vec![AvroValue::Long(27), text("foo")]), vec![0x36, 6, 0x66, 0x6f, 0x6f]),
            (AvroValue::Array(vec![AvroValue::Long(3), AvroValue::Long(27)]), vec![4, 6, 0x36, 0]),
            (AvroValue::Array(Vec::new()), vec![0]),
            (AvroValue::nullable(Some(text("a"))), vec![2, 2, 0x61]),
            (AvroValue::nullable(None), vec![0]),
            (AvroValue::Boolean(true), vec![1]),
        ] {
            assert_eq!(value.to_bytes(), bytes, "{value:?}");
        }
    }
}
