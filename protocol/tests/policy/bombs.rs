//! Bytes that are no honest edit: refused before Automerge sees them, or without effect, and never slow.
//!
//! Nothing here reads a clock: a bomb that went off would take the test with it.

use automerge::transaction::{CommitOptions, Transactable};
use automerge::{
    ActorId, AutoCommit, Automerge, Change, ObjId, ObjType, ROOT, ReadDoc, ScalarValue,
};
use meshnode_protocol::limits::{POLICY_BASE_BYTES_MAX, POLICY_EDIT_BYTES_MAX};
use meshnode_protocol::policy::{
    Applied, Document, EditError, Policy, Refusal, scan_base, scan_edit,
};
use proptest::prelude::*;

use super::cases;
use super::chunks::{actor, body, chunk, sleb, uleb};
use super::world::{Draw, author, edit, founded, rng};

/// A change that claims so many operations on the root in a few bytes.
fn run_length_bomb(operations: i64) -> Vec<u8> {
    let mut body = vec![0, 16];
    body.extend(actor(&author(1), 1));
    // Sequence number, first counter, time, message, other actors.
    body.extend([1, 1, 0, 0, 0]);
    let run = |value: &[u8]| [sleb(operations), value.to_vec()].concat();
    let columns: [(u8, Vec<u8>); 5] = [
        (0x15, run(&[1, b'x'])),
        (0x34, uleb(operations.unsigned_abs())),
        (0x42, run(&[1])),
        (0x56, run(&[0])),
        (0x70, run(&[0])),
    ];
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

#[test]
fn a_hundred_bytes_that_claim_a_million_operations_are_refused_unread() {
    let bomb = run_length_bomb(1_000_000);
    assert!(bomb.len() < 110, "{} bytes", bomb.len());
    assert_eq!(scan_edit(&bomb), Err(Refusal::TooManyRows { max: 4_096 }));
    assert_eq!(scan_base(&bomb), Err(Refusal::TooManyRows { max: 16_384 }));
    for operations in [4_097, 1 << 40, i64::MAX >> 1] {
        assert_eq!(
            scan_edit(&run_length_bomb(operations)),
            Err(Refusal::TooManyRows { max: 4_096 })
        );
    }
    // The same bytes with fewer are a change that Automerge reads: the bomb is real.
    let small = run_length_bomb(4_096);
    assert_eq!(scan_edit(&small), Ok(()));
    assert_eq!(Change::from_bytes(small).unwrap().len(), 4_096);
}

#[test]
fn what_is_compressed_or_a_whole_document_is_refused_unread() {
    // Whatever it would grow to: the type alone decides.
    let compressed = chunk(2, &vec![0; 14_000]);
    let document = chunk(0, &[0; 100]);
    let bundle = chunk(3, &[0; 100]);
    for bytes in [&compressed, &document, &bundle] {
        assert_eq!(scan_edit(bytes), Err(Refusal::Chunk));
        assert_eq!(scan_base(bytes), Err(Refusal::Chunk));
    }
    let mut honest = AutoCommit::new();
    honest.put(ROOT, "x", "y".repeat(1_000)).unwrap();
    honest.commit();
    let saved = honest.save();
    assert_eq!(scan_base(&saved), Err(Refusal::Chunk));
    let mut change = honest.get_last_local_change().unwrap();
    // Automerge compresses by itself what is longer than 256 bytes.
    assert_eq!(scan_edit(&change.bytes()), Err(Refusal::Chunk));
    let max = POLICY_EDIT_BYTES_MAX;
    let bytes = max + 1;
    assert_eq!(
        scan_edit(&vec![0; bytes]),
        Err(Refusal::TooLong { bytes, max })
    );
    assert_eq!(scan_edit(&vec![0; max]), Err(Refusal::Chunk));
    let max = POLICY_BASE_BYTES_MAX;
    let bytes = max + 1;
    assert_eq!(
        scan_base(&vec![0; bytes]),
        Err(Refusal::TooLong { bytes, max })
    );
}

#[test]
fn bomb_corpus() {
    let with = |columns: &[(u8, Vec<u8>)]| {
        let mut body = vec![0, 16];
        body.extend(actor(&author(1), 1));
        body.extend([1, 1, 0, 0, 0]);
        body.extend(uleb(columns.len() as u64));
        for (spec, bytes) in columns {
            body.extend(uleb(u64::from(*spec)));
            body.extend(uleb(bytes.len() as u64));
        }
        for (_, bytes) in columns {
            body.extend(bytes);
        }
        chunk(1, &body)
    };
    let action = || (0x42, vec![1, 1]);
    let nulls = [vec![0], uleb(1 << 40)].concat();
    let rows = Refusal::TooManyRows { max: 4_096 };
    for (columns, refusal) in [
        // A run of nothing.
        (vec![(0x15, nulls), action()], rows),
        // A run of falses, and a true one.
        (vec![(0x34, uleb(1 << 40)), action()], rows),
        (
            vec![(0x34, vec![0, 1]), action()],
            Refusal::Field("an insertion"),
        ),
        // Predecessors that are not there.
        (
            vec![action(), (0x70, [vec![1], uleb(1 << 40)].concat())],
            Refusal::Malformed,
        ),
        // Counters that run over.
        (
            vec![
                action(),
                (0x70, vec![1, 2]),
                (0x71, vec![2, 0]),
                (0x73, [vec![2], sleb(1 << 40)].concat()),
            ],
            Refusal::Malformed,
        ),
        // A value that is not there.
        (
            vec![action(), (0x56, [vec![1], uleb(1 << 40)].concat())],
            Refusal::Malformed,
        ),
        // A long key, often.
        (
            vec![(0x15, [vec![1, 33], vec![b'k'; 33]].concat()), action()],
            Refusal::Field("a key"),
        ),
        // Deflated, unknown, twice, in another order, cut.
        (vec![(0x4A, vec![1, 1])], Refusal::Column(0x4A)),
        (vec![action(), (0x7F, vec![])], Refusal::Column(0x7F)),
        (vec![action(), action()], Refusal::Malformed),
        (vec![action(), (0x15, vec![])], Refusal::Malformed),
        (vec![(0x42, vec![0x7E, 1])], Refusal::Malformed),
        (vec![(0x42, vec![1])], Refusal::Malformed),
        (vec![], Refusal::Malformed),
    ] {
        assert_eq!(scan_edit(&with(&columns)), Err(refusal), "{columns:?}");
    }
}

#[test]
fn honest_edits_and_bases_stay_within_the_bounds() {
    for seed in 0..40 {
        let mut draw = Draw::new(seed);
        let (old, new) = (draw.policy(30), draw.policy(30));
        let base = Document::base_for(&old, &author(0), &mut rng(seed)).unwrap();
        assert_eq!(scan_base(&base), Ok(()), "seed {seed}");
        if let Some(edit) = edit(&founded(&old, seed), &new, 1, seed ^ 1) {
            assert_eq!(scan_edit(&edit), Ok(()), "seed {seed}");
        }
    }
    // The largest base that there can be, of the smallest rules.
    let mut policy = Policy::default();
    let text = r#"{"grants": [{"src": ["*"], "dst": ["*"], "ip": ["*"]}]}"#;
    policy.rules = vec![super::world::reads(text).policy.rules[0].clone(); 900];
    let base = Document::base_for(&policy, &author(0), &mut rng(1)).unwrap();
    assert_eq!(scan_base(&base), Ok(()));
    assert_eq!(
        Document::from_base(&base, &author(0))
            .unwrap()
            .read()
            .policy,
        policy
    );
}

/// A change by Automerge itself on a document, under an actor of an author.
fn foreign(document: &Automerge, write: impl FnOnce(&mut AutoCommit)) -> Vec<u8> {
    let mut copy = AutoCommit::load(&document.save()).unwrap();
    copy.set_actor(ActorId::from(actor(&author(1), 1)));
    write(&mut copy);
    let change = copy.get_last_local_change().unwrap();
    change.raw_bytes().to_vec()
}

/// The document that Automerge makes of a base.
fn automerge(base: &[u8]) -> Automerge {
    let mut document = Automerge::new();
    let base = Change::from_bytes(base.to_vec()).unwrap();
    document.apply_changes([base]).unwrap();
    document
}

fn section(document: &AutoCommit, word: &str) -> ObjId {
    document.get(ROOT, word).unwrap().unwrap().1
}

#[test]
fn an_edit_can_do_only_what_edits_do() {
    let base = Document::base_for(&Draw::new(3).policy(3), &author(0), &mut rng(1)).unwrap();
    let document = Document::from_base(&base, &author(0)).unwrap();
    let merged = automerge(&base);
    let refused = |write: &dyn Fn(&mut AutoCommit)| {
        let edit = foreign(&merged, |copy| write(copy));
        document.clone().apply(&edit, &author(1)).unwrap_err()
    };
    let operation = |why| EditError::Operation(why);
    let field = |what| EditError::Refused(Refusal::Field(what));
    let rules = |copy: &AutoCommit| section(copy, "rules");
    for (write, error) in [
        (
            &(|copy: &mut AutoCommit| copy.delete(ROOT, "rules").unwrap())
                as &dyn Fn(&mut AutoCommit),
            operation("it changes the sections"),
        ),
        (
            &|copy| drop(copy.put_object(rules(copy), "x", ObjType::List).unwrap()),
            operation("it makes something other than a map"),
        ),
        (
            &|copy| copy.put(rules(copy), "x", ScalarValue::counter(1)).unwrap(),
            operation("it writes a value of another kind"),
        ),
        (
            &|copy| copy.put(rules(copy), "x", 1.5).unwrap(),
            operation("it writes a value of another kind"),
        ),
        (
            &|copy| {
                copy.put(rules(copy), "x", 1u64).unwrap();
                copy.commit_with(CommitOptions::default().with_time(1));
            },
            field("the time"),
        ),
        (
            &|copy| {
                copy.put(rules(copy), "x", 1u64).unwrap();
                copy.commit_with(CommitOptions::default().with_message("hello"));
            },
            field("the message"),
        ),
        (
            &|copy| {
                copy.put(rules(copy), "x", 1u64).unwrap();
                copy.commit();
                copy.put(rules(copy), "x", 2u64).unwrap();
            },
            field("the sequence number"),
        ),
    ] {
        assert_eq!(refused(write), error);
    }
    let list = foreign(&merged, |copy| {
        let list = copy.put_object(rules(copy), "x", ObjType::List).unwrap();
        copy.insert(&list, 0, "y").unwrap();
    });
    assert!(document.clone().apply(&list, &author(1)).is_err());
}

#[test]
fn what_an_edit_leaves_in_disorder_counts_for_nothing_and_is_named() {
    let policy = Draw::new(3).policy(3);
    let base = Document::base_for(&policy, &author(0), &mut rng(1)).unwrap();
    let merged = automerge(&base);
    let mut count = 0;
    for write in [
        &(|copy: &mut AutoCommit| copy.put(section(copy, "rules"), "x", "y").unwrap())
            as &dyn Fn(&mut AutoCommit),
        &|copy| {
            drop(
                copy.put_object(section(copy, "rules"), "x", ObjType::Map)
                    .unwrap(),
            )
        },
        &|copy| {
            let rule = copy
                .put_object(section(copy, "rules"), "x", ObjType::Map)
                .unwrap();
            copy.put(&rule, "allow", "grant\n*\n*\n*").unwrap();
            copy.put(&rule, "deny", "*").unwrap();
        },
        &|copy| {
            let rule = copy
                .put_object(section(copy, "rules"), "x", ObjType::Map)
                .unwrap();
            copy.put(&rule, "allow", "grant\n*\n*\ntcp:0443").unwrap();
        },
        &|copy| {
            let group = copy
                .put_object(section(copy, "groups"), "x", ObjType::Map)
                .unwrap();
            copy.put(&group, "name", "z").unwrap();
            let set = copy.put_object(&group, "members", ObjType::Map).unwrap();
            copy.put(&set, "y", "tag:web").unwrap();
        },
        &|copy| {
            let node = copy
                .put_object(section(copy, "nodes"), "x", ObjType::Map)
                .unwrap();
            copy.put(&node, "device", vec![0xFF; 32]).unwrap();
        },
    ] {
        let mut document = Document::from_base(&base, &author(0)).unwrap();
        let edit = foreign(&merged, |copy| write(copy));
        assert_eq!(document.apply(&edit, &author(1)), Ok(Applied::Now));
        let reading = document.read();
        assert_eq!(reading.policy, policy);
        assert_eq!(reading.troubles.len(), 1);
        assert!(!reading.troubles[0].to_string().is_empty());
        count += 1;
    }
    assert_eq!(count, 6);
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn no_changed_byte_makes_a_document_panic_or_differ_by_order(
        seed in 0u64..32,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
        is_cut: bool,
    ) {
        let mut draw = Draw::new(seed);
        let (old, middle, new) = (draw.policy(3), draw.policy(3), draw.policy(3));
        let base = Document::base_for(&old, &author(0), &mut rng(seed)).unwrap();
        let document = Document::from_base(&base, &author(0)).unwrap();
        let first = edit(&document, &middle, 1, seed + 1);
        let mut later = document.clone();
        if let Some(first) = &first {
            later.apply(first, &author(1)).unwrap();
        }
        let Some(second) = edit(&later, &new, 1, seed + 2) else { return Ok(()) };
        let changed = |bytes: &[u8]| {
            let mut body = body(bytes).to_vec();
            for (at, to) in &flips {
                let at = at.index(body.len());
                body[at] = *to;
            }
            if is_cut {
                body.truncate(cut.index(body.len()));
            }
            chunk(1, &body)
        };
        // A changed base, and a changed edit before and after what it builds on.
        let _ = Document::from_base(&changed(&base), &author(0)).map(|document| document.read());
        let odd = changed(&second);
        let mut copies = [document.clone(), document];
        for (copy, odd_first) in copies.iter_mut().zip([true, false]) {
            if odd_first {
                let _ = copy.apply(&odd, &author(1));
            }
            if let Some(first) = &first {
                copy.apply(first, &author(1)).unwrap();
            }
            copy.apply(&second, &author(1)).unwrap();
            if !odd_first {
                let _ = copy.apply(&odd, &author(1));
            }
        }
        prop_assert_eq!(&copies[0], &copies[1]);
        prop_assert_eq!(copies[0].read(), copies[1].read());
    }

    #[test]
    fn no_bytes_make_the_scan_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = scan_edit(&bytes);
        let _ = scan_edit(&chunk(1, &bytes));
        let _ = Document::from_base(&chunk(1, &bytes), &author(0));
    }
}
