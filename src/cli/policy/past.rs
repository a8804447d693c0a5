//! TIME or VERSION: the policy as it was.

use meshnode_protocol::id::OpId;
use meshnode_protocol::time::Timestamp;

use super::{ask, changes, parse_version};
use crate::cli::session::{Session, unexpected};
use crate::clock::Clock;
use crate::control::policy::{Change, PolicyAsk, PolicyShown, PolicyTold};
use crate::failure::{Exit, Failure};
use crate::units;

/// When.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// After the change with this number.
    Version(usize),
    /// After the last change that is said to be from this time or before.
    Time(Timestamp),
}

/// The flag of the verbs that read.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(super) struct At {
    /// The policy as it was: v3, 2026-11-20T19:04, or 24h (that long ago)
    #[arg(long = "at", value_name = "TIME|VERSION", value_parser = parse)]
    when: Option<When>,
}

impl At {
    /// The op after which the policy was so; `None`: now.
    pub(super) fn op(self, session: &Session) -> Result<Option<OpId>, Failure> {
        let Some(when) = self.when else {
            return Ok(None);
        };
        Ok(Some(find(when, &changes(session)?)?.op))
    }

    /// The number of that change; `None`: now.
    pub(super) fn version(self, session: &Session) -> Result<Option<usize>, Failure> {
        let Some(when) = self.when else {
            return Ok(None);
        };
        Ok(Some(find(when, &changes(session)?)?.version))
    }

    /// The policy then.
    pub(super) fn shown(self, session: &Session) -> Result<PolicyShown, Failure> {
        shown(self.op(session)?, session)
    }
}

/// The policy after an op; `None`: now.
pub(super) fn shown(at: Option<OpId>, session: &Session) -> Result<PolicyShown, Failure> {
    let PolicyTold::Shown(shown) = ask(PolicyAsk::Show { at }, session)? else {
        return Err(unexpected());
    };
    Ok(*shown)
}

/// The change with a number, or the last before a time.
pub(super) fn find(when: When, changes: &[Change]) -> Result<&Change, Failure> {
    match when {
        When::Version(version) => {
            let mut all = changes.iter();
            all.find(|change| change.version == version).ok_or_else(|| {
                let text = format!("the policy has no version {version}");
                Failure::new(Exit::Usage, "unknown_version", text)
                    .hint("meshnode policy log lists them")
            })
        }
        When::Time(time) => {
            let mut newest_first = changes.iter().rev();
            newest_first
                .find(|change| change.said <= time)
                .ok_or_else(|| {
                    let then = units::local_time(time);
                    let text =
                        format!("there was no policy at {then}: all members reached each other");
                    Failure::new(Exit::Usage, "no_policy_then", text)
                        .hint("meshnode policy log lists its changes")
                })
        }
    }
}

fn parse(text: &str) -> Result<When, String> {
    if let Ok(version) = parse_version(text) {
        return Ok(When::Version(version));
    }
    let now = Clock::new().now().wall;
    let time = units::parse_time(text).map(|word| When::Time(word.before(now)));
    time.map_err(|_| {
        format!(
            "{} is no version and no time: write v3, 24h or 2026-11-20T19:04",
            text.escape_default()
        )
    })
}

#[cfg(test)]
mod tests {
    use meshnode_protocol::id::OpId;

    use super::*;
    use crate::control::policy::ChangeState;

    fn change(version: usize, said: u64) -> Change {
        Change {
            version,
            op: OpId::new([u8::try_from(version).unwrap(); 32]),
            base: false,
            author: None,
            said: Timestamp::from_ms(said),
            heard: None,
            state: ChangeState::InForce,
        }
    }

    #[test]
    fn a_time_means_the_last_change_before_it() {
        let changes = [change(1, 100), change(2, 300), change(3, 200)];
        let at = |ms| find(When::Time(Timestamp::from_ms(ms)), &changes).map(|found| found.version);
        assert_eq!(at(100).unwrap(), 1);
        assert_eq!(at(150).unwrap(), 1);
        assert_eq!(at(250).unwrap(), 3);
        assert_eq!(at(9999).unwrap(), 3);
        assert_eq!(at(99).unwrap_err().code, "no_policy_then");
        assert_eq!(find(When::Version(2), &changes).unwrap().said.ms(), 300);
        let unknown = find(When::Version(4), &changes).unwrap_err();
        assert_eq!(
            (unknown.exit, unknown.code),
            (Exit::Usage, "unknown_version".into())
        );
    }

    #[test]
    fn versions_and_times_are_told_apart() {
        assert_eq!(parse("v3"), Ok(When::Version(3)));
        assert_eq!(parse("12"), Ok(When::Version(12)));
        assert!(matches!(parse("24h"), Ok(When::Time(_))));
        assert!(matches!(parse("2026-11-20T19:04"), Ok(When::Time(_))));
        assert!(parse("yesterday").is_err());
    }
}
