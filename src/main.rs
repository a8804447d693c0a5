//! The `meshnode` program.

fn main() {}
