//! Drafts from n-grams that were seen before.
//!
//! Two machines carry all of them: [`index`], where each n-gram of a text ended, and [`counts`], what
//! followed each history how often. A method is a rule on top: which match, how much of what
//! followed, whose text.

mod counts;
mod index;
mod interpolated;
mod llama_cache;
mod lookahead;
mod phrases;
mod prompt_lookup;
mod siblings;
mod trigram;
mod window_trie;

pub use interpolated::{NgramScorer, UNSUPPORTED, WEIGHTS};
pub(crate) use llama_cache::LlamaCache;
pub use lookahead::{Layout, LookaheadWindow, Ngram};
pub use phrases::PhrasePool;
pub(crate) use phrases::Phrases;
pub(crate) use prompt_lookup::PromptLookup;
pub(crate) use siblings::Siblings;
pub(crate) use trigram::Aded;
pub(crate) use window_trie::WindowTrie;
