//! The library's share of sources that bring logits: what decides, not what runs.
//!
//! The host runs networks; here is everything that is a policy or a map.
//!
//! | idea | type |
//! |---|---|
//! | which sub-layers a self-drafting model skips (SWIFT, Draft & Verify) | [`LayerSetSearch`] |
//! | the same by dynamic programming on hidden states (CLaSp) | [`LayerDp`] |
//! | which set suits a prompt (KNN-SSD) | [`AnchorIndex`] |
//! | which layer to exit at, and for how long (DEL) | [`ExitChooser`] |
//! | how many layers to skip and mask tokens to append (S3D) | [`skippy`] |
//! | another vocabulary (TLI), a pruned one (VocabTrim) | [`VocabMap`] |
//! | another tokenizer (SLEM, SLRS) | [`seam`], [`first_token_law`] |
//! | what to distil the draft from (online speculative decoding) | [`ReplayBuffer`] |
//! | which of several drafts (clusters, languages, targets) | [`DraftRouter`] |
//!
//! When to stop a draft is [`control`](crate::control)'s.

mod anchors;
mod exit;
mod layer_dp;
mod layer_set;
mod replay;
mod router;
mod seam;
mod skippy;
mod string_law;
mod vocab_map;

pub use anchors::{AnchorIndex, Metric};
pub use exit::ExitChooser;
pub use layer_dp::LayerDp;
pub use layer_set::LayerSetSearch;
pub use replay::{ReplayBuffer, Sample};
pub use router::DraftRouter;
pub use seam::seam;
pub use skippy::skippy;
pub use string_law::first_token_law;
pub use vocab_map::VocabMap;
