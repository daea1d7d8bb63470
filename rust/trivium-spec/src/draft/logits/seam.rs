//! SLEM: where a re-encoded draft continues the committed tokens.
//!
//! A draft in another tokenizer becomes text and is encoded again together with the last tokens of
//! the target's text. Around the border tokens may join or part, so the re-encoded window need not
//! begin with the window it was made of. As in transformers, the two are laid over each other along
//! the diagonal on which most tokens agree; what the re-encoding has beyond the end of the
//! committed window is the draft, a point mass that is verified by exact match.

use trivium_core::TokenId;

/// The draft: what follows in `encoded` (window and draft, encoded together) where `window` (the
/// last committed target tokens) ends, or nothing if they do not meet. Of equally good alignments
/// the longer draft is the riskier one: the shorter is taken. O(window · encoded).
pub fn seam<'a>(window: &[TokenId], encoded: &'a [TokenId]) -> &'a [TokenId] {
    let (n, m) = (window.len(), encoded.len());
    // `end`: index in `encoded` that lies behind the last token of the window.
    let mut best = (0, 0);
    for end in 1..=m {
        let overlap = n.min(end);
        let agree = (1..=overlap).filter(|&k| window[n - k] == encoded[end - k]).count();
        // The last token decides whether what follows continues it.
        if agree >= best.0 && agree > 0 && window[n - 1] == encoded[end - 1] {
            best = (agree, end);
        }
    }
    if best.0 == 0 { &[] } else { &encoded[best.1..] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_the_window_is_the_draft() {
        assert_eq!(seam(&[1, 2, 3], &[1, 2, 3, 4, 5]), [4, 5]);
        assert_eq!(seam(&[1, 2, 3], &[9, 2, 3, 4, 5]), [4, 5], "the first token was cut");
        assert_eq!(seam(&[1, 2, 3], &[7, 8, 2, 3, 4]), [4], "shifted by a token");
        assert_eq!(seam(&[1, 2, 3], &[1, 2, 34, 5]), [] as [u32; 0], "joined across the border");
        assert_eq!(seam(&[5, 5], &[5, 5, 5]), [] as [u32; 0], "ambiguous: the shorter draft");
        assert_eq!(seam(&[], &[1]), [] as [u32; 0]);
        assert_eq!(seam(&[1], &[]), [] as [u32; 0]);
    }
}
