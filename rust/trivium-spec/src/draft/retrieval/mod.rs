//! Drafts from a corpus that was indexed before.

mod datastore;
mod rasd;
mod rest;
mod suffix_array;

pub use datastore::build;
pub use rasd::{Fused, Retrieved, fuse, prune};
pub(crate) use rest::Rest;
