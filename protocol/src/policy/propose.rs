//! Turns the document into a wanted policy by the smallest edit, and makes bases.

use std::collections::{BTreeMap, BTreeSet};

use automerge::Automerge;
use rand_core::CryptoRng;

use super::Policy;
use super::document::Document;
use super::image::{Image, Scalar, Section, images};
use super::layout::Held;
use super::order::{POSITION_STEP, pair, positions};
use super::write::{Step, write};
use crate::id::{NodeId, base32};
use crate::limits::{POLICY_BASE_BYTES_MAX, POLICY_EDIT_BYTES_MAX};

/// Random bytes of an id.
const ID_BYTES: usize = 8;

/// What leads to a wanted policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proposal {
    /// The document says so already.
    Nothing,
    /// An edit, for a Policy op.
    Edit(Vec<u8>),
    /// The change is too large for an edit: a base, for a `PolicyBase` op.
    Base(Vec<u8>),
}

/// What becomes of entries in trouble that a wanted policy does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Troubles {
    /// They stay: for an edit of something else.
    Keep,
    /// They go: for an edit of the whole.
    Settle,
}

/// A policy that fits no base.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the policy takes {bytes} bytes, and {max} are the most")]
pub struct TooLarge {
    /// What it takes.
    pub bytes: usize,
    /// The most there may be.
    pub max: usize,
}

impl Document {
    /// The smallest edit after which the document says `wanted`. Entries that are the same keep their ids and their
    /// history; what is in trouble and is not in `wanted` goes or stays as asked, what is in `wanted` is settled.
    ///
    /// # Errors
    /// When not even a base could hold the policy.
    pub fn propose<R: CryptoRng>(
        &self,
        wanted: &Policy,
        troubles: Troubles,
        author: &NodeId,
        rng: &mut R,
    ) -> Result<Proposal, TooLarge> {
        let steps = self.steps(wanted, troubles, rng);
        if steps.is_empty() {
            return Ok(Proposal::Nothing);
        }
        let automerge = self.automerge.clone();
        let edit = write(automerge, &steps, author, rng);
        if edit.len() <= POLICY_EDIT_BYTES_MAX {
            return Ok(Proposal::Edit(edit));
        }
        Self::base_for(wanted, author, rng).map(Proposal::Base)
    }

    /// A base that says a policy.
    ///
    /// # Errors
    /// When it would be larger than a base may be.
    pub fn base_for<R: CryptoRng>(
        policy: &Policy,
        author: &NodeId,
        rng: &mut R,
    ) -> Result<Vec<u8>, TooLarge> {
        let entries = positioned(images(policy));
        let steps: Vec<_> = entries
            .into_iter()
            .map(|image| create(image, rng))
            .collect();
        base_of(&steps, author, rng)
    }

    /// A base that says what this document says without its history: same entries, same ids. What is in trouble is
    /// left out.
    ///
    /// # Errors
    /// When it would be larger than a base may be.
    pub fn rebase<R: CryptoRng>(&self, author: &NodeId, rng: &mut R) -> Result<Vec<u8>, TooLarge> {
        let reading = self.read();
        let mut left: BTreeMap<Section, Vec<Held>> = BTreeMap::new();
        for section in Section::ALL {
            left.insert(section, self.held(section));
        }
        let mut steps = Vec::new();
        for image in positioned(images(&reading.policy)) {
            let held = left.get_mut(&image.section).expect("every section is held");
            let same = held
                .iter()
                .position(|held| held.image.fields.get(about_of(held)) == Some(image.about()));
            let mut step = create(image, rng);
            if let (Some(same), Step::Create { id, image, .. }) = (same, &mut step) {
                let held = held.swap_remove(same);
                *id = held.id;
                if !image.section.keyed() {
                    image.fields.insert("pos", Scalar::Number(held.position));
                }
            }
            steps.push(step);
        }
        base_of(&steps, author, rng)
    }

    fn steps<R: CryptoRng>(&self, wanted: &Policy, troubles: Troubles, rng: &mut R) -> Vec<Step> {
        let present = self.read();
        let mut steps = Vec::new();
        let mut by_section: BTreeMap<Section, Vec<Image>> = BTreeMap::new();
        for image in images(wanted) {
            by_section.entry(image.section).or_default().push(image);
        }
        // A section that says what is wanted is left alone.
        let said = images(&present.policy);
        for section in Section::ALL {
            let wanted = by_section.remove(&section).unwrap_or_default();
            let said = said.iter().filter(|image| image.section == section);
            let troubled = present.troubled(section);
            if said.eq(&wanted) && (troubles == Troubles::Keep || troubled.is_empty()) {
                continue;
            }
            let mut held = self.held(section);
            if troubles == Troubles::Keep {
                let named: BTreeSet<_> = wanted.iter().map(Image::about).collect();
                held.retain(|held| {
                    let about = held.image.fields.get(about_of(held));
                    let named = section.keyed() && about.is_some_and(|about| named.contains(about));
                    named || !troubled.contains(held.id.as_str())
                });
            }
            if section.keyed() {
                keyed_steps(section, held, wanted, &mut steps, rng);
            } else {
                ordered_steps(section, held, wanted, &mut steps, rng);
            }
        }
        steps
    }
}

fn about_of(held: &Held) -> &'static str {
    held.image.section.fields()[0]
}

/// Entries that are told apart by what they are about: one for each stays, and becomes what is wanted.
fn keyed_steps<R: CryptoRng>(
    section: Section,
    held: Vec<Held>,
    wanted: Vec<Image>,
    steps: &mut Vec<Step>,
    rng: &mut R,
) {
    let mut by_about: BTreeMap<Scalar, Held> = BTreeMap::new();
    for held in held {
        let about = held.image.fields.get(about_of(&held)).cloned();
        let id = held.id.clone();
        let sound = held.say().is_some() || !held.contested.is_empty();
        match about {
            Some(about) if sound && !by_about.contains_key(&about) => {
                by_about.insert(about, held);
            }
            Some(_) | None => steps.push(Step::Delete { section, id }),
        }
    }
    for image in wanted {
        match by_about.remove(image.about()) {
            Some(held) => become_image(&held, &image, steps, rng),
            None => steps.push(create(image, rng)),
        }
    }
    let rest = by_about.into_values();
    steps.extend(rest.map(|held| Step::Delete {
        section,
        id: held.id,
    }));
}

/// Rules and tests: the same stay, the similar become what is wanted, the others go or come.
fn ordered_steps<R: CryptoRng>(
    section: Section,
    mut held: Vec<Held>,
    wanted: Vec<Image>,
    steps: &mut Vec<Step>,
    rng: &mut R,
) {
    held.sort_by(|a, b| (a.position, &a.id).cmp(&(b.position, &b.id)));
    let (sound, broken): (Vec<_>, Vec<_>) = held.into_iter().partition(|held| held.say().is_some());
    steps.extend(broken.into_iter().map(|held| Step::Delete {
        section,
        id: held.id,
    }));
    let pairs = pair(&sound, &wanted);
    let positions = positions(&pairs, &sound);
    let kept: BTreeSet<usize> = pairs.iter().flatten().copied().collect();
    for ((mut image, pair), position) in wanted.into_iter().zip(pairs).zip(positions) {
        image.fields.insert("pos", Scalar::Number(position));
        match pair {
            Some(held) => become_image(&sound[held], &image, steps, rng),
            None => steps.push(create(image, rng)),
        }
    }
    for (index, held) in sound.into_iter().enumerate() {
        if !kept.contains(&index) {
            let id = held.id;
            steps.push(Step::Delete { section, id });
        }
    }
}

/// Entries with positions, as if nothing was there before.
fn positioned(images: Vec<Image>) -> Vec<Image> {
    let mut next = POSITION_STEP;
    let mut images = images;
    for image in images.iter_mut().filter(|image| !image.section.keyed()) {
        image.fields.insert("pos", Scalar::Number(next));
        next += POSITION_STEP;
    }
    images
}

/// The steps from an entry to what is wanted of it.
fn become_image<R: CryptoRng>(held: &Held, image: &Image, steps: &mut Vec<Step>, rng: &mut R) {
    let section = image.section;
    let id = || held.id.clone();
    for field in section.fields() {
        let position = Scalar::Number(held.position);
        let old = match *field {
            "pos" => Some(&position),
            field => held.image.fields.get(field),
        };
        match image.fields.get(field) {
            Some(value) if old == Some(value) && !held.contested.contains_key(field) => {}
            Some(value) => steps.push(Step::Put {
                section,
                id: id(),
                field,
                value: value.clone(),
            }),
            None if old.is_some() => steps.push(Step::Remove {
                section,
                id: id(),
                field,
            }),
            None => {}
        }
    }
    for text in image.set.difference(&held.image.set) {
        steps.push(Step::Join {
            section,
            id: id(),
            member: new_id(rng),
            text: text.clone(),
        });
    }
    for (member, text) in &held.set {
        if !image.set.contains(text) {
            let member = member.clone();
            let id = id();
            steps.push(Step::Part {
                section,
                id,
                member,
            });
        }
    }
}

fn create<R: CryptoRng>(image: Image, rng: &mut R) -> Step {
    let members = image.set.iter().map(|text| (new_id(rng), text.clone()));
    Step::Create {
        members: members.collect(),
        id: new_id(rng),
        image,
    }
}

fn new_id<R: CryptoRng>(rng: &mut R) -> String {
    let mut bytes = [0; ID_BYTES];
    rng.fill_bytes(&mut bytes);
    base32(&bytes)
}

fn base_of<R: CryptoRng>(
    steps: &[Step],
    author: &NodeId,
    rng: &mut R,
) -> Result<Vec<u8>, TooLarge> {
    let base = write(Automerge::new(), steps, author, rng);
    let (bytes, max) = (base.len(), POLICY_BASE_BYTES_MAX);
    if bytes <= max {
        Ok(base)
    } else {
        Err(TooLarge { bytes, max })
    }
}
