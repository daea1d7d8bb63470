//! A parsed pattern of the `ecma` or `python` dialect.

use crate::automata::charset::Range;
use regex_syntax::hir::Look;

/// One node; classes are final (folded, negated).
#[derive(Debug, Clone)]
pub(super) enum Tree {
    Empty,
    Class(Vec<Range>),
    Cat(Vec<Tree>),
    Alt(Vec<Tree>),
    Repeat {
        body: Box<Tree>,
        min: u32,
        /// [`crate::automata::expr::INF`] without a bound.
        max: u32,
    },
    /// A capturing group and its number.
    Group(u32, Box<Tree>),
    Look(Look),
    /// The end of the text, or a line feed that ends it (Python's `$`).
    EndOrLastLine,
    Ahead {
        negated: bool,
        body: Box<Tree>,
    },
    Behind {
        negated: bool,
        body: Box<Tree>,
    },
    /// What the group matched, and whether case is ignored.
    Back(u32, bool),
}

impl Tree {
    /// The children, in order.
    pub(super) fn children(&self) -> &[Self] {
        match self {
            Self::Cat(parts) | Self::Alt(parts) => parts,
            Self::Repeat { body, .. }
            | Self::Group(_, body)
            | Self::Ahead { body, .. }
            | Self::Behind { body, .. } => std::slice::from_ref(body),
            _ => &[],
        }
    }

    /// Whether a node of a kind occurs.
    pub(super) fn any(&self, is: &dyn Fn(&Self) -> bool) -> bool {
        is(self) || self.children().iter().any(|c| c.any(is))
    }

    /// Whether what follows matters to what is matched here, or what precedes.
    pub(super) fn looks(&self) -> bool {
        self.any(&|t| {
            matches!(
                t,
                Self::Look(_) | Self::EndOrLastLine | Self::Ahead { .. } | Self::Behind { .. }
            )
        })
    }
}
