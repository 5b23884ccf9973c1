//! Code generation, checks and tests.
fn main() {}
