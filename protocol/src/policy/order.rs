//! The order of rules and tests: which of the old ones becomes which of the new ones, and where new ones stand.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::image::Image;
use super::layout::Held;

/// Between two neighbours that were written together, so that others fit between them.
pub(super) const POSITION_STEP: u64 = 1 << 20;
/// Which lines of two texts must agree for one to be an edit of the other, the closest likeness first.
const LIKENESS: [&[usize]; 6] = [
    &[0, 1, 2, 3],
    &[0, 1, 2],
    &[0, 1, 3],
    &[0, 2, 3],
    &[0, 1],
    &[0, 2],
];

/// For each wanted entry, the held one that becomes it.
pub(super) fn pair(held: &[Held], wanted: &[Image]) -> Vec<Option<usize>> {
    let mut pairs = vec![None; wanted.len()];
    let mut free: BTreeSet<usize> = (0..held.len()).collect();
    for likeness in LIKENESS {
        let mut alike: BTreeMap<Vec<&str>, VecDeque<usize>> = BTreeMap::new();
        for index in &free {
            let lines = lines_of(&held[*index].image, likeness);
            alike.entry(lines).or_default().push_back(*index);
        }
        for (image, pair) in wanted.iter().zip(&mut pairs) {
            if pair.is_none()
                && let Some(found) = alike
                    .get_mut(&lines_of(image, likeness))
                    .and_then(VecDeque::pop_front)
            {
                *pair = Some(found);
                free.remove(&found);
            }
        }
    }
    pairs
}

fn lines_of<'a>(image: &'a Image, which: &[usize]) -> Vec<&'a str> {
    let text = image.about().text().map_or("", String::as_str);
    let lines: Vec<_> = text.split('\n').collect();
    let picked = which.iter().filter_map(|line| lines.get(*line).copied());
    picked.collect()
}

/// Positions that ascend, with as many of the old ones as can stay.
pub(super) fn positions(pairs: &[Option<usize>], held: &[Held]) -> Vec<u64> {
    let old: Vec<_> = pairs
        .iter()
        .map(|pair| pair.map(|index| held[index].position))
        .collect();
    let stay = longest_ascent(&old);
    let fixed = |index: usize| old[index].filter(|_| stay.contains(&index));
    let mut positions = Vec::with_capacity(old.len());
    let mut index = 0;
    while index < old.len() {
        if let Some(position) = fixed(index) {
            positions.push(position);
            index += 1;
            continue;
        }
        let end = (index..old.len()).find(|next| fixed(*next).is_some());
        let count = (end.unwrap_or(old.len()) - index) as u64;
        let low = positions.last().copied().unwrap_or(0);
        let high = match end.and_then(fixed) {
            Some(high) => Some(high),
            None => POSITION_STEP
                .checked_mul(count + 1)
                .and_then(|room| low.checked_add(room)),
        };
        let step = high.and_then(|high| high.checked_sub(low));
        match step.map(|room| room / (count + 1)) {
            Some(step) if step > 0 => positions.extend((1..=count).map(|n| low + n * step)),
            Some(_) | None => return (1..=old.len() as u64).map(|n| n * POSITION_STEP).collect(),
        }
        index += usize::try_from(count).expect("a count of entries in memory");
    }
    positions
}

/// The places of a longest strictly ascending run of values.
fn longest_ascent(values: &[Option<u64>]) -> BTreeSet<usize> {
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = vec![None; values.len()];
    for (index, value) in values.iter().enumerate() {
        // Nothing ascends from nothing to zero: new entries go in front of the first.
        let Some(value) = value.filter(|value| *value > 0) else {
            continue;
        };
        let place = ends.partition_point(|end| values[*end] < Some(value));
        before[index] = place.checked_sub(1).map(|last| ends[last]);
        if place == ends.len() {
            ends.push(index);
        } else {
            ends[place] = index;
        }
    }
    let mut ascent = BTreeSet::new();
    let mut next = ends.last().copied();
    while let Some(index) = next {
        ascent.insert(index);
        next = before[index];
    }
    ascent
}
