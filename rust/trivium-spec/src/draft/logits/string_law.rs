//! SLRS: the law of the first target token of a text that a draft of another vocabulary wrote.
//!
//! The draft model writes in its own tokens; the text is cut into target tokens, longest match
//! first, and the first of them is the proposal. Its law
//!
//! ```text
//! ψ(t) = sum over draft texts whose first target token is t of the probability of the text
//! ```
//!
//! is a law over target tokens, so rejection with `min(1, p / ψ)` and residual `(p - ψ)+` is exact.
//! (ψ as "the text *starts with* t" is none: a text that starts with "ab" also starts with "a".)
//! Draft texts are walked until their first token cannot change, so the cost is exponential in the
//! longest target token: small and byte vocabularies only, bounded by `max_texts`.
//!
//! "Accelerating LLM Inference with Lossless Speculative Decoding Algorithms for Heterogeneous
//! Vocabularies".

use trivium_core::TokenId;
use trivium_core::error::{Error, Result};

/// ψ over the target tokens; `next` gives the draft law after draft tokens. Draft texts of
/// probability 0 are left out.
///
/// # Errors
/// `InvalidInput` if a draft text begins with no target token (then ψ would not sum to one), or for
/// a draft law of another width; `LimitExceeded`-like `InvalidInput` beyond `max_texts` texts.
pub fn first_token_law<T: AsRef<[u8]>>(
    draft: &[T],
    target: &[T],
    next: &mut dyn FnMut(&[TokenId]) -> Vec<f64>,
    max_texts: usize,
) -> Result<Vec<f64>> {
    let longest = target.iter().map(|t| t.as_ref().len()).max().unwrap_or(0);
    let mut law = vec![0.0; target.len()];
    let mut todo: Vec<(Vec<TokenId>, Vec<u8>, f64)> = vec![(Vec::new(), Vec::new(), 1.0)];
    let mut texts = 0;
    while let Some((tokens, text, mass)) = todo.pop() {
        texts += 1;
        if texts > max_texts {
            return Err(Error::input(
                "max_texts",
                format!("the law needs more than {max_texts} draft texts"),
            ));
        }
        if text.len() >= longest && !text.is_empty() {
            law[first_token(target, &text)?] += mass;
            continue;
        }
        let q = next(&tokens);
        if q.len() != draft.len() {
            return Err(Error::input(
                "q",
                format!("{} entries for {} tokens", q.len(), draft.len()),
            ));
        }
        let total: f64 = q.iter().sum();
        for (t, &w) in q.iter().enumerate().filter(|(_, w)| **w > 0.0) {
            let longer = [&tokens[..], &[t as TokenId]].concat();
            let bytes = [&text[..], draft[t].as_ref()].concat();
            todo.push((longer, bytes, mass * w / total));
        }
    }
    Ok(law)
}

/// The longest target token that a text begins with, the lowest id of equal ones.
fn first_token<T: AsRef<[u8]>>(target: &[T], text: &[u8]) -> Result<usize> {
    let fits = |t: &T| !t.as_ref().is_empty() && text.starts_with(t.as_ref());
    let mut best: Option<usize> = None;
    for (i, t) in target.iter().enumerate().filter(|(_, t)| fits(t)) {
        if best.is_none_or(|b| t.as_ref().len() > target[b].as_ref().len()) {
            best = Some(i);
        }
    }
    best.ok_or_else(|| Error::input("target", format!("no token begins {text:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_law_of_two_letters() {
        // Letters drawn alone; target tokens a, b, ab, ba: "ab" and "ba" hide a and b.
        let (draft, target) = (["a", "b"], ["a", "b", "ab", "ba"]);
        let law = first_token_law(&draft, &target, &mut |_| vec![0.3, 0.7], 100).unwrap();
        let want = [0.3 * 0.3, 0.7 * 0.7, 0.3 * 0.7, 0.7 * 0.3];
        assert!(law.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-15));
        // Draft tokens of several letters, and a law that looks back.
        let mut next = |t: &[u32]| if t == [0] { vec![0.5, 0.5, 0.0] } else { vec![0.2, 0.2, 0.6] };
        let law = first_token_law(&["a", "b", "ab"], &["a", "b", "ab", "ba"], &mut next, 100);
        let law = law.unwrap();
        assert!((law.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!((law[2] - (0.6 + 0.2 * 0.5)).abs() < 1e-12);
    }

    #[test]
    fn what_cannot_be_computed_is_refused() {
        let e = first_token_law(&["a", "c"], &["a", "aa"], &mut |_| vec![0.5, 0.5], 100);
        assert!(e.is_err(), "no target token begins with c");
        let e =
            first_token_law(&["a", "b"], &["a", "b", "aaaaaaaaaa"], &mut |_| vec![0.5, 0.5], 50);
        assert!(e.unwrap_err().to_string().contains("more than 50"));
        assert!(first_token_law(&["a"], &["a"], &mut |_| vec![], 9).is_err());
    }
}
