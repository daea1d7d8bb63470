//! Prompt lookup: the last n tokens occurred before; propose what followed.
//!
//! One index, three published selection rules, each bit for bit that of its reference:
//!
//! | name | n | match | must follow |
//! |---|---|---|---|
//! | `prompt_lookup` (transformers) | 2 down to 1 | earliest | one token |
//! | `prompt_lookup:full=yes` (Saxena's original) | 3 down to 1 | earliest | the whole draft |
//! | `ngram` (vLLM) | longest of `min_ngram..=max_ngram` | earliest | one token |
//!
//! `match=latest` and `match=most_frequent` are ours: the newest occurrence, and the newest among
//! those with the most frequent next token (over the newest [`SCANNED`]). The references scan the
//! context each step (a third of a millisecond at 128k tokens); here a step is O(n) look-ups.
//!
//! Saxena, "Prompt Lookup Decoding" (2023); transformers' `PromptLookupCandidateGenerator`; vLLM's
//! `ngram` method.

use super::index::NgramIndex;
use crate::draft::options::Options;
use crate::draft::plan::{MAGNITUDES, Planned, Planner, Trie, magnitude};
use crate::draft::{RequestSource, Saved, Scope, SharedSource};
use trivium_core::TokenId;
use trivium_core::error::{Error, Result};

/// Occurrences that `most_frequent` looks at.
const SCANNED: usize = 256;

/// Longest n-gram.
pub(crate) const MAX_NGRAM: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Match {
    Earliest,
    Latest,
    MostFrequent,
}

#[derive(Debug, Clone, Copy)]
struct Rule {
    min_ngram: usize,
    max_ngram: usize,
    num_tokens: usize,
    take: Match,
    full: bool,
}

/// The source.
#[derive(Debug)]
pub(crate) struct PromptLookup {
    name: &'static str,
    rule: Rule,
}

impl PromptLookup {
    /// transformers' form and the original.
    pub(crate) fn parse(mut o: Options) -> Result<Self> {
        let full = o.choice("full", &["no", "yes"])? == "yes";
        let rule = Rule {
            min_ngram: o.number("min_ngram", 1, 1..=MAX_NGRAM)?,
            max_ngram: o.number("max_ngram", if full { 3 } else { 2 }, 1..=MAX_NGRAM)?,
            num_tokens: o.number("num_tokens", 10, 1..=1024)?,
            take: take(&mut o)?,
            full,
        };
        Self::new("prompt_lookup", rule, o)
    }

    /// vLLM's form.
    pub(crate) fn parse_vllm(mut o: Options) -> Result<Self> {
        let rule = Rule {
            min_ngram: o.number("min_ngram", 2, 1..=MAX_NGRAM)?,
            max_ngram: o.number("max_ngram", 5, 1..=MAX_NGRAM)?,
            num_tokens: o.number("num_tokens", 5, 1..=1024)?,
            take: take(&mut o)?,
            full: false,
        };
        Self::new("ngram", rule, o)
    }

    fn new(name: &'static str, rule: Rule, o: Options) -> Result<Self> {
        o.done()?;
        if rule.min_ngram > rule.max_ngram {
            return Err(Error::input(
                "sources",
                format!("{name}: min_ngram {} above max_ngram {}", rule.min_ngram, rule.max_ngram),
            ));
        }
        Ok(Self { name, rule })
    }
}

fn take(o: &mut Options) -> Result<Match> {
    Ok(match o.choice("match", &["earliest", "latest", "most_frequent"])? {
        "latest" => Match::Latest,
        "most_frequent" => Match::MostFrequent,
        _ => Match::Earliest,
    })
}

impl SharedSource for PromptLookup {
    fn name(&self) -> &'static str {
        self.name
    }

    fn slots(&self) -> &'static [usize] {
        const { &[(MAGNITUDES * MAGNITUDES) as usize] }
    }

    fn open(&self, _scope: &Scope, text: &[TokenId]) -> Box<dyn RequestSource> {
        let index = NgramIndex::new(self.rule.max_ngram);
        Planned::open(Lookup { rule: self.rule, index }, text)
    }

    fn memory(&self) -> usize {
        0
    }

    fn save(&self) -> Saved {
        Saved::new()
    }

    fn load(&self, _saved: &Saved) -> Result<()> {
        Ok(())
    }
}

#[derive(Debug, Clone)]
struct Lookup {
    rule: Rule,
    index: NgramIndex,
}

impl Lookup {
    /// Where the draft starts, and the length of its match.
    fn find(&self, text: &[TokenId]) -> Option<(usize, usize)> {
        let Rule { min_ngram, max_ngram, take, .. } = self.rule;
        let last = if self.rule.full {
            text.len().checked_sub(self.rule.num_tokens)?
        } else {
            text.len().checked_sub(1)?
        };
        for n in (min_ngram..=max_ngram.min(text.len().saturating_sub(1))).rev() {
            let gram = &text[text.len() - n..];
            let usable = |end: &u32| *end as usize <= last;
            let found = match take {
                // If the first one is too close to the end, so are all.
                Match::Earliest => self.index.find(text, gram).map(|e| e.first).filter(usable),
                Match::Latest => self.index.ends(text, gram).find(usable),
                Match::MostFrequent => {
                    let ends: Vec<u32> =
                        self.index.ends(text, gram).filter(usable).take(SCANNED).collect();
                    let count = |e: u32| {
                        ends.iter().filter(|&&o| text[o as usize] == text[e as usize]).count()
                    };
                    // The newest among equals.
                    ends.iter().rev().copied().max_by_key(|&e| count(e))
                }
            };
            if let Some(end) = found {
                return Some((end as usize, n));
            }
        }
        None
    }
}

impl Planner for Lookup {
    fn extend(&mut self, text: &[TokenId], from: usize) {
        self.index.extend(text, from);
    }

    fn retract(&mut self, text: &[TokenId], left: usize) {
        self.index.retract(text, left);
    }

    fn plan(&mut self, text: &[TokenId], trie: &mut Trie) {
        let Some((start, n)) = self.find(text) else { return };
        let end = text.len().min(start + self.rule.num_tokens);
        let prior = [0.3, 0.3, 0.5, 0.65, 0.75, 0.85][usize::from(magnitude(n))];
        trie.add_path(&text[start..end], |depth| {
            (if depth == 0 { prior } else { 0.8 }, magnitude(n) * MAGNITUDES + magnitude(depth))
        });
    }

    fn memory(&self) -> usize {
        self.index.memory()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::plan::testing::{draft_of, follows_the_laws};

    fn source(spec: &str) -> PromptLookup {
        let o = Options::parse(spec).unwrap();
        if o.name() == "ngram" { PromptLookup::parse_vllm(o) } else { PromptLookup::parse(o) }
            .unwrap()
    }

    /// transformers' loop, with its slices.
    fn transformers(text: &[u32], max_ngram: usize, m: usize) -> Vec<u32> {
        for n in (1..=max_ngram.min(text.len() - 1)).rev() {
            for idx in 0..=text.len() - n {
                let (start, end) = (idx + n, (idx + n + m).min(text.len()));
                if text[idx..idx + n] == text[text.len() - n..] && start < end {
                    return text[start..end].to_vec();
                }
            }
        }
        Vec::new()
    }

    fn original(text: &[u32], max_ngram: usize, m: usize) -> Vec<u32> {
        for n in (1..=max_ngram.min(text.len())).rev() {
            for i in 0..text.len() {
                if i + n + m <= text.len()
                    && i + n < text.len()
                    && text[i..i + n] == text[text.len() - n..]
                {
                    return text[i + n..i + n + m].to_vec();
                }
            }
        }
        Vec::new()
    }

    /// vLLM's failure table over the reversed text.
    fn vllm(text: &[u32], min: usize, max: usize, k: usize) -> Vec<u32> {
        if text.len() < min {
            return Vec::new();
        }
        let reversed: Vec<u32> = text.iter().rev().copied().collect();
        let mut lps = vec![0; max];
        let (mut longest, mut position, mut prev, mut i) = (0, 0, 0, 1);
        while i < reversed.len() {
            if reversed[prev] == reversed[i] {
                prev += 1;
                if prev >= longest {
                    (longest, position) = (prev, i);
                }
                if i < max {
                    lps[i] = prev;
                }
                if prev == max {
                    prev = lps[max - 1];
                }
                i += 1;
            } else if prev != 0 {
                prev = lps[prev - 1];
            } else {
                i += 1;
            }
        }
        if longest < min {
            return Vec::new();
        }
        let start = text.len() - 1 - position + longest;
        text[start..text.len().min(start + k)].to_vec()
    }

    /// All texts over two letters up to length 10 and three letters up to 8.
    fn texts() -> impl Iterator<Item = Vec<u32>> {
        let of = |letters: u32, len: u32| {
            (0..letters.pow(len)).map(move |mut x| {
                (0..len)
                    .map(|_| {
                        let t = x % letters;
                        x /= letters;
                        t
                    })
                    .collect()
            })
        };
        (2..=10).flat_map(move |n| of(2, n)).chain((2..=7).flat_map(move |n| of(3, n)))
    }

    fn one(mut paths: Vec<Vec<u32>>) -> Vec<u32> {
        assert!(paths.len() <= 1);
        paths.pop().unwrap_or_default()
    }

    #[test]
    fn equals_the_references_on_all_short_texts() {
        for (max, m) in [(1, 2), (2, 10), (3, 2), (4, 3)] {
            let hf = source(&format!("prompt_lookup:max_ngram={max};num_tokens={m}"));
            let full = source(&format!("prompt_lookup:full=yes;max_ngram={max};num_tokens={m}"));
            for text in texts() {
                assert_eq!(one(draft_of(&hf, &text)), transformers(&text, max, m), "{text:?}");
                assert_eq!(one(draft_of(&full, &text)), original(&text, max, m), "{text:?}");
            }
        }
        for (min, max, k) in [(1, 1, 2), (1, 3, 4), (2, 4, 3), (3, 3, 9)] {
            let s = source(&format!("ngram:min_ngram={min};max_ngram={max};num_tokens={k}"));
            for text in texts() {
                assert_eq!(one(draft_of(&s, &text)), vllm(&text, min, max, k), "{text:?}");
            }
        }
    }

    #[test]
    fn other_matches() {
        let text = [7, 1, 8, 7, 2, 8, 7, 2, 9, 7, 3, 9, 7];
        let m = |rule: &str| {
            one(draft_of(
                &source(&format!("prompt_lookup:match={rule};max_ngram=1;num_tokens=2")),
                &text,
            ))
        };
        assert_eq!(m("earliest"), [1, 8]);
        assert_eq!(m("latest"), [3, 9]);
        assert_eq!(m("most_frequent"), [2, 9]);
    }

    #[test]
    fn per_request_laws() {
        for spec in ["prompt_lookup", "prompt_lookup:full=yes;num_tokens=2", "ngram:match=latest"] {
            follows_the_laws(&source(spec), &[0, 1, 2, 0, 1, 2, 1, 1, 0, 1, 2, 0, 2, 1]);
        }
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        for bad in ["prompt_lookup:max_ngram=0", "prompt_lookup:min_ngram=3", "ngram:k=3"] {
            let o = Options::parse(bad).unwrap();
            let got = if bad.starts_with("ngram") {
                PromptLookup::parse_vllm(o)
            } else {
                PromptLookup::parse(o)
            };
            assert!(got.is_err(), "{bad}");
        }
    }
}
