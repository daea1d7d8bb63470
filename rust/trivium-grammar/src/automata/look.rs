//! Position predicates (`^ $ \A \z \b` and their kin) as functions of the two neighbours.
//!
//! Every predicate of the `rust` dialect is decided by the kind of the previous and of the next
//! character, where "none" (the edge of the text) is a kind of its own. A state therefore remembers
//! the kind of the last character, and a derivative by a character knows the kind of the next one.
//! Kinds that no predicate of the pattern asks for are folded into `Other`.

use super::charset::{self, Range};
use super::expr::looks;
use regex_syntax::hir::{Class, HirKind, Look};
use rustc_hash::FxHashMap;
use std::sync::{Arc, OnceLock};

/// A predicate as part of an expression: [`Look`] with the hash it lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct At(pub(crate) Look);

impl std::hash::Hash for At {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.as_repr().hash(state);
    }
}

/// What a predicate can know about a neighbouring character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Ctx {
    /// No character: start or end of the text.
    Edge,
    /// `\n`.
    Lf,
    /// `\r`.
    Cr,
    /// `[0-9A-Za-z_]`.
    Word,
    /// A word character beyond ASCII.
    UniWord,
    /// Everything else.
    Other,
}

/// The kinds that some predicates tell apart, with their characters.
#[derive(Debug, Clone)]
pub(crate) struct Kinds {
    sets: Vec<(Ctx, Vec<Range>)>,
}

impl Kinds {
    fn new(asks: u8) -> Self {
        let ascii = vec![(0x30, 0x39), (0x41, 0x5a), (0x5f, 0x5f), (0x61, 0x7a)];
        let mut sets = Vec::new();
        if asks & looks::LINE != 0 {
            sets.push((Ctx::Lf, vec![(0x0a, 0x0a)]));
            sets.push((Ctx::Cr, vec![(0x0d, 0x0d)]));
        }
        if asks & looks::UNI_WORD != 0 {
            let rest = charset::intersect(word_class(), &charset::complement(&ascii));
            sets.push((Ctx::UniWord, rest));
        }
        if asks & (looks::WORD | looks::UNI_WORD) != 0 {
            sets.push((Ctx::Word, ascii));
        }
        let rest = charset::normalize(sets.iter().flat_map(|(_, s)| s.iter().copied()).collect());
        sets.push((Ctx::Other, charset::complement(&rest)));
        Self { sets }
    }

    /// The kinds and their characters: a partition of the code points.
    pub(crate) fn sets(&self) -> &[(Ctx, Vec<Range>)] {
        &self.sets
    }
}

/// Kinds by what is asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct KindSets {
    known: FxHashMap<u8, Arc<Kinds>>,
}

impl KindSets {
    /// The kinds that predicates with these bits of [`looks`] tell apart.
    pub(crate) fn of(&mut self, asks: u8) -> Arc<Kinds> {
        let asks = asks & looks::KINDS;
        Arc::clone(self.known.entry(asks).or_insert_with(|| Arc::new(Kinds::new(asks))))
    }
}

/// The Unicode word class.
pub(crate) fn word_class() -> &'static [Range] {
    static WORD: OnceLock<Vec<Range>> = OnceLock::new();
    WORD.get_or_init(|| {
        let hir = regex_syntax::parse(r"\w");
        match hir.as_ref().map(regex_syntax::hir::Hir::kind) {
            Ok(HirKind::Class(Class::Unicode(c))) => {
                c.iter().map(|r| (r.start().into(), r.end().into())).collect()
            }
            _ => Vec::new(),
        }
    })
}

/// Whether a predicate uses the Unicode word class.
pub(crate) fn is_unicode(look: Look) -> bool {
    matches!(
        look,
        Look::WordUnicode
            | Look::WordUnicodeNegate
            | Look::WordStartUnicode
            | Look::WordEndUnicode
            | Look::WordStartHalfUnicode
            | Look::WordEndHalfUnicode
    )
}

/// Whether `look` holds between two neighbours.
pub(crate) fn holds(look: Look, prev: Ctx, next: Ctx) -> bool {
    let ascii = |c| c == Ctx::Word;
    let unicode = |c| c == Ctx::Word || c == Ctx::UniWord;
    match look {
        Look::Start => prev == Ctx::Edge,
        Look::End => next == Ctx::Edge,
        Look::StartLF => matches!(prev, Ctx::Edge | Ctx::Lf),
        Look::EndLF => matches!(next, Ctx::Edge | Ctx::Lf),
        Look::StartCRLF => {
            matches!(prev, Ctx::Edge | Ctx::Lf) || (prev == Ctx::Cr && next != Ctx::Lf)
        }
        Look::EndCRLF => {
            matches!(next, Ctx::Edge | Ctx::Cr) || (next == Ctx::Lf && prev != Ctx::Cr)
        }
        Look::WordAscii => ascii(prev) != ascii(next),
        Look::WordAsciiNegate => ascii(prev) == ascii(next),
        Look::WordUnicode => unicode(prev) != unicode(next),
        Look::WordUnicodeNegate => unicode(prev) == unicode(next),
        Look::WordStartAscii => !ascii(prev) && ascii(next),
        Look::WordEndAscii => ascii(prev) && !ascii(next),
        Look::WordStartUnicode => !unicode(prev) && unicode(next),
        Look::WordEndUnicode => unicode(prev) && !unicode(next),
        Look::WordStartHalfAscii => !ascii(prev),
        Look::WordEndHalfAscii => !ascii(next),
        Look::WordStartHalfUnicode => !unicode(prev),
        Look::WordEndHalfUnicode => !unicode(next),
    }
}
