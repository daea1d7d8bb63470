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
    /// Slots that spoke, one bit each.
    spoke: Vec<u64>,
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
    pub fn push(&mut self, c: Candidate) {
        let at = self.index_of(c.token);
        self.piece(at, c.slot, c.feature, c.prior);
    }

    /// Position of a token, entered if it is new.
    fn index_of(&mut self, token: TokenId) -> usize {
        if let Some(at) = self.tokens.iter().position(|&t| t == token) {
            return at;
        }
        self.tokens.push(token);
        self.spoke.push(0);
        self.pieces.resize(self.pieces.len() + MAX_PIECES, Evidence::NONE);
        self.tokens.len() - 1
    }

    /// Says something of the token at a position.
    pub(crate) fn piece(&mut self, at: usize, slot: u8, feature: u16, prior: f32) {
        let slot = self.first_slot + slot;
        let spoke = self.spoke[at];
        let n = spoke.count_ones() as usize;
        if spoke >> slot & 1 == 0 && n < MAX_PIECES {
            self.spoke[at] = spoke | 1 << slot;
            self.pieces[at * MAX_PIECES + n] = Evidence { slot, feature, prior };
        }
    }

    /// The tokens named so far.
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// What was said of the token at a position.
    pub(crate) fn evidence(&self, at: usize) -> &[Evidence] {
        let n = self.spoke[at].count_ones() as usize;
        &self.pieces[at * MAX_PIECES..][..n]
    }

    /// The lowest slot of the speaking source that named the token at a position; 63 if none did.
    pub(crate) fn strongest(&self, at: usize) -> u8 {
        (self.spoke[at] >> self.first_slot).trailing_zeros().min(63) as u8
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
