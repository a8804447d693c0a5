//! Known-answer vectors: every signed, sealed or exchanged type has exactly the bytes of `vectors/vectors.txt`.
//!
//! The formats of `docs/protocol.md` are frozen; a change here is a change of the protocol. `MESHNODE_BLESS=1`
//! rewrites the file.
#![expect(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

#[path = "vectors/cast.rs"]
mod cast;
#[path = "vectors/derived.rs"]
mod derived;
#[path = "vectors/messages.rs"]
mod messages;
#[path = "vectors/ops.rs"]
mod ops;
#[path = "vectors/records.rs"]
mod records;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::{env, fs};

use meshnode_protocol::codec::CodecError;

/// One value in its one encoding.
struct Vector {
    name: String,
    bytes: Vec<u8>,
    /// Whether bytes are read as the value.
    reads: Reads,
}

type Reads = Box<dyn Fn(&[u8]) -> bool>;

impl Vector {
    /// A value that is read back.
    fn new(name: &str, bytes: impl Into<Vec<u8>>, reads: impl Fn(&[u8]) -> bool + 'static) -> Self {
        Self {
            name: name.to_owned(),
            bytes: bytes.into(),
            reads: Box::new(reads),
        }
    }

    /// A hash, an id or a key: nothing to read.
    fn derived(name: &str, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref().to_vec();
        Self::new(name, bytes.clone(), move |known| known == bytes)
    }

    /// A message of our own framing.
    fn message<T: PartialEq + 'static>(
        name: &str,
        message: T,
        bytes: Vec<u8>,
        parse: fn(&[u8]) -> Result<T, CodecError>,
    ) -> Self {
        Self::new(name, bytes, move |known| {
            parse(known).as_ref() == Ok(&message)
        })
    }
}

fn vectors() -> Vec<Vector> {
    [ops::all(), records::all(), messages::all(), derived::all()]
        .into_iter()
        .flatten()
        .collect()
}

#[test]
fn every_value_has_its_known_bytes() {
    let known = known();
    for vector in vectors() {
        let expected = known.get(&vector.name).map(|bytes| hex(bytes));
        assert_eq!(Some(hex(&vector.bytes)), expected, "{}", vector.name);
    }
    assert_eq!(fs::read_to_string(file()).unwrap(), printed(&vectors()));
}

#[test]
fn all_known_bytes_are_read_as_their_values() {
    let known = known();
    for vector in vectors() {
        assert!((vector.reads)(&known[&vector.name]), "{}", vector.name);
    }
}

#[test]
fn no_known_bytes_are_read_when_one_is_missing_or_one_too_many() {
    let known = known();
    for vector in vectors() {
        let mut bytes = known[&vector.name].clone();
        bytes.push(0);
        assert!(!(vector.reads)(&bytes), "{} and a byte", vector.name);
        bytes.truncate(bytes.len() - 2);
        assert!(!(vector.reads)(&bytes), "{} but a byte", vector.name);
    }
}

#[test]
fn the_document_shows_the_short_vectors_as_they_are() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol.md");
    let document = fs::read_to_string(document).unwrap();
    let known = known();
    for name in ["op-noop", "record-left", "join-knock"] {
        let start = format!("```hex {name}\n");
        let (_, rest) = document.split_once(&start).expect(name);
        let (shown, _) = rest.split_once("```").expect(name);
        let shown: String = shown.split_whitespace().collect();
        assert_eq!(shown, hex(&known[name]), "{name}");
    }
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/vectors.txt")
}

fn printed(vectors: &[Vector]) -> String {
    let mut text = "# Known bytes, as hex. `MESHNODE_BLESS=1 cargo test --test vectors` writes \
                    this file.\n"
        .to_owned();
    for vector in vectors {
        let _written = writeln!(text, "\n[{}] {} bytes", vector.name, vector.bytes.len());
        for line in vector.bytes.chunks(32) {
            text.push_str(&hex(line));
            text.push('\n');
        }
    }
    text
}

fn known() -> BTreeMap<String, Vec<u8>> {
    static BLESSED: Once = Once::new();
    BLESSED.call_once(|| {
        if env::var_os("MESHNODE_BLESS").is_some() {
            fs::write(file(), printed(&vectors())).unwrap();
        }
    });
    let text = fs::read_to_string(file()).expect("the file is committed");
    let sections = text.split("\n[").skip(1);
    let known: BTreeMap<String, Vec<u8>> = sections
        .map(|section| {
            let (name, rest) = section.split_once(']').unwrap();
            let (_, lines) = rest.split_once('\n').unwrap();
            (
                name.to_owned(),
                unhex(&lines.split_whitespace().collect::<String>()),
            )
        })
        .collect();
    assert_eq!(
        known.len(),
        vectors().len(),
        "a name is there twice or is left over"
    );
    known
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}
