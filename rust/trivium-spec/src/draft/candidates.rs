//! Candidates of one node, merged by token while sources name them.

use super::Candidate;
use super::mixture::{Evidence, MAX_PIECES};
use trivium_core::TokenId;

/// What all sources say of the tokens that may follow one node.
///
/// Tokens stand in the order in which they were first named. A source speaks at most once a token and
/// slot; what it says again is dropped, so sources name their strongest reason first.
#[derive(Debug, Default)]
pub struct Candidates {
    first_slot: u8,
    tokens: Vec<TokenId>,
    /// Slots that spoke, one bit each, and how many.
    spoke: Vec<(u64, u8)>,
    /// [`MAX_PIECES`] a token.
    pieces: Vec<Evidence>,
}

impl Candidates {
    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.first_slot = 0;
        self.tokens.clear();
        self.spoke.clear();
        self.pieces.clear();
    }

    /// From now on slots count from `first`: the next source speaks.
    pub(crate) fn speaker(&mut self, first: u8) {
        self.first_slot = first;
    }

    /// Names a token.
    #[inline]
    pub fn push(&mut self, c: Candidate) {
        let at = self.index_of(c.token);
        self.piece(at, c.slot, c.feature, c.prior);
    }

    /// Position of a token, entered if it is new.
    #[inline]
    fn index_of(&mut self, token: TokenId) -> usize {
        if let Some(at) = self.tokens.iter().position(|&t| t == token) {
            return at;
        }
        self.tokens.push(token);
        self.spoke.push((0, 0));
        self.pieces.resize(self.pieces.len() + MAX_PIECES, Evidence::NONE);
        self.tokens.len() - 1
    }

    /// Says something of the token at a position.
    #[inline]
    pub(crate) fn piece(&mut self, at: usize, slot: u8, feature: u16, prior: f32) {
        let slot = self.first_slot + slot;
        let (spoke, n) = &mut self.spoke[at];
        if *spoke >> slot & 1 == 0 && usize::from(*n) < MAX_PIECES {
            self.pieces[at * MAX_PIECES + usize::from(*n)] = Evidence { slot, feature, prior };
            *spoke |= 1 << slot;
            *n += 1;
        }
    }

    /// The tokens named so far.
    #[inline]
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// What was said of the token at a position.
    #[inline]
    pub(crate) fn evidence(&self, at: usize) -> &[Evidence] {
        &self.pieces[at * MAX_PIECES..][..usize::from(self.spoke[at].1)]
    }

    /// The slots that spoke of the token at a position, as bits.
    #[inline]
    pub(crate) fn slots(&self, at: usize) -> u64 {
        self.spoke[at].0
    }

    /// The lowest slot of the speaking source that named the token at a position; 63 if none did.
    #[inline]
    pub(crate) fn strongest(&self, at: usize) -> u8 {
        (self.spoke[at].0 >> self.first_slot).trailing_zeros().min(63) as u8
    }

    /// Everything said, token by token; slots count from the first source's.
    pub fn iter(&self) -> impl Iterator<Item = Candidate> + '_ {
        self.tokens.iter().enumerate().flat_map(|(at, &token)| {
            self.evidence(at).iter().map(move |e| Candidate {
                token,
                slot: e.slot,
                feature: e.feature,
                prior: e.prior,
            })
        })
    }
}
