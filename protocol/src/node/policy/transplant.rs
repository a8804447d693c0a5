//! Does to one policy what somebody did to another.

use std::collections::BTreeMap;

use crate::policy::{Policy, Terms};

/// What `now` becomes by the step from `before` to `after`; `None`: the same thing was changed in another way.
pub(super) fn transplant(before: &Policy, after: &Policy, now: &Policy) -> Option<Policy> {
    let mut rules = list(&before.rules, &after.rules, &now.rules)?;
    // In the text, acls stand before grants.
    rules.sort_by_key(|rule| match rule.terms {
        Terms::Acl { .. } => 0,
        Terms::Grant { .. } => 1,
    });
    Some(Policy {
        groups: map(&before.groups, &after.groups, &now.groups)?,
        tag_owners: map(&before.tag_owners, &after.tag_owners, &now.tag_owners)?,
        hosts: map(&before.hosts, &after.hosts, &now.hosts)?,
        nodes: map(&before.nodes, &after.nodes, &now.nodes)?,
        rules,
        tests: list(&before.tests, &after.tests, &now.tests)?,
        notes: map(&before.notes, &after.notes, &now.notes)?,
    })
}

fn map<K: Ord + Clone, V: PartialEq + Clone>(
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
    now: &BTreeMap<K, V>,
) -> Option<BTreeMap<K, V>> {
    let mut changed = now.clone();
    for key in before.keys().chain(after.keys()) {
        let (old, new) = (before.get(key), after.get(key));
        if old == new || now.get(key) == new {
            continue;
        }
        if now.get(key) != old {
            return None;
        }
        match new {
            Some(value) => drop(changed.insert(key.clone(), value.clone())),
            None => drop(changed.remove(key)),
        }
    }
    Some(changed)
}

/// Entries go and come; one that was to become another, and that somebody else changed, is no simple matter.
fn list<T: PartialEq + Clone>(before: &[T], after: &[T], now: &[T]) -> Option<Vec<T>> {
    let mut changed = now.to_vec();
    let mut lost = false;
    for entry in before.iter().filter(|entry| !after.contains(entry)) {
        match changed.iter().position(|other| other == entry) {
            Some(at) => drop(changed.remove(at)),
            None => lost = true,
        }
    }
    let mut added = after.iter();
    for entry in added.by_ref().filter(|entry| !before.contains(entry)) {
        if changed.contains(entry) {
            continue;
        }
        if lost {
            return None;
        }
        changed.push(entry.clone());
    }
    Some(changed)
}
