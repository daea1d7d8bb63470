//! Numbers by arithmetic; filled in by the next change.
#![allow(clippy::unused_self)]

use super::expr::{Arena, ExprId};
pub(crate) type NumberId = u32;
#[derive(Debug, Clone, Default)]
pub(crate) struct Numbers {}
impl Numbers {
    pub(crate) fn accepts(&self, _n: NumberId) -> bool {
        false
    }
}
impl Arena {
    pub(super) fn number_steps(&mut self, _n: NumberId) -> Vec<(u8, u8, ExprId)> {
        Vec::new()
    }
}
