//! Placeholder.
pub mod link;
pub mod ring;
pub mod settings;
