//! What a person at a terminal sees.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

#[test]
fn ctrl_c_while_a_phrase_is_typed_gives_the_terminal_back() {
    let program = env!("CARGO_BIN_EXE_meshnode");
    let typed = format!("trap : INT; {program} -q recovery check; echo code $?; stty -a");
    let mut terminal = Command::new("script")
        .args(["-qec", &typed, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut shown = String::new();
    let mut screen = BufReader::new(terminal.stdout.take().unwrap());
    let mut keys = terminal.stdin.take().unwrap();
    let mut question = Vec::new();
    screen.read_until(b':', &mut question).unwrap();
    assert!(String::from_utf8_lossy(&question).starts_with("Recovery phrase"));
    keys.write_all(b"secret words\x03").unwrap();
    screen.read_to_string(&mut shown).unwrap();
    terminal.wait().unwrap();
    assert!(shown.contains("code 130"), "{shown}");
    assert!(
        shown.contains(" echo ") && !shown.contains("secret"),
        "{shown}"
    );
}
