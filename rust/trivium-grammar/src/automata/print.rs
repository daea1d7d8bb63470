//! Fingerprints of residuals: equal for equal expressions, whatever arena they live in.
//!
//! A mask depends on the residual alone, so what was computed for one grammar serves the next: "inside a
//! free string", "after three digits of a year". Counts above [`CLIP`] are taken for [`CLIP`]: no token
//! is long enough to tell them apart. Two different residuals collide with a chance of 2^-128 a pair.

use super::charset::Range;
use super::expr::{Arena, Expr, INF};
use super::markers;
use std::hash::{Hash, Hasher};

/// A fingerprint.
pub(crate) type Print = u128;

/// Two fingerprints: as it is, and with every marker of a kind taken for the same. The second serves
/// residuals that end in one marker alone, whichever it is.
pub(super) type Prints = [Print; 2];

/// Longer than every token (255 bytes).
const CLIP: u32 = 300;

const ODD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;

/// Both in order.
pub(crate) fn mix(a: Print, b: Print) -> Print {
    let x = (a.rotate_left(29) ^ b).wrapping_mul(ODD);
    let x = (x ^ (x >> 61)).wrapping_mul(ODD.rotate_left(41) | 1);
    x ^ (x >> 67)
}

fn clip(n: u32) -> u32 {
    if n == INF { CLIP } else { n.min(CLIP) }
}

fn ranges(set: &[Range]) -> Print {
    set.iter().fold(11, |h, r| mix(h, u128::from(r.0) << 32 | u128::from(r.1)))
}

/// The fingerprint of anything that can be hashed.
pub(super) fn of_hash(value: &impl Hash) -> Print {
    let half = |seed: u64| {
        let mut hasher = rustc_hash::FxHasher::default();
        seed.hash(&mut hasher);
        value.hash(&mut hasher);
        // FxHash alone is weak in its low bits.
        u128::from(hasher.finish())
    };
    mix(mix(13, half(0x51_7c_c1_b7)), half(0x2545_f491_4f6c_dd1d))
}

impl Arena {
    /// The fingerprint of a node whose parts have theirs.
    pub(super) fn prints_of(&self, node: &Expr) -> Prints {
        [self.print_of(node, 0), self.print_of(node, 1)]
    }

    fn print_of(&self, node: &Expr, kind: usize) -> Print {
        let p = |e: u32| self.prints[e as usize][kind];
        let set = |kind: u128, members: &[u32]| {
            let sum = members.iter().fold(0u128, |sum, &m| sum.wrapping_add(mix(kind, p(m))));
            mix(mix(kind, members.len() as u128), sum)
        };
        match node {
            Expr::Empty => 1,
            Expr::Epsilon => 2,
            Expr::Class(c) => match (kind, &**self.classes.get(*c)) {
                (1, [(lo, _)]) if *lo >= markers::FIRST => {
                    16 + u128::from(*lo >= markers::FIRST + markers::TERMINALS)
                }
                (_, set) => mix(3, ranges(set)),
            },
            Expr::Look(at) => mix(4, of_hash(at)),
            Expr::Concat(a, b) => mix(mix(5, p(*a)), p(*b)),
            Expr::Union(members) => set(6, members),
            Expr::Inter(members) => set(7, members),
            Expr::Repeat { body, min, max } => {
                let counts = u128::from(clip(*min)) << 32 | u128::from(clip(*max));
                mix(mix(8, p(*body)), counts)
            }
            Expr::Not(e) => mix(9, p(*e)),
            Expr::Ahead(e) => mix(10, p(*e)),
            Expr::Behind(e) => mix(12, p(*e)),
            Expr::Spell { inner, ctx, how } => mix(mix(14, p(*inner)), of_hash(&(ctx, how))),
            Expr::Number(n) => mix(15, self.numbers.print(*n)),
        }
    }
}
