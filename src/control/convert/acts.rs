//! Acts of admins, in the words of the control socket and of the core.

use meshnode_protocol::body::{Kind, Level, Tags};
use meshnode_protocol::io::{self, Command};
use meshnode_protocol::recovery::RecoveryPhrase;

use crate::control::acts::{
    Act, ActRequest, Acted, Admin, Approval, Fallen, HeardBy, HeardDone, InviteReport, InviteState,
    Petition, Plan, Recovery, Revoke, Signed, Since, Unreached, Waiting,
};
use crate::control::{Response, SecretText};
use crate::failure::Failure;

/// The command for an act. Stretching a phrase takes a while.
///
/// # Errors
/// When a phrase or a list of tags is not one.
pub(crate) fn command(request: ActRequest) -> Result<Command, Failure> {
    let act = io::Act {
        dry_run: request.dry_run,
        wait_ms: request.wait_ms,
    };
    Ok(match request.act {
        Act::Revoke(revoke) => Command::Revoke(Box::new(revocation(revoke, act)?)),
        Act::Approve(joiners) => Command::Approve {
            joiners: joiners
                .into_iter()
                .map(approval)
                .collect::<Result<_, _>>()?,
            act,
        },
        Act::Deny { joiners, reason } => Command::Deny {
            joiners,
            reason,
            act,
        },
        Act::InviteCancel(invites) => Command::InviteCancel { invites, act },
        Act::AdminAdd(node) => Command::AdminAdd { node, act },
        Act::AdminRemove(node) => Command::AdminRemove { node, act },
        Act::RecoveryUse(recovery) => Command::RecoveryUse(Box::new(recover(recovery, act)?)),
        Act::RotateNetwork => Command::RotateNetwork { act },
        Act::PolicySet { text, expect } => {
            Command::PolicySet(Box::new(io::PolicyText { text, expect, act }))
        }
        Act::PolicyTry {
            text,
            expect,
            for_ms,
        } => {
            let wanted = io::PolicyText { text, expect, act };
            Command::PolicyTry(Box::new(io::PolicyTrial { wanted, for_ms }))
        }
        Act::PolicyRollback(op) => Command::PolicyRollback { op, act },
    })
}

fn revocation(revoke: Revoke, act: io::Act) -> Result<io::RevokeOptions, Failure> {
    let recovery = match revoke.phrases.as_slice() {
        [] => None,
        phrases => Some(roots(phrases)?),
    };
    Ok(io::RevokeOptions {
        nodes: revoke.nodes,
        owner: revoke.owner,
        reason: revoke.reason,
        since: revoke.since.map(since),
        stolen: revoke.stolen,
        recovery,
        act,
    })
}

const fn since(since: Since) -> io::Since {
    match since {
        Since::Time(time) => io::Since::Time(time),
        Since::Op(op) => io::Since::Op(op),
    }
}

fn approval(approval: Approval) -> Result<io::Approval, Failure> {
    let tags = approval.tags.map(Tags::new).transpose();
    Ok(io::Approval {
        device: approval.device,
        name: approval.name,
        tags: tags.map_err(|_| Failure::usage("a node has at most 16 tags"))?,
        owner: approval.owner,
    })
}

fn recover(recovery: Recovery, act: io::Act) -> Result<io::RecoveryOptions, Failure> {
    Ok(io::RecoveryOptions {
        roots: roots(&recovery.phrases)?,
        petition: recovery.petition.map(petition),
        lost: recovery.lost,
        since: recovery.since.map(since),
        stolen: recovery.stolen,
        act,
    })
}

/// A petition as it came in a file: who signed it is in its bytes.
pub(crate) const fn petition(bytes: Vec<u8>) -> io::Petition {
    io::Petition {
        bytes,
        signed: 0,
        threshold: 0,
    }
}

/// The root keys of phrases.
///
/// # Errors
/// When a text is no phrase.
pub(crate) fn roots(phrases: &[SecretText]) -> Result<io::Roots, Failure> {
    let key = |text: &SecretText| RecoveryPhrase::parse(text.reveal()).map(|p| p.root_key());
    let keys: Result<Vec<_>, _> = phrases.iter().map(key).collect();
    keys.map(io::Roots::new)
        .map_err(|error| Failure::usage(error.to_string()))
}

/// What an act signed.
pub(super) fn acted(acted: io::Acted) -> Response {
    let signed = |op: io::Signed| Signed {
        id: op.id,
        kind: kind(op.kind).to_owned(),
        subject: op.subject,
        said: op.said,
    };
    Response::Acted(Box::new(Acted {
        ops: acted.ops.into_iter().map(signed).collect(),
        plan: plan(acted.plan),
        dry_run: acted.dry_run,
        of: acted.of,
    }))
}

/// The word for a kind of op.
pub(crate) const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::GENESIS => "genesis",
        Kind::GRANT => "grant",
        Kind::REVOKE => "revoke",
        Kind::INVITE => "invite",
        Kind::INVITE_CLOSE => "invite-close",
        Kind::POLICY => "policy",
        Kind::POLICY_BASE => "policy-base",
        Kind::REKEY => "rekey",
        Kind::NOOP => "merge",
        Kind(_) => "unknown",
    }
}

fn plan(plan: io::Plan) -> Plan {
    let names = |pairs: Vec<(_, _)>| pairs.into_iter().map(|(_, name)| name).collect();
    let fallen = |fallen| match fallen {
        io::Fallen::Member(_, name) => Fallen::Member(name),
        io::Fallen::Admin(_, name) => Fallen::Admin(name),
        io::Fallen::Invite(op) => Fallen::Invite(op),
        io::Fallen::Revocation(_, name) => Fallen::Revocation(name),
        io::Fallen::Policy(op) => Fallen::Policy(op),
    };
    Plan {
        out: names(plan.out),
        falls: plan.falls.into_iter().map(fallen).collect(),
        granted_again: names(plan.granted_again),
        spared: plan.spared,
        kept: plan.kept,
        epoch: plan.epoch,
        admin: plan.admin.map(|(name, Level(level))| (name, level)),
    }
}

/// One more node heard the act.
pub(super) fn heard(heard: io::HeardBy) -> Response {
    Response::Heard(HeardBy {
        id: heard.id,
        name: heard.name,
        ms: heard.ms,
    })
}

/// The wait is over.
pub(super) fn heard_done(heard: usize, of: usize, unreached: Vec<io::Unreached>) -> Response {
    let unreached = unreached.into_iter().map(|node| Unreached {
        id: node.id,
        name: node.name,
        last_seen_s: node.last_seen_ms.map(|ms| ms / 1000),
    });
    Response::HeardDone(HeardDone {
        heard,
        of,
        unreached: unreached.collect(),
    })
}

/// Who waits.
pub(super) fn pending(pending: Vec<io::PendingInfo>) -> Response {
    let waiting = pending.into_iter().map(|joiner| Waiting {
        id: joiner.id,
        name: joiner.name,
        fingerprint: joiner.fingerprint,
        invite: joiner.invite,
        witness: joiner.witness,
        since: joiner.since,
        quarantined: joiner.standing == io::Standing::Quarantined,
    });
    Response::Pending(waiting.collect())
}

/// The invites.
pub(super) fn invites(invites: Vec<io::InviteInfo>) -> Response {
    let state = |state| match state {
        io::InviteState::Open => InviteState::Open,
        io::InviteState::Used => InviteState::Used,
        io::InviteState::Expired => InviteState::Expired,
        io::InviteState::Cancelled => InviteState::Cancelled,
    };
    let invites = invites.into_iter().map(|invite| InviteReport {
        id: invite.id,
        state: state(invite.state),
        uses: invite.uses,
        used_by: invite.used_by,
        used: invite.used,
        expires: invite.expires,
        issuer: invite.issuer,
        name: invite.name,
        tags: invite.tags.as_slice().to_vec(),
        approve: invite.approve,
    });
    Response::Invites(invites.collect())
}

/// The admins.
pub(super) fn admins(admins: Vec<io::AdminInfo>) -> Response {
    let admins = admins.into_iter().map(|admin| {
        let Level(level) = admin.level;
        Admin {
            id: admin.id,
            name: admin.name,
            level,
            owner: admin.owner,
            by: admin.by,
            online: admin.online,
            tip: admin.tip,
        }
    });
    Response::Admins(admins.collect())
}

/// What others have to sign.
pub(super) fn to_sign(petition: io::Petition) -> Response {
    Response::Petition(Petition {
        bytes: petition.bytes,
        signed: petition.signed,
        threshold: petition.threshold,
    })
}
