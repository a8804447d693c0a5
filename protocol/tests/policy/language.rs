//! The written policy.

use meshnode_protocol::access::number;
use meshnode_protocol::policy::{
    Explanation, Policy, Question, Reach, Sign, Verdict, difference, read, render,
};
use proptest::prelude::*;

use super::cases;
use super::world::{Draw, directory, faults, listings, named, reads};

/// A policy as somebody would bring it along, comments and trailing commas included.
const BROUGHT: &str = r#"
// Our network.
{
    "groups": {
        // who works here
        "group:staff": ["owner:alice", "ben@example.com"],
    },
    "tagOwners": {"tag:web": ["autogroup:admin"]}, // said only
    "hosts": {"backup": "100.64.1.3"},
    "acls": [
        // staff may sign in
        {"action": "accept", "src": ["group:staff"], "proto": "tcp", "dst": ["tag:storage:22,443", "backup:*"]},
        {"action": "accept", "src": ["*"], "dst": ["vps:80"]}, /* the site */
    ],
    "grants": [
        {"src": ["autogroup:member"], "dst": ["autogroup:self"], "ip": ["*"]},
    ],
    "tests": [{"src": "ben@example.com", "accept": ["nas:22"], "deny": ["laptop:22"]}],
    // the end
}
"#;

#[test]
fn a_brought_policy_is_read_and_written_with_its_comments() {
    let read = reads(BROUGHT);
    assert_eq!(read.lines.rules, [12, 13, 16]);
    assert_eq!(read.lines.tests, [18]);
    let rendered = render(&read.policy, &directory());
    let expected = r#"// Our network.
{
    "groups": {
        // who works here
        "group:staff": ["owner:alice", "ben@example.com"],
    },
    "tagOwners": {
        // said only
        "tag:web": ["autogroup:admin"],
    },
"#;
    assert!(rendered.text.starts_with(expected), "{}", rendered.text);
    assert_eq!(reads(&rendered.text).policy, read.policy);
    assert_eq!(reads(&rendered.text).lines, rendered.lines);
    assert_eq!(read.policy.rules[0].note, "staff may sign in");
    assert_eq!(read.policy.rules[1].note, "the site");
    assert!(read.policy.failures(&directory()).is_empty());
}

/// Faults as `line:column text`.
fn told(text: &str) -> Vec<String> {
    let told = faults(text).into_iter();
    told.map(|fault| format!("{}:{} {}", fault.line, fault.column, fault.text))
        .collect()
}

#[test]
fn everything_that_is_not_supported_is_named_with_its_place_at_once() {
    let text = r#"{
  "ssh": [{"action": "check"}],
  "nodeAttrs": [],
  "ACLs": [],
  "postures": {}, "colour": 1,
  "acls": [
    {"action": "deny", "src": ["autogroup:shared"], "dst": ["*:*"]},
    {"action": "accept", "users": ["*"], "ports": ["*:*"], "srcPosture": ["x"]},
  ],
  "grants": [
    {"src": ["ipset:x", "svc:y"], "dst": ["autogroup:internet"], "app": {}, "via": ["tag:r"]},
  ],
}"#;
    let expected = [
        "2:3 ssh is not supported",
        "3:3 nodeAttrs is not supported",
        "4:3 ACLs is not supported",
        "5:3 postures is not supported",
        "5:19 colour is not supported",
        "7:16 no action is deny",
        "7:32 autogroup:shared is not supported",
        "8:5 dst is missing",
        "8:5 src is missing",
        "8:26 users is not supported in acls",
        "8:42 ports is not supported in acls",
        "8:60 srcPosture is not supported in acls",
        "11:5 ip is missing",
        "11:14 ipset:x is not supported",
        "11:25 svc:y is not supported",
        "11:43 autogroup:internet is not supported",
        "11:66 app is not supported in grants",
        "11:77 via is not supported in grants",
    ];
    assert_eq!(told(text), expected);
    let hints: Vec<_> = faults(text).into_iter().map(|fault| fault.hint).collect();
    assert!(hints.iter().all(Option::is_some), "{hints:#?}");
    assert_eq!(hints[2].as_deref(), Some("it is spelt acls"));
}

#[test]
fn a_word_that_means_nothing_or_too_much_is_refused() {
    for (who, text) in [
        ("nobody", "nobody is no node, owner or host of this network"),
        ("alice", "alice means several things"),
        ("group:x", "group:x is not in groups"),
        (
            "tag:A_B",
            "A_B is no tag: a name holds only a-z, 0-9 and single hyphens inside",
        ),
        ("node:x", "x is no node of this network"),
        ("host:x", "x is not in hosts"),
        ("id:x", "id:x is no node id"),
        ("autogroup:self", "autogroup:self is no source"),
        (
            "8.8.8.8",
            "8.8.8.8 is outside of this network: subnet routes are not built yet",
        ),
        (
            "0.0.0.0/0",
            "0.0.0.0/0 is outside of this network: subnet routes are not built yet",
        ),
        (
            "100.64.0.1/10",
            "100.64.0.1/10 has bits behind its prefix; the block is 100.64.0.0/10",
        ),
        (
            "\\u001b[2J",
            "?[2J is no node, owner or host of this network",
        ),
    ] {
        let policy = format!(r#"{{"grants": [{{"src": ["{who}"], "dst": ["*"], "ip": ["*"]}}]}}"#);
        assert_eq!(told(&policy), [format!("1:22 {text}")], "{who}");
    }
    for (dst, text) in [
        ("nas", "nas has no ports"),
        ("nas:", " is no port"),
        ("tag:web", "web is no port"),
        ("nas:22,x", "x is no port"),
        (
            "fd7d:463a:3414::1:22",
            "fd7d:463a:3414::1:22 can be read twice",
        ),
        ("[nas]:22", "nas is no address and no prefix"),
    ] {
        let policy =
            format!(r#"{{"acls": [{{"action": "accept", "src": ["*"], "dst": ["{dst}"]}}]}}"#);
        assert_eq!(told(&policy), [format!("1:54 {text}")], "{dst}");
    }
}

#[test]
fn the_form_of_a_policy_is_checked_as_well() {
    for (text, expected) in [
        ("", "1:1 a policy is one object in braces"),
        ("[]", "1:1 a policy is one object in braces"),
        ("{\n  \"acls\": [}", "2:12 Unexpected close brace"),
        ("{'acls': []}", "1:2 Single-quoted strings are not allowed"),
        ("{\"acls\": {}}", "1:10 acls is a list in brackets"),
        ("{\"acls\": [1]}", "1:11 acls is an object in braces"),
        ("{\"groups\": []}", "1:12 groups is an object in braces"),
        ("{\"groups\": {\"x\": []}}", "1:13 x is no group"),
        (
            "{\"groups\": {\"group:x\": [\"tag:a\"]}}",
            "1:25 tag:a cannot be in a group",
        ),
        (
            "{\"hosts\": {\"x\": \"8.8.8.8\"}}",
            "1:17 8.8.8.8 is outside of this network: subnet routes are not built yet",
        ),
        (
            "{\"acls\": [], \"acls\": []}",
            "1:14 acls stands here twice",
        ),
        (
            "{\"nodes\": {\"nas\": {\"color\": 1}}}",
            "1:20 color is not supported in nodes",
        ),
        (
            "{\"nodes\": {\"nas\": {}, \"node:nas\": {}}}",
            "1:23 node:nas stands here twice",
        ),
        (
            "{\"tests\": [{\"src\": \"pi\", \"accept\": [\"nas:*\"]}]}",
            "1:37 nas:* is more than a port",
        ),
        ("{\"tests\": [{\"src\": \"pi\"}]}", "1:12 accept is missing"),
    ] {
        assert_eq!(told(text), [expected], "{text}");
    }
    let deep = "[".repeat(100_000);
    assert_eq!(faults(&deep).len(), 1);
    let long = format!("{{}}{}", " ".repeat(1 << 20));
    assert_eq!(told(&long), ["1:1 1048578 bytes are more than 1048576"]);
    assert!(read(&long[..1 << 20], &directory()).is_ok());
}

#[test]
fn five_thousand_rules_are_read_and_one_more_is_refused() {
    let rule = r#"{"src": ["*"], "dst": ["nas"], "ip": ["tcp:1"]},"#;
    let policy =
        |count: usize| format!("{{\"grants\": [\n{}]}}", format!("{rule}\n").repeat(count));
    assert_eq!(reads(&policy(5_000)).policy.rules.len(), 5_000);
    assert_eq!(told(&policy(5_001)), ["1:1 5001 rules are more than 5000"]);
}

#[test]
fn every_comment_stays_with_what_it_was_written_at() {
    let text = "// a\n/* b\n * c */\n{ // d\n  // e\n  \"hosts\": { // f\n    \"x\": \"100.64.0.1\", // g\n    // h\n    \"y\": \"100.64.0.2\"\n    // i\n  },\n  // j\n  \"grants\": [\n  // k\n  ],\n  // l\n}\n// m\n";
    let policy = reads(text).policy;
    let notes: Vec<_> = policy.notes.values().map(String::as_str).collect();
    assert_eq!(notes, ["a\nb\nc", "d\ne", "j\nk", "l\nm"]);
    let hosts: Vec<_> = policy
        .hosts
        .values()
        .map(|host| host.note.as_str())
        .collect();
    assert_eq!(hosts, ["f\ng", "h\ni"]);
    let rendered = render(&policy, &directory());
    assert_eq!(reads(&rendered.text).policy, policy);
    let steering = reads("{ // a\u{1b}[2J\u{202e}b\tc\n}").policy;
    let notes: Vec<_> = steering.notes.into_values().collect();
    assert_eq!(notes, ["a?[2J?b c"]);
}

fn ask(policy: &Policy, src: &str, dst: &str, protocol: u8, port: u16) -> Explanation {
    let question = Question {
        src: named(src),
        dst: named(dst),
        protocol,
        port: Some(port),
    };
    Reach::compile(policy, &directory()).explain(question)
}

#[test]
fn an_answer_names_the_rule_or_the_nearest_one() {
    let policy = reads(BROUGHT).policy;
    let ask = |src, dst, port| ask(&policy, src, dst, number::TCP, port).verdict;
    assert_eq!(ask("laptop", "nas", 22), Verdict::Allowed { rule: 0 });
    assert_eq!(ask("pi", "vps", 80), Verdict::Allowed { rule: 1 });
    assert_eq!(ask("laptop", "phone", 9), Verdict::Allowed { rule: 2 });
    let nearest = |rule| Verdict::Denied { nearest: rule };
    // Right source and destination, wrong port.
    assert_eq!(ask("laptop", "vps", 21), nearest(Some(0)));
    assert_eq!(ask("pi", "vps", 21), nearest(Some(1)));
    // Right destination and port.
    assert_eq!(ask("pi", "nas", 22), nearest(Some(0)));
    assert_eq!(ask("pi", "phone", 22), nearest(None));
}

#[test]
fn an_answer_says_what_people_stumble_over() {
    let policy =
        reads(r#"{"grants": [{"src": ["ben@example.com"], "dst": ["nas"], "ip": ["tcp:22"]}]}"#);
    let answer = ask(&policy.policy, "tagged-ben", "nas", number::TCP, 22);
    assert_eq!(
        answer.note,
        Some("the source has tags: rules for its owner do not mean it")
    );
    assert_eq!(answer.verdict, Verdict::Denied { nearest: Some(0) });
    assert_eq!(
        ask(&policy.policy, "ben-pc", "nas", number::TCP, 22).note,
        None
    );
    let mut fewer = listings();
    fewer.retain(|listing| listing.id != named("nas"));
    let directory = meshnode_protocol::policy::Directory::new(
        &super::world::GENESIS,
        meshnode_protocol::body::Ipv4Range::DEFAULT,
        fewer,
    );
    let question = ask(&policy.policy, "ben-pc", "nas", number::TCP, 22).question;
    let gone = Reach::compile(&policy.policy, &directory).explain(question);
    assert_eq!(gone.verdict, Verdict::Unknown(named("nas")));
}

#[test]
fn a_difference_names_lines_and_not_comments_or_order() {
    let old = reads(BROUGHT).policy;
    let mut new = old.clone();
    new.rules.swap(0, 1);
    new.rules[0].note = "another".to_owned();
    assert_eq!(difference(&old, &new, &directory()), []);
    let text = BROUGHT
        .replace("vps:80", "vps:80,443")
        .replace("\"backup\": ", "\"copy\": ");
    let text = text.replace("backup:*", "copy:*");
    let changed = difference(&old, &reads(&text).policy, &directory());
    let told: Vec<_> = changed
        .iter()
        .map(|one| {
            let sign = if one.sign == Sign::Added { '+' } else { '-' };
            format!("{sign} {} {}", one.section, one.text)
        })
        .collect();
    assert_eq!(
        told,
        [
            r#"- hosts "backup": "100.64.1.3""#,
            r#"+ hosts "copy": "100.64.1.3""#,
            r#"- acls {"action": "accept", "src": ["group:staff"], "proto": "tcp", "dst": ["tag:storage:22,443", "backup:*"]}"#,
            r#"- acls {"action": "accept", "src": ["*"], "dst": ["vps:80"]}"#,
            r#"+ acls {"action": "accept", "src": ["group:staff"], "proto": "tcp", "dst": ["tag:storage:22,443", "copy:*"]}"#,
            r#"+ acls {"action": "accept", "src": ["*"], "dst": ["vps:80,443"]}"#,
        ]
    );
    let rendered = render(&reads(&text).policy, &directory());
    let line = rendered
        .text
        .lines()
        .nth(changed[5].line as usize - 1)
        .unwrap();
    assert!(line.contains("vps:80,443"), "{line}");
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn what_is_written_reads_back(seed: u64) {
        let policy = Draw::new(seed).policy(8);
        let rendered = render(&policy, &directory());
        let again = read(&rendered.text, &directory());
        let again = again.unwrap_or_else(|faults| panic!("{}\n{faults:#?}", rendered.text));
        prop_assert_eq!(again.policy, policy, "{}", rendered.text);
        prop_assert_eq!(again.lines, rendered.lines);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[\\[\\]{}\":,/* a-z0-9.\\-\n\u{e9}]{0,200}", at in 0usize..900, cut: bool) {
        let _ = read(&text, &directory());
        // Also inside of a good one.
        let at = BROUGHT.char_indices().map(|(at, _)| at).nth(at % BROUGHT.chars().count()).unwrap();
        let (front, rest) = BROUGHT.split_at(at);
        let _ = read(&format!("{front}{text}{rest}"), &directory());
        if cut {
            let _ = read(front, &directory());
        }
    }
}
