//! What `verify` says of a set that holds.

use std::collections::BTreeMap;

use meshnode_protocol::authority::Authority;
use meshnode_protocol::history::{Event, events};
use meshnode_protocol::id::NodeId;
use meshnode_protocol::io::Standing;
use meshnode_protocol::name::NodeName;
use meshnode_protocol::view::{View, ViewMember};
use serde_json::{Value, json};

use super::table::Table;
use super::{Style, clean};
use crate::control::history::{Teller, short};
use crate::units;

/// A set that was checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checked<'a> {
    /// Its ops and admits.
    pub(crate) authority: &'a Authority,
    /// What follows from them.
    pub(crate) view: &'a View,
    /// What devices are called.
    pub(crate) names: &'a BTreeMap<NodeId, NodeName>,
    /// How many records there are.
    pub(crate) records: usize,
}

impl Checked<'_> {
    /// For people.
    pub(crate) fn screen(&self, style: Style, width: usize) -> String {
        let genesis = self.authority.genesis();
        let mut text = format!(
            "{} holds: {} ops, {} admits, {} records, every signature and right from the genesis \
             on.\n\n",
            genesis.name,
            self.authority.op_count(),
            self.authority.admits().count(),
            self.records,
        );
        let table = self.members();
        text.push_str(&if style.plain {
            table.plain()
        } else {
            table.render(width, &["ID", "OWNER"])
        });
        text.push('\n');
        let teller = self.teller();
        for (device, revoke) in self.view.revoked() {
            let name = teller.name(device);
            text.push_str(&format!(
                "Out: {name} ({}), by op {}\n",
                device.short(),
                short(revoke)
            ));
        }
        for event in self.void() {
            let line = teller.line(&event);
            let why = line.why_not.unwrap_or_default();
            text.push_str(&format!(
                "Does not count: op {} of {}, {}: {}\n",
                short(&line.id),
                clean(&line.author.name),
                clean(&line.text),
                clean(&why)
            ));
        }
        text.push_str(&format!(
            "Network  {}\nEpoch    {}\nPolicy   {}\nView     {}\n",
            self.authority.network(),
            self.view.epoch().number,
            self.policy(),
            self.view.digest()
        ));
        text
    }

    fn members(&self) -> Table {
        let mut table = Table::new(&["NAME", "ADDRESS", "ROLE", "STANDING", "OWNER", "ID"]);
        for member in self.view.members().values() {
            let role = if member.level.is_admin() {
                format!("admin, level {}", member.level.0)
            } else {
                "member".to_owned()
            };
            let standing = match member.expires {
                Some(expires) => {
                    format!("{}, until {}", standing(member), units::local_time(expires))
                }
                None => standing(member).to_owned(),
            };
            table.row(vec![
                member.name.to_string(),
                member
                    .ipv4
                    .map_or_else(|| member.ipv6.to_string(), |ipv4| ipv4.to_string()),
                role,
                standing,
                member
                    .owner
                    .as_ref()
                    .map_or("-", |owner| owner.as_str())
                    .to_owned(),
                member.id.short(),
            ]);
        }
        table
    }

    fn policy(&self) -> String {
        let policy = self.view.policy();
        match (policy.exists, policy.base) {
            (false, _) => "none: all members reach each other".to_owned(),
            (true, None) => "cannot be built: all is denied".to_owned(),
            (true, Some(base)) => {
                let missing = match policy.missing.len() {
                    0 => String::new(),
                    missing => format!(", {missing} texts are not here"),
                };
                format!(
                    "base {} and {} changes{missing}",
                    short(&base),
                    policy.changes.len()
                )
            }
        }
    }

    /// As one object.
    pub(crate) fn json(&self) -> String {
        let genesis = self.authority.genesis();
        let epoch = self.view.epoch();
        let policy = self.view.policy();
        let heads = self.authority.heads();
        let members = self.view.members().values();
        let revoked = self.view.revoked().iter();
        let value = json!({
            "schema": 1,
            "ok": true,
            "network": {
                "name": genesis.name.as_str(),
                "id": self.authority.network().to_string(),
                "genesis": self.authority.realm().genesis.to_string(),
            },
            "ops": self.authority.op_count(),
            "admits": self.authority.admits().count(),
            "records": self.records,
            "heads": heads.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "epoch": epoch.number,
            "epoch_op": epoch.op.to_string(),
            "policy": {
                "exists": policy.exists,
                "base": policy.base.map(|base| base.to_string()),
                "changes": policy.changes.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "missing": policy.missing.len(),
            },
            "view": self.view.digest().to_string(),
            "members": members.map(member_json).collect::<Vec<_>>(),
            "revoked": revoked
                .map(|(device, op)| json!({
                    "id": device.to_string(),
                    "name": self.names.get(device).map(NodeName::as_str),
                    "op": op.to_string(),
                }))
                .collect::<Vec<_>>(),
            "void": self.void().iter().map(|event| self.void_json(event)).collect::<Vec<_>>(),
        });
        format!("{value}\n")
    }

    fn void(&self) -> Vec<Event<'_>> {
        let mut events = events(self.authority, self.view, 0);
        events.retain(|event| event.why_not.is_some());
        events
    }

    fn void_json(&self, event: &Event<'_>) -> Value {
        let line = self.teller().line(event);
        json!({
            "id": line.id.to_string(),
            "kind": line.kind,
            "author": {"id": line.author.id.map(|id| id.to_string()), "name": line.author.name},
            "why_not": line.why_not,
        })
    }

    const fn teller(&self) -> Teller<'_> {
        Teller {
            authority: self.authority,
            names: self.names,
        }
    }
}

fn member_json(member: &ViewMember) -> Value {
    json!({
        "id": member.id.to_string(),
        "name": member.name.as_str(),
        "level": member.level.0,
        "role": if member.level.is_admin() { "admin" } else { "member" },
        "standing": standing(member),
        "ipv4": member.ipv4,
        "ipv6": member.ipv6,
        "owner": member.owner.as_ref().map(|owner| owner.as_str()),
        "tags": member.tags.as_slice().iter().map(|tag| tag.as_str()).collect::<Vec<_>>(),
        "expires_at": member.expires.map(units::rfc3339),
    })
}

const fn standing(member: &ViewMember) -> &'static str {
    match member.standing {
        Standing::Settled => "settled",
        Standing::Provisional => "provisional",
        Standing::Pending => "pending",
        Standing::Quarantined => "quarantined",
    }
}
