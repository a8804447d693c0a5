//! Seeds of the policy targets.

use meshnode_protocol::id::NodeId;
use meshnode_protocol::policy::{Document, Proposal, Troubles, read};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::{Seeds, targets};

/// Written policies.
pub(crate) fn texts() -> [(&'static str, String); 3] {
    let full = r#"// head
{
    "groups": {"group:x": ["alice", "node:nas"]},
    "tagOwners": {"tag:a": ["autogroup:admin"]},
    "hosts": {"h": "100.64.0.0/24", "six": "100.64.0.1"},
    "nodes": {"nas": {"name": "store", "tags": ["tag:a"], "owner": "bob@example.com"}},
    "acls": [{"action": "accept", "src": ["*"], "proto": "tcp", "dst": ["h:22,80-90", "*:*"]}],
    "grants": [
        // why
        {"src": ["group:x"], "dst": ["autogroup:self"], "ip": ["icmp", "443", "udp:*"]},
    ],
    "tests": [{"src": "alice", "accept": ["nas:22"], "deny": ["tag:b:1"]}],
}
"#;
    [
        ("empty", "{}".to_owned()),
        ("small", targets::POLICY.to_owned()),
        ("full", full.to_owned()),
    ]
}

/// Bodies of chunks: the base of each policy, and the edit that leads to it.
pub(crate) fn changes() -> Seeds {
    let author = NodeId::new(targets::founder().public());
    let mut seeds = Seeds::new();
    for (name, text) in texts() {
        let policy = read(&text, &targets::DIRECTORY)
            .expect("a fine policy")
            .policy;
        let mut rng = ChaCha20Rng::seed_from_u64(7);
        let base = Document::base_for(&policy, &author, &mut rng).expect("a small policy");
        seeds.push(("policy_base", name.to_owned(), body_of(&base)));
        let edit = targets::DOCUMENT.propose(&policy, Troubles::Settle, &author, &mut rng);
        if let Ok(Proposal::Edit(edit)) = edit {
            seeds.push(("policy_edit", name.to_owned(), body_of(&edit)));
        }
    }
    seeds
}

/// What stands behind magic, checksum, type and length.
fn body_of(chunk: &[u8]) -> Vec<u8> {
    let length = chunk[9..].iter().position(|byte| byte & 0x80 == 0);
    chunk[10 + length.expect("a length ends")..].to_vec()
}

/// What must be refused.
pub(crate) fn bad() -> Seeds {
    let mut seeds = Seeds::new();
    let mut add = |target, name: &str, bytes| seeds.push((target, name.to_owned(), bytes));
    add("policy_text", "ssh", br#"{"ssh": []}"#.to_vec());
    add("policy_text", "deep", b"[".repeat(2_000));
    // Sixteen bytes of actor, then a column of a million actions.
    let bomb = [
        &[0, 16][..],
        &[7; 16],
        &[1, 1, 0, 0, 0, 1, 0x42, 4, 0xC0, 0x84, 0x3D, 1],
    ];
    add("policy_edit", "bomb", bomb.concat());
    add("policy_base", "bomb", bomb.concat());
    seeds
}
