//! The plugins there are.

mod least_request;

pub use least_request::LeastRequest;

/// A plugin under its name in the router's configuration file.
#[derive(Debug, Clone, Copy)]
pub struct Registration {
    /// The name.
    pub name: &'static str,
    /// Makes the scorer.
    pub scorer: fn() -> Box<dyn super::Score>,
}

/// Every plugin.
pub const ALL: &[Registration] = &[least_request::PLUGIN];
