//! Refuses patterns whose classes would not fit the byte budget, before they are expanded.
//!
//! `\w` is two bytes of pattern and six kilobytes of ranges: the one place where reading a pattern
//! is not proportional to its length.

use crate::error::{Error, Result};
use crate::limits::CompileLimits;
use regex_syntax::ast::{self, Ast, ClassSetItem, Visitor};

/// Bytes a Unicode class may take, generously.
const CLASS_BYTES: usize = 8192;

struct Counter {
    bytes: usize,
    budget: usize,
}

impl Counter {
    fn add(&mut self, bytes: usize) -> Result<(), usize> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.budget { Err(self.bytes) } else { Ok(()) }
    }
}

impl Visitor for Counter {
    type Output = ();
    type Err = usize;

    fn finish(self) -> Result<(), usize> {
        Ok(())
    }

    fn visit_pre(&mut self, tree: &Ast) -> Result<(), usize> {
        match tree {
            Ast::ClassUnicode(_) | Ast::ClassPerl(_) => self.add(CLASS_BYTES),
            _ => self.add(64),
        }
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), usize> {
        match item {
            ClassSetItem::Unicode(_) | ClassSetItem::Perl(_) => self.add(CLASS_BYTES),
            _ => self.add(64),
        }
    }
}

/// # Errors
/// `LimitExceeded` with `max_bytes`.
pub(super) fn check(tree: &Ast, limits: &CompileLimits) -> Result<()> {
    ast::visit(tree, Counter { bytes: 0, budget: limits.max_bytes })
        .map_err(|bytes| Error::limit("max_bytes", bytes as u64, limits.max_bytes as u64))
}
