//! Edits that are well-formed and contradict what they build on.

use automerge::Change;
use meshnode_protocol::policy::{Applied, Document, Policy};

use super::chunks::{actor, chunk, sleb, uleb};
use super::world::{author, reads, rng};

/// One operation as columns say it; actor 0 is the edit's own, 1 the base's.
struct Crafted {
    first: u64,
    object: (u8, u64),
    key: &'static str,
    action: u8,
    predecessor: Option<(u8, u64)>,
}

impl Crafted {
    /// An edit of that one operation on a base; a value that it writes is `x`.
    fn on(&self, base: &Change) -> Vec<u8> {
        let value: (u8, &[u8]) = if self.action == 1 {
            (0x16, b"x")
        } else {
            (0, &[])
        };
        let once = |bytes: &[u8]| [&[1], bytes].concat();
        let before = |of: &dyn Fn((u8, u64)) -> Vec<u8>| {
            let bytes = self.predecessor.map(of);
            bytes.map_or_else(Vec::new, |bytes| once(&bytes))
        };
        let columns: [(u8, Vec<u8>); 10] = [
            (0x01, once(&[self.object.0])),
            (0x02, once(&uleb(self.object.1))),
            (
                0x15,
                once(&[&[self.key.len() as u8], self.key.as_bytes()].concat()),
            ),
            (0x34, vec![1]),
            (0x42, once(&[self.action])),
            (0x56, once(&[value.0])),
            (0x57, value.1.to_vec()),
            (0x70, once(&[u8::from(self.predecessor.is_some())])),
            (0x71, before(&|(actor, _)| vec![actor])),
            (0x73, before(&|(_, counter)| sleb(counter.cast_signed()))),
        ];
        // Literals of one are runs below zero.
        let columns = columns.map(|(spec, mut bytes)| {
            if !matches!(spec, 0x34 | 0x57) && !bytes.is_empty() {
                bytes[0] = 0x7F;
            }
            (spec, bytes)
        });
        let columns: Vec<_> = columns
            .iter()
            .filter(|(_, bytes)| !bytes.is_empty())
            .collect();
        let mut body = vec![1];
        body.extend(base.hash().0);
        body.push(16);
        body.extend(actor(&author(1), 1));
        body.push(1);
        body.extend(uleb(self.first));
        body.extend([0, 0, 1, 16]);
        body.extend(base.actor_id().to_bytes());
        body.extend(uleb(columns.len() as u64));
        for (spec, bytes) in &columns {
            body.push(*spec);
            body.extend(uleb(bytes.len() as u64));
        }
        for (_, bytes) in &columns {
            body.extend(bytes);
        }
        chunk(1, &body)
    }
}

/// The base that crafted edits stand on, and its policy: the version is operation 1, the sections 2 to 8, the rule 9,
/// its fields 10 and 11.
fn base() -> (Vec<u8>, Policy) {
    let text = r#"{"grants": [{"src": ["*"], "dst": ["*"], "ip": ["*"]}]}"#;
    let policy = reads(text).policy;
    let bytes = Document::base_for(&policy, &author(0), &mut rng(1)).unwrap();
    assert_eq!(Change::from_bytes(bytes.clone()).unwrap().len(), 11);
    (bytes, policy)
}

/// What becomes of a crafted edit; an orphan changes nothing, and waits for nothing.
fn judge(crafted: &Crafted) -> Applied {
    let (bytes, policy) = base();
    let mut document = Document::from_base(&bytes, &author(0)).unwrap();
    let edit = crafted.on(&Change::from_bytes(bytes).unwrap());
    let applied = document.apply(&edit, &author(1)).unwrap();
    let orphans = document.orphans();
    assert!(orphans.iter().all(|orphan| orphan.missing.is_empty()));
    assert_eq!(orphans.is_empty(), applied == Applied::Now);
    assert_eq!(document.read().policy == policy, applied == Applied::Orphan);
    applied
}

/// An edit of the rule that contradicts nothing.
const fn sound(action: u8) -> Crafted {
    Crafted {
        first: 12,
        object: (1, 9),
        key: "allow",
        action,
        predecessor: Some((1, 10)),
    }
}

#[test]
fn an_edit_that_contradicts_what_it_builds_on_is_an_orphan() {
    for action in [1, 3] {
        assert_eq!(judge(&sound(action)), Applied::Now, "{action}");
        let odd = [
            // The wrong counter; a predecessor of another field, of another map, of nothing.
            Crafted {
                first: 13,
                ..sound(action)
            },
            Crafted {
                first: 11,
                ..sound(action)
            },
            Crafted {
                predecessor: Some((1, 11)),
                ..sound(action)
            },
            Crafted {
                predecessor: Some((1, 9)),
                ..sound(action)
            },
            Crafted {
                predecessor: Some((1, 99)),
                ..sound(action)
            },
            Crafted {
                key: "pos",
                ..sound(action)
            },
            Crafted {
                object: (1, 6),
                ..sound(action)
            },
            // Itself.
            Crafted {
                predecessor: Some((0, 12)),
                ..sound(action)
            },
            Crafted {
                object: (0, 12),
                ..sound(action)
            },
            // No map, nothing, something to come.
            Crafted {
                object: (1, 10),
                ..sound(action)
            },
            Crafted {
                object: (1, 99),
                ..sound(action)
            },
            Crafted {
                object: (0, 13),
                ..sound(action)
            },
        ];
        for (number, odd) in odd.into_iter().enumerate() {
            assert_eq!(judge(&odd), Applied::Orphan, "{action} {number}");
        }
    }
}

#[test]
fn a_value_beside_the_old_one_is_no_contradiction_and_one_in_no_map_is() {
    for (object, applied) in [
        ((1, 9), Applied::Now),
        ((1, 10), Applied::Orphan),
        ((1, 99), Applied::Orphan),
        ((0, 12), Applied::Orphan),
    ] {
        let beside = Crafted {
            object,
            predecessor: None,
            ..sound(1)
        };
        assert_eq!(judge(&beside), applied, "{object:?}");
    }
}
