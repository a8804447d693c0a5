//! Bytes in a line of JSON: two hexadecimal symbols each.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Bytes.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Blob(pub(crate) Vec<u8>);

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Blob({} bytes)", self.0.len())
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let symbols = |byte: &u8| {
            [
                SYMBOLS[usize::from(byte >> 4)],
                SYMBOLS[usize::from(byte & 15)],
            ]
        };
        let text: String = self.0.iter().flat_map(symbols).map(char::from).collect();
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let bytes = pairs
            .iter()
            .map(|[high, low]| Some(value(*high)? << 4 | value(*low)?));
        let bytes = bytes
            .collect::<Option<Vec<u8>>>()
            .filter(|_| rest.is_empty());
        bytes
            .map(Self)
            .ok_or_else(|| de::Error::custom("not hexadecimal"))
    }
}

const SYMBOLS: &[u8; 16] = b"0123456789abcdef";

const fn value(symbol: u8) -> Option<u8> {
    match symbol {
        b'0'..=b'9' => Some(symbol - b'0'),
        b'a'..=b'f' => Some(symbol - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_the_line_and_other_text_is_refused() {
        let all = Blob((0..=255).collect());
        let line = serde_json::to_string(&all).unwrap();
        assert_eq!(line.len(), 2 + 512);
        assert_eq!(serde_json::from_str::<Blob>(&line).unwrap(), all);
        for text in ["\"0\"", "\"0G\"", "\"AB\"", "\"\u{e9}0\"", "[1]"] {
            assert!(serde_json::from_str::<Blob>(text).is_err(), "{text}");
        }
    }
}
