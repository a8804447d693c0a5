//! Who a node is, as an object.

use serde_json::{Value, json};

use super::{line, member, peer};
use crate::control::card::{AdminReport, CardReport, LetInReport, WhoReport};
use crate::control::report::{MemberReport, PeerReport};
use crate::units;

/// The card of a node; without a peer it is this node's own.
pub(crate) fn card(subject: &MemberReport, way: Option<&PeerReport>, card: &CardReport) -> String {
    let mut value = way.map_or_else(|| member(subject), peer);
    value["schema"] = json!(1);
    value["keys"] = json!({
        "device": subject.id.to_string(),
        "transport": card.transport_key,
        "wireguard": card.wireguard_key,
    });
    value["let_in_by"] = let_in(&card.let_in);
    line(&value)
}

fn let_in(let_in: &LetInReport) -> Value {
    let (invite, issuer, witness, settled_by, said) = match let_in {
        LetInReport::Founder { said } => (None, None, None, None, said),
        LetInReport::Invite {
            invite,
            issuer,
            uses: _,
            witness,
            settled_by,
            said,
        } => (
            Some(invite.to_string()),
            issuer.as_ref(),
            Some(witness),
            settled_by.as_ref(),
            said,
        ),
        LetInReport::Grant { by, said } => (None, None, None, by.as_ref(), said),
    };
    json!({
        "founder": matches!(let_in, LetInReport::Founder { .. }),
        "invite": invite,
        "issuer": issuer.map(who),
        "witness": witness.map(who),
        "settled_by": settled_by.map(admin),
        "said_at": units::rfc3339(*said),
        "heard_at": Value::Null,
    })
}

fn who(who: &WhoReport) -> Value {
    json!({"name": who.name.as_ref().map(|name| name.as_str()), "id": who.id.to_string()})
}

fn admin(admin: &AdminReport) -> Value {
    let mut value = who(&admin.who);
    value["level"] = json!(admin.level);
    value["founder"] = json!(admin.founder);
    value["made_admin_by"] = admin.by.as_ref().map_or(Value::Null, who);
    value
}
