//! The JSON spelling of a language of texts: which string bodies denote a text of the language.
//!
//! A spelling is a substitution `h` that maps each character to the finite set of its spellings, so
//!
//! ```text
//! h(XY) = h(X)h(Y)   h(X ∪ Y) = h(X) ∪ h(Y)   h(X{m,n}) = h(X){m,n}
//! d_c h(X) = h(d_c X)                    for a raw character c
//! d_\ h(X) = ⋃_C  escapes(C) · h(d_C X)  over the blocks C of X
//! ```
//!
//! The first line carries plain expressions over at once. `h` does not commute with ∩ and ¬ taken
//! among *spelled* texts, so around those it stays a node and is derived by the other two lines: the
//! conditions, length intervals among them, always count decoded characters. Every character has a
//! spelling, so the spelled residual lives iff the decoded one does.

use super::charset::{self, ClassId, Range};
use super::expr::{Arena, EMPTY, EPSILON, Expr, ExprId};
use super::look::Ctx;
use rustc_hash::FxHashMap;

/// Which spellings of a character are accepted inside a JSON string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Spelling {
    /// Raw where JSON permits it; `\" \\ \/ \n \r \t \b \f`, and `\u00XX` for the other control
    /// characters only.
    #[default]
    Minimal,
    /// Also `\uXXXX` for every character, beyond U+FFFF as a pair of surrogates.
    Any,
}

/// Results that many residuals share.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spellings {
    /// What follows the backslash for the characters of a class.
    escapes: FxHashMap<(ClassId, Spelling), ExprId>,
    spelled: FxHashMap<(ExprId, Spelling), ExprId>,
}

/// Characters with an escape of one letter, sorted.
const SHORT: [(u32, char); 8] = [
    (0x08, 'b'),
    (0x09, 't'),
    (0x0a, 'n'),
    (0x0c, 'f'),
    (0x0d, 'r'),
    (0x22, '"'),
    (0x2f, '/'),
    (0x5c, '\\'),
];

/// Characters that may stand for themselves.
pub(super) const RAW: [Range; 3] = [(0x20, 0x21), (0x23, 0x5b), (0x5d, charset::MAX)];

/// Recursion of the eager rules; below it a node is left to the lazy ones.
const EAGER_DEPTH: u32 = 100;

impl Arena {
    /// The string bodies (between the quotes) that denote a text of `e`.
    pub(crate) fn spell(&mut self, e: ExprId, how: Spelling) -> ExprId {
        self.spell_at(e, Ctx::Edge, how, EAGER_DEPTH)
    }

    fn spell_at(&mut self, e: ExprId, ctx: Ctx, how: Spelling, depth: u32) -> ExprId {
        if !self.is_plain(e) || depth == 0 {
            let (inner, ctx) = self.place(e, ctx);
            return match inner {
                EMPTY | EPSILON => inner,
                inner => self.intern(Expr::Spell { inner, ctx, how }),
            };
        }
        if let Some(&known) = self.spellings.spelled.get(&(e, how)) {
            return known;
        }
        let out = match self.node(e).clone() {
            Expr::Class(c) => self.spelled_class(c, how),
            Expr::Concat(..) => {
                let mut heads = Vec::new();
                let mut tail = e;
                while let Expr::Concat(h, t) = *self.node(tail) {
                    heads.push(h);
                    tail = t;
                }
                let mut out = self.spell_at(tail, ctx, how, depth - 1);
                for h in heads.into_iter().rev() {
                    let h = self.spell_at(h, ctx, how, depth - 1);
                    out = self.concat(h, out);
                }
                out
            }
            Expr::Union(members) => {
                let members: Vec<_> =
                    members.iter().map(|&m| self.spell_at(m, ctx, how, depth - 1)).collect();
                self.union(&members)
            }
            Expr::Repeat { body, min, max } => {
                let body = self.spell_at(body, ctx, how, depth - 1);
                self.repeat(body, min, max)
            }
            _ => e,
        };
        self.charge(24);
        self.spellings.spelled.insert((e, how), out);
        out
    }

    fn spelled_class(&mut self, class: ClassId, how: Spelling) -> ExprId {
        let raw = charset::intersect(self.classes.get(class), &RAW);
        let raw = self.class(raw);
        let escaped = self.escapes(class, how);
        let slash = self.class(vec![(0x5c, 0x5c)]);
        let escaped = self.concat(slash, escaped);
        self.union(&[raw, escaped])
    }

    /// Pairs (class, rest) of a spelled expression.
    pub(super) fn spelled_heads(
        &mut self,
        inner: ExprId,
        ctx: Ctx,
        how: Spelling,
    ) -> Vec<(ClassId, ExprId)> {
        let mut blocks: Vec<(ClassId, ExprId, Ctx)> = Vec::new();
        if self.is_pure(inner) {
            let pure = self.disjoint(inner, None, None, Ctx::Other);
            blocks.extend(pure.iter().map(|b| (b.0, b.1, Ctx::Other)));
        } else {
            for cut in self.cuts(inner, ctx) {
                let shape = std::sync::Arc::clone(self.shape(cut.shape));
                let mut sets: Vec<Vec<Range>> = vec![Vec::new(); cut.rests.len()];
                for &(lo, hi, block) in &shape.intervals {
                    sets[block as usize].push((lo, hi));
                }
                for (set, &rest) in sets.into_iter().zip(&cut.rests) {
                    if rest != EMPTY && !set.is_empty() {
                        let class = self.classes.intern(charset::normalize(set));
                        blocks.push((class, rest, cut.ctx));
                    }
                }
            }
        }
        let slash = self.classes.intern(vec![(0x5c, 0x5c)]);
        let mut out = Vec::with_capacity(blocks.len() * 2);
        for (class, rest, ctx) in blocks {
            if self.spend(1) {
                break;
            }
            let rest = self.spell_at(rest, ctx, how, EAGER_DEPTH);
            let raw = charset::intersect(self.classes.get(class), &RAW);
            if !raw.is_empty() {
                out.push((self.classes.intern(raw), rest));
            }
            let escaped = self.escapes(class, how);
            let escaped = self.concat(escaped, rest);
            if escaped != EMPTY {
                out.push((slash, escaped));
            }
        }
        out
    }

    /// What follows a backslash for the characters of a class.
    fn escapes(&mut self, class: ClassId, how: Spelling) -> ExprId {
        if let Some(&known) = self.spellings.escapes.get(&(class, how)) {
            return known;
        }
        let set = std::sync::Arc::clone(self.classes.get(class));
        let letters: Vec<Range> = SHORT
            .iter()
            .filter(|s| charset::contains(&set, s.0))
            .map(|s| (s.1.into(), s.1.into()))
            .collect();
        let letters = self.class(charset::normalize(letters));
        let hex = match how {
            Spelling::Any => set.to_vec(),
            Spelling::Minimal => charset::intersect(&set, &[(0, 7), (0x0b, 0x0b), (0x0e, 0x1f)]),
        };
        let low = charset::intersect(&hex, &[(0, 0xd7ff), (0xe000, 0xffff)]);
        let mut members: Vec<ExprId> = low.iter().map(|r| self.hex(r.0, r.1, 4)).collect();
        for (lo, hi) in charset::intersect(&hex, &[(0x1_0000, charset::MAX)]) {
            members.extend(self.surrogates(lo - 0x1_0000, hi - 0x1_0000));
        }
        let hex = self.union(&members);
        let u = self.class(vec![('u'.into(), 'u'.into())]);
        let hex = self.concat(u, hex);
        let out = self.union(&[letters, hex]);
        self.charge(24);
        self.spellings.escapes.insert((class, how), out);
        out
    }

    /// Pairs of escapes for offsets `lo` to `hi` beyond U+FFFF, after the first `\u`.
    fn surrogates(&mut self, lo: u32, hi: u32) -> Vec<ExprId> {
        let link = self.literal(r"\u");
        let mut out = Vec::new();
        let mut pair = |arena: &mut Self, a: u32, b: u32, c: u32, d: u32| {
            let first = arena.hex(0xd800 + a, 0xd800 + b, 4);
            let second = arena.hex(0xdc00 + c, 0xdc00 + d, 4);
            out.push(arena.sequence(&[first, link, second]));
        };
        let (a, b) = (lo >> 10, hi >> 10);
        if a == b {
            pair(self, a, a, lo & 0x3ff, hi & 0x3ff);
            return out;
        }
        let (mut from, mut to) = (a, b);
        if lo & 0x3ff != 0 {
            pair(self, a, a, lo & 0x3ff, 0x3ff);
            from += 1;
        }
        if hi & 0x3ff != 0x3ff {
            pair(self, b, b, 0, hi & 0x3ff);
            to -= 1;
        }
        if from <= to {
            pair(self, from, to, 0, 0x3ff);
        }
        out
    }

    /// The numbers `lo` to `hi` as `digits` hexadecimal digits of either case.
    fn hex(&mut self, lo: u32, hi: u32, digits: u32) -> ExprId {
        if digits == 0 {
            return EPSILON;
        }
        let unit = 1 << (4 * (digits - 1));
        let mut members = Vec::new();
        let mut at = lo;
        while at <= hi {
            let first = at / unit;
            // The most digits whose whole range fits, else one digit and a part of its range.
            let (last, end) = if at.is_multiple_of(unit) && hi >= at + unit - 1 {
                let last = (hi + 1) / unit - 1;
                (last, last * unit + unit - 1)
            } else {
                (first, hi.min(first * unit + unit - 1))
            };
            let digit = self.hex_digit(first, last);
            let rest = self.hex(at % unit, end % unit, digits - 1);
            let e = self.concat(digit, rest);
            members.push(e);
            at = end + 1;
        }
        self.union(&members)
    }

    fn hex_digit(&mut self, lo: u32, hi: u32) -> ExprId {
        let digit = |d: u32, ten: u32| if d < 10 { 0x30 + d } else { ten + d - 10 };
        let set = (lo..=hi).flat_map(|d| [digit(d, 0x41), digit(d, 0x61)]);
        self.class(charset::normalize(set.map(|c| (c, c)).collect()))
    }
}
