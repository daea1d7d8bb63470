//! Counter-based noise: Philox4x32-10 and the public address of every random number (`rng = 1`).
//!
//! A random number is a pure function of (request seed, absolute position, purpose, branch), so a
//! request's tokens do not depend on its batch, on the number of threads or on what was drafted,
//! and any decision can be replayed alone. The address:
//!
//! ```text
//! key    = seed, low word first
//! ctr[0] = token / 4 for a row of noise (lane = token % 4), draw / 2 for scalars
//! ctr[1] = absolute index, prompt included, of the token being chosen
//! ctr[2] = purpose
//! ctr[3] = branch (sibling samples share the seed)
//! ```
//!
//! Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). The addresses are
//! frozen: golden values in the tests below may never change under `rng = 1`.

use crate::ids::TokenId;

/// What a random number decides. The numbers are frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Purpose {
    /// The scalar of an inverse-CDF draw.
    Cdf = 0,
    /// The row of a race; shared-race drafts read the same.
    Race = 1,
    /// Acceptance tests of a rejection verifier.
    Accept = 2,
    /// Residual draws of a rejection verifier.
    Residual = 3,
    /// Search.
    Search = 4,
    /// Diffusion.
    Diffusion = 5,
    /// Tie-breaks.
    Tie = 6,
    /// A drafter's own sampling.
    Draft = 7,
    /// Stop rules and controllers.
    Control = 8,
    /// Decisions inside a vote.
    Vote = 9,
}

impl Purpose {
    /// How many purposes there are.
    pub const COUNT: usize = 10;
}

/// One block of Philox4x32-10: four words from a counter and a key.
#[inline]
pub fn philox(mut ctr: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..10 {
        if round > 0 {
            key[0] = key[0].wrapping_add(0x9E37_79B9);
            key[1] = key[1].wrapping_add(0xBB67_AE85);
        }
        let p0 = u64::from(ctr[0]) * 0xD251_1F53;
        let p1 = u64::from(ctr[2]) * 0xCD9E_8D57;
        ctr = [
            (p1 >> 32) as u32 ^ ctr[1] ^ key[0],
            p1 as u32,
            (p0 >> 32) as u32 ^ ctr[3] ^ key[1],
            p0 as u32,
        ];
    }
    ctr
}

/// Where the noise of one position of one request lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Address {
    /// The request's seed.
    pub seed: u64,
    /// Absolute index, prompt included, of the token being chosen.
    pub index: u32,
    /// Trace number among sibling samples.
    pub branch: u32,
}

impl Address {
    /// The address of token `index` of `branch` under `seed`.
    pub const fn new(seed: u64, index: u32, branch: u32) -> Self {
        Self { seed, index, branch }
    }

    /// Block `block` of a purpose.
    #[inline]
    pub fn block(self, purpose: Purpose, block: u32) -> [u32; 4] {
        philox(
            [block, self.index, purpose as u32, self.branch],
            [self.seed as u32, (self.seed >> 32) as u32],
        )
    }

    /// Scalar draw number `draw` of a purpose: 53 bits, in `[0, 1)`.
    #[inline]
    pub fn uniform(self, purpose: Purpose, draw: u32) -> f64 {
        let words = self.block(purpose, draw >> 1);
        let lane = 2 * (draw & 1) as usize;
        let (a, b) = (u64::from(words[lane] >> 5), u64::from(words[lane + 1] >> 6));
        ((a << 26) | b) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// The race word of one token.
    #[inline]
    pub fn race_word(self, token: TokenId) -> u32 {
        self.block(Purpose::Race, token >> 2)[(token & 3) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_gives_its_published_answers() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn addresses_are_frozen() {
        assert_eq!(Address::new(42, 7, 0).uniform(Purpose::Cdf, 0), 0.771_734_270_497_274);
        assert_eq!(Address::new(42, 7, 3).uniform(Purpose::Accept, 5), 0.015_941_900_737_701_076);
        assert_eq!(Address::new(42, 7, 0).race_word(5), 2_747_578_971);
    }
}
