//! Layers, refusals, and files that people wrote by hand.

use super::*;

fn place(dir: &Path) -> Place {
    Place {
        local_name: "main".to_owned(),
        state_dir: dir.to_owned(),
        socket: dir.join("meshnode.sock"),
        settings: Some(dir.join("main.toml")),
        system: true,
    }
}

fn load(dir: &Path, flags: Vec<Setting>) -> Result<Settings, Failure> {
    Settings::load(&place(dir), flags)
}

fn one(key: Key, value: &str) -> Vec<(Key, Option<String>)> {
    vec![(key, Some(value.to_owned()))]
}

#[test]
fn a_flag_stands_above_the_file_and_the_file_above_what_was_set() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = load(dir.path(), Vec::new()).unwrap();
    assert_eq!(
        settings.get(Key::TunName).0,
        Some(Setting::TunName("mn-main".to_owned()))
    );
    settings.change(&one(Key::TunName, "mine")).unwrap();
    settings.change(&one(Key::ListenPort, "4000")).unwrap();
    settings.save().unwrap();
    fs::write(
        dir.path().join("main.toml"),
        "# by hand\nlisten-port = 5000\n",
    )
    .unwrap();
    let settings = load(dir.path(), vec![Setting::Mdns(OnOff::Off)]).unwrap();
    assert_eq!(settings.tun_name(), "mine");
    assert_eq!(settings.listen_port(), Some(5000));
    let by_hand = From::File(dir.path().join("main.toml"), 2);
    assert_eq!(settings.get(Key::ListenPort).1, by_hand);
    assert_eq!(
        settings.get(Key::Mdns),
        (Some(Setting::Mdns(OnOff::Off)), From::Flag)
    );
    assert_eq!(settings.get(Key::GroupRights).1, From::Default);
}

#[test]
fn a_fixed_key_is_refused_with_file_and_line_and_nothing_changes() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("main.toml"), "\n\nmdns = false\n").unwrap();
    let mut settings = load(dir.path(), vec![Setting::ListenPort(1)]).unwrap();
    let before = settings.clone();
    let failure = settings.change(&one(Key::Mdns, "on")).unwrap_err();
    let path = dir.path().join("main.toml");
    assert_eq!(
        failure.text,
        format!("mdns is fixed in {}, line 3", path.display())
    );
    assert!(settings.change(&[(Key::Mdns, None)]).is_err());
    assert!(settings.change(&one(Key::ListenPort, "2")).is_err());
    assert_eq!(settings, before);
}

#[test]
fn what_was_unset_is_the_default_again_and_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = load(dir.path(), Vec::new()).unwrap();
    settings.change(&one(Key::Mdns, "off")).unwrap();
    settings.save().unwrap();
    assert!(!load(dir.path(), Vec::new()).unwrap().mdns());
    settings.change(&[(Key::Mdns, None)]).unwrap();
    settings.save().unwrap();
    assert!(load(dir.path(), Vec::new()).unwrap().mdns());
    assert!(!dir.path().join(SAVED).exists());
}

#[test]
fn every_value_is_written_so_that_it_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = load(dir.path(), Vec::new()).unwrap();
    let values = [
        (Key::ListenPort, "65534"),
        (Key::TunName, "a_b-C"),
        (Key::Mdns, "off"),
        (Key::Relay, "off"),
        (Key::RelayRate, "1500kbit/s"),
        (Key::Punch, "gentle"),
        (Key::Operator, "root"),
        (Key::GroupRights, "look"),
    ];
    for (key, value) in values {
        settings.change(&one(key, value)).unwrap();
    }
    settings.save().unwrap();
    let back = load(dir.path(), Vec::new()).unwrap();
    let wish = CarryWish {
        mode: Carrying::Off,
        rate: Some(187_500),
    };
    assert_eq!((back.carrying(), back.punch()), (wish, Punch::Gentle));
    for (key, value) in values {
        assert_eq!(
            back.get(key).0.map(|setting| setting.value()).as_deref(),
            Some(value)
        );
    }
}

#[test]
fn a_value_that_a_key_cannot_have_is_refused_with_what_it_can_have() {
    for (key, value) in [
        (Key::ListenPort, "0"),
        (Key::ListenPort, "65535"),
        (Key::TunName, "much-too-long-a-name"),
        (Key::TunName, "a/b"),
        (Key::Mdns, "maybe"),
        (Key::Relay, "maybe"),
        (Key::RelayRate, "20"),
        (Key::RelayRate, "99kbit/s"),
        (Key::RelayRate, "2Gbit/s"),
        (Key::Punch, "hard"),
        (Key::Operator, "a\"b"),
        (Key::GroupRights, "administer"),
    ] {
        let failure = Setting::parse(key, value).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage, "{key} {value}");
        assert!(failure.hints[0].starts_with(&format!("{key} is ")));
    }
    let failure = Key::parse("private").unwrap_err();
    assert_eq!(failure.text, "private is no setting");
    assert_eq!(
        failure.hints,
        [
            "there are listen-port, tun-name, mdns, port-mapping, proxy, relay, relay-rate, \
             punch, operator, group-rights"
        ]
    );
}

#[test]
fn an_operator_must_be_a_person_of_this_machine() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = load(dir.path(), Vec::new()).unwrap();
    let failure = settings
        .change(&one(Key::Operator, "no-such-user-here"))
        .unwrap_err();
    assert_eq!(failure.text, "this machine has no user no-such-user-here");
    settings.change(&one(Key::Operator, "root")).unwrap();
    assert_eq!(settings.operator(), Some(Uid::from_raw(0)));
    // One that went away since has no rights, and nobody else gets them.
    fs::write(dir.path().join("operator"), "1000\n").unwrap();
    fs::write(
        dir.path().join("main.toml"),
        "operator = \"no-such-user-here\"\n",
    )
    .unwrap();
    assert_eq!(load(dir.path(), Vec::new()).unwrap().operator(), None);
}

#[test]
fn a_wrong_line_by_hand_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for (text, line) in [
        ("mdns = true\nrelay = 1\n", 2),
        ("mdns = maybe\n", 1),
        ("\nlisten-port = 1.5\n", 2),
        ("mdns = true\nmdns = false\n", 2),
        ("[mdns]\n", 1),
    ] {
        fs::write(dir.path().join("main.toml"), text).unwrap();
        let failure = load(dir.path(), Vec::new()).unwrap_err();
        assert_eq!(failure.exit, Exit::Refused);
        let named = format!("main.toml, line {line}: ");
        assert!(failure.text.contains(&named), "{text:?}: {}", failure.text);
    }
}
