//! What those need to know of the controller manager who give it an account.

#![warn(missing_docs)]

pub mod rbac;
