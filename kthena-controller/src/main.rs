//! The Kthena controller manager.
fn main() {}
