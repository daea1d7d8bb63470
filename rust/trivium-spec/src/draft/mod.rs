//! Draft sources: what might come next, and how sure each is.
//!
//! A source is split by lifetime. [`SharedSource`] lives as long as the speculator and owns what
//! requests share; [`RequestSource`] is one request's view: its own text, cursors into shared
//! stores, and one state a node of the tree being grown. The builder asks for the candidates of a
//! node, never for whole drafts, so trees mix sources node by node.
//!
//! Sources see committed tokens only, once and in order. Shared stores learn at `finish`.

pub mod automaton;
mod candidates;
mod corpus;
pub mod logits;
pub mod mixture;
pub mod ngram;
mod options;
mod parallel;
mod plan;
mod recycle;
pub mod retrieval;
mod ring;
mod scoped;
mod suffix;
mod undo;
mod uses;

pub use candidates::Candidates;
pub use corpus::Corpus;
pub use options::Options;
pub use recycle::{RANKS, Recycle};
pub use suffix::Suffix;

use crate::tree::DraftLaw;
use std::collections::BTreeMap;
use trivium_core::error::Result;
use trivium_core::{Error, TokenId};

/// One proposed continuation of a node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The token.
    pub token: TokenId,
    /// The role in which the source speaks, an index into [`SharedSource::slots`].
    pub slot: u8,
    /// The situation, below the slot's number of features.
    pub feature: u16,
    /// The source's own estimate that the token is accepted given that its parent was.
    pub prior: f32,
}

/// Who may share what: requests of one group share drafts, tenants share nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    /// Owner of the shared stores; `None` is a tenant of its own.
    pub tenant: Option<String>,
    /// Sibling samples of one prompt.
    pub group: Option<String>,
}

/// Named arrays of a saved store.
pub type Saved = BTreeMap<String, Vec<u32>>;

/// The part of a source that requests share.
pub trait SharedSource: Send + Sync + std::fmt::Debug {
    /// Name in options and statistics.
    fn name(&self) -> &'static str;

    /// How its tokens are chosen.
    fn law(&self) -> DraftLaw {
        DraftLaw::PointMass
    }

    /// Its roles (slots of the mixture): the number of situations of each.
    fn slots(&self) -> &'static [usize];

    /// Told once, before any request, which sources speak (itself among them): one that would only
    /// repeat another's reasons may keep them to itself.
    fn beside(&mut self, _names: &[&str]) {}

    /// The view of a new request; `text` is its prompt.
    fn open(&self, scope: &Scope, text: &[TokenId]) -> Box<dyn RequestSource>;

    /// Bytes held by shared stores.
    fn memory(&self) -> usize;

    /// Persistent contents of the anonymous tenant.
    fn save(&self) -> Saved;

    /// Restores [`save`](Self::save).
    ///
    /// # Errors
    /// `InvalidInput` if arrays are missing or damaged; nothing changes.
    fn load(&self, saved: &Saved) -> Result<()>;

    /// Takes [`save`](Self::save)d contents as static ones, which every tenant reads and nobody
    /// changes; sources without a static store ignore them.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    fn attach(&self, _saved: &Saved) -> Result<()> {
        Ok(())
    }
}

/// Best ids of one verified row, best first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopIds {
    /// Token of the row's node.
    pub token: TokenId,
    /// Whether the node was on the accepted path.
    pub accepted: bool,
    /// Best ids of its row.
    pub ids: Vec<TokenId>,
}

/// One request's view of a source.
pub trait RequestSource: Send + Sync + std::fmt::Debug {
    /// Appends committed tokens.
    fn commit(&mut self, tokens: &[TokenId]);

    /// Takes back tokens; `left` is the text that remains, `n` how many went.
    fn rollback(&mut self, left: &[TokenId], n: usize);

    /// Rows of a verification that is being committed.
    fn observe_rows(&mut self, _rows: &[TopIds]) {}

    /// An independent copy over the same shared stores.
    fn fork(&self) -> Box<dyn RequestSource>;

    /// Starts a tree below the committed text, whose last token is node 0.
    fn root(&mut self, last: TokenId);

    /// Starts a step that drafts nothing: node 0 alone, and no work for candidates.
    fn idle(&mut self, last: TokenId) {
        self.root(last);
    }

    /// Adds the next node (ids count up from 1).
    fn node(&mut self, parent: usize, token: TokenId);

    /// Continuations of a node whose ancestors were asked before: the strongest reason for a token
    /// first, a token once a slot.
    fn candidates(&mut self, node: usize, depth: usize, out: &mut Candidates);

    /// Lets shared stores learn from the finished text.
    fn finish(&mut self, text: &[TokenId], prompt_len: usize);

    /// Bytes held by this request.
    fn memory(&self) -> usize;
}

/// Names of the draft sources that need no settings; `rest` needs the file of its corpus.
pub const SOURCES: [&str; 12] = [
    "suffix",
    "recycle",
    "prompt_lookup",
    "ngram",
    "ngram_cache",
    "lookahead",
    "ouroboros",
    "jacobi",
    "fastcot",
    "trie",
    "aded",
    "siblings",
];

/// Whether a source of this name and settings reads the target's best ids of verified rows.
pub(crate) fn learns_from_rows(text: &str) -> bool {
    let name = text.split_once(':').map_or(text, |(name, _)| name);
    matches!(name, "recycle" | "lookahead" | "ouroboros" | "jacobi" | "fastcot")
}

/// A source by its name and settings (see [`Options`]).
///
/// # Errors
/// `Unsupported` listing what exists; `InvalidInput` for settings that the source does not have.
pub fn by_name(text: &str, vocab: usize, max_bytes: usize) -> Result<Box<dyn SharedSource>> {
    let o = Options::parse(text)?;
    Ok(match o.name() {
        "suffix" => {
            o.done()?;
            Box::new(Suffix::new(max_bytes))
        }
        "recycle" => {
            o.done()?;
            Box::new(Recycle::new(vocab))
        }
        "prompt_lookup" => Box::new(ngram::PromptLookup::parse(o)?),
        "ngram" => Box::new(ngram::PromptLookup::parse_vllm(o)?),
        "ngram_cache" => Box::new(ngram::LlamaCache::parse(o, vocab, max_bytes)?),
        "lookahead" | "ouroboros" => Box::new(ngram::Phrases::parse(o, vocab, max_bytes)?),
        "trie" => Box::new(ngram::WindowTrie::parse(o, vocab, max_bytes)?),
        "aded" => Box::new(ngram::Aded::parse(o, vocab)?),
        "siblings" => Box::new(ngram::Siblings::parse(o, max_bytes)?),
        "rest" => Box::new(retrieval::Rest::parse(o, vocab, max_bytes)?),
        "jacobi" | "fastcot" => Box::new(parallel::Jacobi::parse(o)?),
        name => {
            return Err(Error::unsupported(
                format!("draft source {name:?}"),
                "in sources",
                format!(
                    "the sources are {}, \"rest\"",
                    SOURCES.map(|s| format!("{s:?}")).join(", ")
                ),
            ));
        }
    })
}
