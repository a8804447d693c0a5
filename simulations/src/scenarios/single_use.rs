//! Soon.

use crate::world::{Broken, World};

pub(super) fn run(world: &mut World, nodes: usize) -> Result<(), Broken> {
    super::town::grow(world, nodes).map(|_| ())
}
