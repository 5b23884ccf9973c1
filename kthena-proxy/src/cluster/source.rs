//! Where objects come from.

pub mod files;
pub mod kubernetes;
pub mod manifest;
