//! What does not go out after a write that failed: promises that would rest on it.

use meshnode_protocol::io::{Output, Refusal, Reply};
use meshnode_protocol::link::{CallId, LinkOutput};

/// The sieve for the outputs of one drain: open until a write fails, then tight to its end.
#[derive(Debug, Default)]
pub(super) struct Withheld {
    failure: Option<String>,
    /// Questions that were not asked; the core waits for their end.
    unasked: Vec<CallId>,
}

impl Withheld {
    /// A write failed, for this reason: whatever follows it is sifted.
    pub(super) fn fail(&mut self, reason: String) {
        self.failure = Some(reason);
    }

    /// What is to be done in place of `output`; `None`: nothing.
    pub(super) fn sift(&mut self, output: Output) -> Option<Output> {
        let Some(reason) = &self.failure else {
            return Some(output);
        };
        match output {
            Output::Link(output) => self.sift_link(output).map(Output::Link),
            Output::Reply(id, reply) => Some(Output::Reply(id, sift_reply(reply, reason))),
            Output::Persist { .. }
            | Output::Peer(_)
            | Output::Datagram { .. }
            | Output::Interface(_)
            | Output::Filter(_)
            | Output::Relays(_)
            | Output::Carry(_)
            | Output::Sockets(_)
            | Output::TunnelKey
            | Output::Notice(_)
            | Output::Erase => Some(output),
        }
    }

    fn sift_link(&mut self, output: LinkOutput) -> Option<LinkOutput> {
        match output {
            LinkOutput::Answer { answer, .. } => Some(LinkOutput::Refuse { answer }),
            LinkOutput::Ask { call, .. } => {
                self.unasked.push(call);
                None
            }
            LinkOutput::Publish(_) | LinkOutput::Put { .. } => None,
            LinkOutput::Dial { .. }
            | LinkOutput::DialBy { .. }
            | LinkOutput::Homes(_)
            | LinkOutput::Relaying(_)
            | LinkOutput::Carry { .. }
            | LinkOutput::Refuse { .. }
            | LinkOutput::HangUp { .. }
            | LinkOutput::Trust { .. }
            | LinkOutput::Distrust { .. }
            | LinkOutput::Topic(_)
            | LinkOutput::Verdict { .. }
            | LinkOutput::Neighbours(_)
            | LinkOutput::Get { .. } => Some(output),
        }
    }

    /// The questions that were not asked.
    pub(super) fn into_unasked(self) -> Vec<CallId> {
        self.unasked
    }
}

fn sift_reply(reply: Reply, reason: &str) -> Reply {
    match reply {
        Reply::Invited(_)
        | Reply::Joined(_)
        | Reply::Imported(_)
        | Reply::Blocked(_)
        | Reply::RelayChanged(_)
        | Reply::Acted(_)
        | Reply::PolicyKept
        | Reply::Rotated { .. } => Reply::Refused(Refusal::Disk(reason.to_owned())),
        // A farewell comes with the erasure, which needs no room: it is true.
        Reply::Left { .. }
        | Reply::Pong { .. }
        | Reply::Silence { .. }
        | Reply::PingDone
        | Reply::Joining(_)
        | Reply::Heard(_)
        | Reply::HeardDone { .. }
        | Reply::Pending(_)
        | Reply::Invites(_)
        | Reply::Admins(_)
        | Reply::Petition(_)
        | Reply::Card(_)
        | Reply::Relays(_)
        | Reply::Policy(_)
        | Reply::PolicyChecked(_)
        | Reply::PolicyExplained(_)
        | Reply::PolicyDiff(_)
        | Reply::PolicyLog(_)
        | Reply::PolicyDraft(_)
        | Reply::PolicyBlame(_)
        | Reply::Refused(_) => reply,
    }
}

#[cfg(test)]
mod tests {
    use meshnode_protocol::id::{OpId, TransportKey};
    use meshnode_protocol::identity::Secret;
    use meshnode_protocol::io::{CommandId, Invited};
    use meshnode_protocol::link::{AnswerId, Service};
    use meshnode_protocol::time::Timestamp;

    use super::*;

    fn invited() -> Reply {
        Reply::Invited(Box::new(Invited {
            code: Some("code".to_owned().into()),
            id: OpId::ZERO,
            expires: Timestamp::from_ms(0),
            uses: 1,
            approve: false,
            hints: Vec::new(),
            via: None,
            heard: (0, 0),
            policy: None,
        }))
    }

    fn promises() -> Vec<Output> {
        let (answer, call) = (AnswerId(1), CallId(2));
        let (peer, bytes) = (
            TransportKey::new(Secret::from_seed(&[1; 32]).public()),
            vec![1],
        );
        let service = Service::Sync;
        vec![
            Output::Link(LinkOutput::Answer {
                answer,
                bytes: bytes.clone(),
            }),
            Output::Link(LinkOutput::Ask {
                call,
                peer,
                service,
                bytes,
            }),
            Output::Link(LinkOutput::Publish(vec![1])),
            Output::Reply(CommandId(3), invited()),
            Output::Reply(CommandId(4), Reply::Left { heard: 0, of: 1 }),
        ]
    }

    #[test]
    fn before_a_failure_everything_goes_out_as_it_is() {
        let mut withheld = Withheld::default();
        let sifted: Vec<_> = promises()
            .into_iter()
            .filter_map(|output| withheld.sift(output))
            .collect();
        assert_eq!(format!("{sifted:?}"), format!("{:?}", promises()));
        assert_eq!(withheld.into_unasked(), []);
    }

    #[test]
    fn after_a_failed_write_no_promise_goes_out_and_callers_are_refused() {
        let mut withheld = Withheld::default();
        withheld.fail("full".to_owned());
        let sifted: Vec<_> = promises()
            .into_iter()
            .filter_map(|output| withheld.sift(output))
            .collect();
        let answer = AnswerId(1);
        let refused = Reply::Refused(Refusal::Disk("full".to_owned()));
        let expected = [
            Output::Link(LinkOutput::Refuse { answer }),
            Output::Reply(CommandId(3), refused),
            Output::Reply(CommandId(4), Reply::Left { heard: 0, of: 1 }),
        ];
        assert_eq!(format!("{sifted:?}"), format!("{expected:?}"));
        assert_eq!(withheld.into_unasked(), [CallId(2)]);
    }
}
