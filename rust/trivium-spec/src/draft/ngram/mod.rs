//! Drafts from n-grams that were seen before.
//!
//! Two machines carry all of them: [`index`], where each n-gram of a text ended, and [`counts`], what
//! followed each history how often. A method is a rule on top: which match, how much of what
//! followed, whose text.

mod counts;
mod index;
mod llama_cache;
mod phrases;
mod prompt_lookup;

pub(crate) use llama_cache::LlamaCache;
pub(crate) use phrases::Phrases;
pub(crate) use prompt_lookup::PromptLookup;
