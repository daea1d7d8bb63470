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
    floor: f32,
    tokens: Vec<TokenId>,
    /// What was said of each token; never shrinks, entries beyond the tokens are stale.
    said: Vec<Said>,
}

/// What was said of a token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Said {
    /// Slots that spoke, one bit each.
    pub(crate) slots: u64,
    n: usize,
    /// The first `n` are valid; a power of two, so that an index can be masked.
    pieces: [Evidence; ROOM],
}

const ROOM: usize = MAX_PIECES.next_power_of_two();

impl Said {
    const NOTHING: Self = Self { slots: 0, n: 0, pieces: [Evidence::NONE; ROOM] };

    #[inline]
    pub(crate) fn pieces(&self) -> &[Evidence] {
        &self.pieces[..self.n.min(ROOM)]
    }

    /// The lowest slot from `first` on that spoke, counted from there; 64 if none did.
    #[inline]
    fn strongest(&self, first: u8) -> u32 {
        (self.slots >> (first & 63)).trailing_zeros()
    }
}

impl Candidates {
    /// Forgets everything. Tokens whose share of a source's evidence is below `floor` need not be
    /// named: the tree is full of likelier ones.
    #[inline]
    pub(crate) fn clear(&mut self, floor: f32) {
        self.first_slot = 0;
        self.floor = floor;
        self.tokens.clear();
    }

    /// See [`clear`](Self::clear).
    #[inline]
    pub(crate) fn floor(&self) -> f32 {
        self.floor
    }

    /// From now on slots count from `first`: the next source speaks.
    #[inline]
    pub(crate) fn speaker(&mut self, first: u8) {
        self.first_slot = first;
    }

    /// Names a token.
    #[inline]
    pub fn push(&mut self, c: Candidate) {
        self.say(c.token, c.slot, c.feature, c.prior);
    }

    /// Position of a token that was named.
    #[inline]
    pub(crate) fn position(&self, token: TokenId) -> Option<usize> {
        self.tokens.iter().position(|&t| t == token)
    }

    /// Says something of a token, entered if it is new.
    #[inline]
    pub(crate) fn say(&mut self, token: TokenId, slot: u8, feature: u16, prior: f32) {
        match self.position(token) {
            Some(at) => self.piece(at, slot, feature, prior),
            None => self.enter(token, slot, feature, prior),
        }
    }

    /// Says the first thing of a token.
    #[inline]
    pub(crate) fn enter(&mut self, token: TokenId, slot: u8, feature: u16, prior: f32) {
        let at = self.tokens.len();
        self.tokens.push(token);
        if at == self.said.len() {
            self.said.push(Said::NOTHING);
        }
        let slot = self.first_slot + slot;
        let said = &mut self.said[at];
        said.slots = 1 << (slot & 63);
        said.n = 1;
        said.pieces[0] = Evidence { slot, feature, prior };
    }

    /// Says one more thing of every token named so far: `of` its strongest slot of the speaking
    /// source and itself.
    #[inline]
    pub(crate) fn say_of_each(&mut self, slot: u8, mut of: impl FnMut(u32, TokenId) -> (u16, f32)) {
        let slot = self.first_slot + slot;
        let bit = 1 << (slot & 63);
        for (said, &token) in self.said.iter_mut().zip(&self.tokens) {
            if said.n < MAX_PIECES {
                let (feature, prior) = of(said.strongest(self.first_slot), token);
                said.pieces[said.n % ROOM] = Evidence { slot, feature, prior };
                said.slots |= bit;
                said.n += 1;
            }
        }
    }

    /// Says something of the token at a position.
    #[inline]
    pub(crate) fn piece(&mut self, at: usize, slot: u8, feature: u16, prior: f32) {
        let slot = self.first_slot + slot;
        let said = &mut self.said[at];
        let bit = 1 << (slot & 63);
        if said.slots & bit == 0 && said.n < MAX_PIECES {
            said.pieces[said.n % ROOM] = Evidence { slot, feature, prior };
            said.slots |= bit;
            said.n += 1;
        }
    }

    /// The tokens named so far.
    #[inline]
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// What was said of each token.
    #[inline]
    pub(crate) fn said(&self) -> &[Said] {
        &self.said[..self.tokens.len()]
    }

    /// Everything said, token by token; slots count from the first source's.
    pub fn iter(&self) -> impl Iterator<Item = Candidate> + '_ {
        self.tokens.iter().zip(self.said()).flat_map(|(&token, said)| {
            said.pieces().iter().map(move |e| Candidate {
                token,
                slot: e.slot,
                feature: e.feature,
                prior: e.prior,
            })
        })
    }
}
