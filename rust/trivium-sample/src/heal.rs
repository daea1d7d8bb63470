//! Prompts that end inside a token: conditioning on bytes instead of on a tokenisation.
//!
//! Phan, Havasi, Muckley, Ullrich, "Understanding and Mitigating Tokenization Bias in Language
//! Models" (2024). A model that has seen the token `a` knows that no `ab` was meant, so the law after a
//! prompt cut inside a token is not the law of the text. The exact statement, for a text x:
//!
//! ```text
//! P(output starts with x) = Σ over covers (t_1..t_m) P(t_1..t_m)
//! cover: the bytes of t_1..t_m begin with x, those of t_1..t_{m-1} are a strict prefix of x
//! ```
//!
//! [`back_off`] finds the last token boundary that no token of the vocabulary can cross; [`Heal`] is a
//! constraint that from there allows the tokens compatible with the remaining bytes: sampling under
//! it draws a cover, whose weight relative to the exact law is the product of the kept masses that
//! each draw reports (`ln_kept`). [`covers`] enumerates the covers and is exact.

use std::sync::Arc;
use trivium_core::error::{Error, Result};
use trivium_core::{Constraint, TokenId, Vocabulary, mask};

/// The number of tokens of a prompt up to its last certain boundary: one that no token of the
/// vocabulary can cross, whatever bytes follow the prompt.
///
/// O(tokens backed off × longest token).
pub fn back_off(vocab: &Vocabulary, prompt: &[TokenId]) -> usize {
    let trie = vocab.trie();
    let text: Vec<u8> = prompt.iter().flat_map(|&t| vocab.token(t)).copied().collect();
    let mut boundary = text.len();
    for n in (1..=prompt.len()).rev() {
        // Special tokens are no text: nothing crosses them.
        if vocab.token(prompt[n - 1]).is_empty() {
            return n;
        }
        let crossed = (boundary.saturating_sub(trie.max_depth())..boundary).any(|start| {
            let mut node = Some(0);
            for (i, &byte) in text[start..].iter().enumerate() {
                node = node.and_then(|n| trie.child(n, byte));
                match node {
                    None => return false,
                    Some(n) if start + i >= boundary && !trie.tokens_at(n).is_empty() => {
                        return true;
                    }
                    Some(_) => {}
                }
            }
            // The text ended inside a longer token.
            node.is_some_and(|n| trie.tokens_below(n).len() > trie.tokens_at(n).len())
        });
        if !crossed {
            return n;
        }
        boundary -= vocab.token(prompt[n - 1]).len();
    }
    0
}

/// Allows the tokens that are compatible with given bytes, then everything.
#[derive(Debug, Clone)]
pub struct Heal {
    vocab: Arc<Vocabulary>,
    bytes: Arc<[u8]>,
    /// Bytes covered after each committed token.
    covered: Vec<usize>,
}

impl Heal {
    /// The output must begin with `bytes`.
    pub fn new(vocab: Arc<Vocabulary>, bytes: &[u8]) -> Self {
        Self { vocab, bytes: bytes.into(), covered: Vec::new() }
    }

    /// Bytes that are still to come.
    pub fn remaining(&self) -> &[u8] {
        &self.bytes[self.covered.last().copied().unwrap_or(0)..]
    }

    fn fits(rest: &[u8], token: &[u8]) -> bool {
        !token.is_empty() && (rest.starts_with(token) || token.starts_with(rest))
    }
}

impl Constraint for Heal {
    fn num_rows(&self) -> usize {
        self.vocab.num_rows()
    }

    fn fill(&self, row: &mut [u32]) -> Result<()> {
        let rest = self.remaining();
        if rest.is_empty() {
            mask::fill_ones(row, self.vocab.num_rows());
            return Ok(());
        }
        row.fill(0);
        let trie = self.vocab.trie();
        let mut node = 0;
        for &byte in rest {
            let Some(next) = trie.child(node, byte) else { return Ok(()) };
            node = next;
            trie.tokens_at(node).iter().for_each(|&t| mask::set(row, t));
        }
        trie.tokens_below(node).iter().for_each(|&t| mask::set(row, t));
        Ok(())
    }

    fn commit(&mut self, token: TokenId) -> Result<bool> {
        let rest = self.remaining();
        let bytes = self.vocab.token(token);
        let at = self.bytes.len() - rest.len();
        let ok = if rest.is_empty() {
            (token as usize) < self.num_rows()
        } else {
            Self::fits(rest, bytes) && !self.vocab.is_eos(token)
        };
        if ok {
            let reached = (at + bytes.len()).min(self.bytes.len());
            self.covered.push(reached);
        }
        Ok(ok)
    }

    fn rollback(&mut self, n: usize) -> Result<()> {
        let left = self.covered.len().checked_sub(n).ok_or_else(|| {
            Error::state("rollback", format!("at least {n} tokens"), self.covered.len().to_string())
        })?;
        self.covered.truncate(left);
        Ok(())
    }

    fn len(&self) -> usize {
        self.covered.len()
    }

    fn fork(&self) -> Box<dyn Constraint> {
        Box::new(self.clone())
    }
}

/// A cover and ln of its probability.
pub type Cover = (Vec<TokenId>, f64);

/// All covers of `bytes`, each with ln of its probability; `law` gives the natural log-probabilities
/// of the next token after a path. Exponential in the length of `bytes`, hence the limit.
///
/// # Errors
/// `LimitExceeded` beyond `max_covers`; those of `law`.
pub fn covers(
    vocab: &Vocabulary,
    bytes: &[u8],
    max_covers: usize,
    law: &mut dyn FnMut(&[TokenId]) -> Result<Vec<f64>>,
) -> Result<Vec<Cover>> {
    let mut done = Vec::new();
    let mut open: Vec<(Vec<TokenId>, f64, usize)> = vec![(Vec::new(), 0.0, 0)];
    while let Some((path, ln_p, at)) = open.pop() {
        let rest = &bytes[at..];
        if rest.is_empty() {
            done.push((path, ln_p));
            continue;
        }
        let next = law(&path)?;
        for (t, &ln) in next.iter().enumerate() {
            let token = vocab.token(t as TokenId);
            if ln == f64::NEG_INFINITY || !Heal::fits(rest, token) {
                continue;
            }
            let mut longer = path.clone();
            longer.push(t as TokenId);
            open.push((longer, ln_p + ln, (at + token.len()).min(bytes.len())));
        }
        if done.len() + open.len() > max_covers {
            return Err(Error::LimitExceeded {
                limit: "max_covers",
                value: (done.len() + open.len()) as u64,
                budget: max_covers as u64,
            });
        }
    }
    done.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use trivium_core::{Draw, ScaledRow};

    /// Tokens a, b, ab and an end; a Markov source over bytes, encoded with the merge ab.
    fn vocab() -> Vocabulary {
        Vocabulary::new(&[&b"a"[..], b"b", b"ab", b""], &[], &[3], None).unwrap()
    }

    /// P(next byte is b | last byte).
    const AFTER_A: f64 = 0.3;
    const AFTER_B: f64 = 0.6;

    /// The token law of the encoded source, exact for endless text that follows a b.
    fn token_law(path: &[TokenId]) -> Vec<f64> {
        let p = match path.last() {
            // A lone a was not merged: the next byte is an a.
            Some(0) => [1.0 - AFTER_A, 0.0, AFTER_A, 0.0],
            _ => [(1.0 - AFTER_B) * (1.0 - AFTER_A), AFTER_B, (1.0 - AFTER_B) * AFTER_A, 0.0],
        };
        p.iter().map(|p| f64::ln(*p)).collect()
    }

    /// P(text starts with x) of the byte source after a b.
    fn source(x: &[u8]) -> f64 {
        let mut last = b'b';
        x.iter()
            .map(|&c| {
                let b = if last == b'a' { AFTER_A } else { AFTER_B };
                last = c;
                if c == b'b' { b } else { 1.0 - b }
            })
            .product()
    }

    fn strings(n: usize) -> Vec<Vec<u8>> {
        (0..1u32 << n).map(|w| (0..n).map(|i| b"ab"[(w >> i & 1) as usize]).collect()).collect()
    }

    #[test]
    fn covers_give_the_law_of_the_bytes() {
        let v = vocab();
        for n in 1..=6 {
            for x in strings(n) {
                let all = covers(&v, &x, 1 << 12, &mut |p| Ok(token_law(p))).unwrap();
                let sum: f64 = all.iter().map(|c| c.1.exp()).sum();
                assert!((sum - source(&x)).abs() < 1e-12, "{x:?} {sum} {}", source(&x));
            }
        }
        assert!(matches!(
            covers(&v, b"aaaaaa", 1, &mut |p| Ok(token_law(p))),
            Err(Error::LimitExceeded { .. })
        ));
    }

    /// Every cover is reachable under the constraint, nothing else is, and its importance weight
    /// Π Z makes the masked law the exact one.
    #[test]
    fn sampling_under_the_mask_with_its_weight_is_exact() {
        let v = Arc::new(vocab());
        for x in strings(4) {
            let exact = covers(&v, &x, 1 << 12, &mut |p| Ok(token_law(p))).unwrap();
            let mut found: Vec<Cover> = Vec::new();
            let mut open: Vec<(Heal, Vec<TokenId>, f64)> =
                vec![(Heal::new(v.clone(), &x), vec![], 0.0)];
            while let Some((heal, path, ln_p)) = open.pop() {
                if heal.remaining().is_empty() {
                    found.push((path, ln_p));
                    continue;
                }
                let mut words = vec![0; 1];
                heal.fill(&mut words).unwrap();
                let law = token_law(&path);
                let kept: f64 = mask::iter(&words).map(|t| law[t as usize].exp()).sum();
                for t in mask::iter(&words).filter(|&t| law[t as usize].is_finite()) {
                    let mut next = heal.clone();
                    assert!(next.commit(t).unwrap());
                    let mut longer = path.clone();
                    longer.push(t);
                    // ln(q Z) = ln p.
                    let ln_q = law[t as usize] - kept.ln();
                    open.push((next, longer, ln_p + ln_q + kept.ln()));
                }
                for t in 0..4 {
                    assert_eq!(heal.clone().commit(t).unwrap(), mask::get(&words, t));
                }
            }
            found.sort_by(|a, b| a.0.cmp(&b.0));
            assert_eq!(found.len(), exact.len());
            for (a, b) in found.iter().zip(&exact) {
                assert!(a.0 == b.0 && (a.1 - b.1).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn back_off_stops_where_no_token_crosses() {
        let v = vocab();
        // "ab" could still be meant behind a lone a.
        assert_eq!(back_off(&v, &[1, 0]), 1);
        assert_eq!(back_off(&v, &[0, 1]), 2);
        assert_eq!(back_off(&v, &[0]), 0);
        assert_eq!(back_off(&v, &[0, 3]), 2);
        assert_eq!(back_off(&v, &[]), 0);
    }

    #[test]
    fn the_constraint_keeps_its_laws() {
        let mut h = Heal::new(Arc::new(vocab()), b"ab");
        assert!(h.commit(0).unwrap() && !h.commit(0).unwrap() && h.commit(1).unwrap());
        assert!(h.commit(3).unwrap());
        h.rollback(3).unwrap();
        assert_eq!(h.remaining(), b"ab");
        assert!(h.rollback(1).is_err());
        let mut row = ScaledRow::new();
        let mut words = vec![0];
        h.fill(&mut words).unwrap();
        row.load((&[0.0f32; 4][..]).into(), Some(&words), 0.0).unwrap();
        assert_eq!(row.draw(Draw::Cdf, trivium_core::Address::new(0, 0, 0)), 0);
    }
}
