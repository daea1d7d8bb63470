//! Fingerprints of residuals: equal for equal expressions, whatever arena they live in.
//!
//! A mask depends on the residual alone, so what was computed for one grammar serves the next: "inside a
//! free string", "after three digits of a year". Two different residuals collide with a chance of 2^-128
//! a pair.
//!
//! Counts above [`CLIP`] are taken for one count where no token is long enough to tell them apart: in chains,
//! unions, loops and spellings, which are alive as soon as their parts are. An intersection may compare
//! counts (`a*b{400}` with `Σ{0,450}`: each `a` uses room that the `b`s need), and so may a complement, a
//! look-around and, by odd and even rounds, a predicate. Below those every count is told exactly.

use super::charset::Range;
use super::expr::{Arena, Expr, ExprId, INF};
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

/// Counts that no text as short as a token tells from these.
fn clip(min: u32, max: u32) -> (u32, u32) {
    (min.min(CLIP), if max > CLIP { INF } else { max })
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
    /// Fingerprints a node that is about to be made, whose parts have theirs.
    pub(super) fn print(&mut self, id: ExprId, node: &Expr) {
        let exact = [0, 1].map(|kind| {
            let counts = |min, max| (min, max);
            self.print_of(node, kind, counts, |e| self.prints[e as usize][kind])
        });
        self.prints.push(exact);
        let clips = match node {
            Expr::Concat(a, b) => self.is_clipped(*a) || self.is_clipped(*b),
            Expr::Union(members) => members.iter().any(|&m| self.is_clipped(m)),
            Expr::Repeat { body, min, max } => {
                clip(*min, *max) != (*min, *max) || self.is_clipped(*body)
            }
            Expr::Spell { inner, .. } => self.is_clipped(*inner),
            _ => false,
        };
        if clips && self.facts_of(node).looks == 0 {
            let clipped = [0, 1]
                .map(|kind| self.print_of(node, kind, clip, |e| self.clipped_prints(e)[kind]));
            self.clipped.insert(id, clipped);
        }
    }

    /// The fingerprints of a residual, equal for residuals that no token tells apart.
    pub(super) fn clipped_prints(&self, e: ExprId) -> Prints {
        self.clipped.get(&e).copied().unwrap_or(self.prints[e as usize])
    }

    fn is_clipped(&self, e: ExprId) -> bool {
        self.clipped.contains_key(&e)
    }

    fn print_of(
        &self,
        node: &Expr,
        kind: usize,
        counts: impl Fn(u32, u32) -> (u32, u32),
        p: impl Fn(ExprId) -> Print,
    ) -> Print {
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
                let (min, max) = counts(*min, *max);
                mix(mix(8, p(*body)), u128::from(min) << 32 | u128::from(max))
            }
            Expr::Not(e) => mix(9, p(*e)),
            Expr::Ahead(e) => mix(10, p(*e)),
            Expr::Behind(e) => mix(12, p(*e)),
            Expr::Spell { inner, ctx, how } => mix(mix(14, p(*inner)), of_hash(&(ctx, how))),
            Expr::Number(n) => mix(15, self.numbers.print(*n)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use regex_syntax::hir::Look;

    /// Whether two counts have one fingerprint in what `make` makes of them.
    fn shared(counts: [u32; 2], make: impl Fn(&mut Arena, ExprId) -> ExprId) -> bool {
        let prints = counts.map(|n| {
            let mut arena = Arena::new(1 << 20);
            let a = arena.literal("a");
            let many = arena.repeat(a, 0, n);
            let all = make(&mut arena, many);
            arena.clipped_prints(all)
        });
        assert_eq!(prints[0] == prints[1], prints[0][1] == prints[1][1]);
        prints[0] == prints[1]
    }

    #[test]
    fn counts_are_clipped_only_where_no_token_tells_them_apart() {
        let chain = |arena: &mut Arena, e| {
            let b = arena.literal("b");
            let chain = arena.concat(e, b);
            let both = arena.union(&[chain, b]);
            arena.repeat(both, 1, 2)
        };
        assert!(shared([400, 450], chain));
        assert!(shared([400, INF], chain));
        assert!(!shared([200, 450], chain));
        assert!(!shared([254, 255], chain));
        let inter = |arena: &mut Arena, e| {
            let two = arena.literal("aa");
            let even = arena.repeat(two, 0, INF);
            let both = arena.inter(&[e, even]);
            chain(arena, both)
        };
        assert!(!shared([400, 450], inter));
        assert!(shared([450, 450], inter));
        assert!(!shared([400, 450], |arena, e| {
            let not = arena.not(e);
            chain(arena, not)
        }));
        for look in [Look::Start, Look::WordUnicode] {
            assert!(!shared([400, 450], |arena, e| {
                let look = arena.look(look);
                let after = arena.concat(e, look);
                chain(arena, after)
            }));
        }
        // A look-around in front of it is an intersection with what follows.
        assert!(!shared([400, 450], |arena, e| {
            let b = arena.literal("ab");
            let ahead = arena.ahead(b);
            arena.concat(ahead, e)
        }));
    }
}
