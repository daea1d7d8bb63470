//! The processed law: what stands between a model's logits and the draw.
//!
//! | module | holds |
//! |---|---|
//! | [`rules`] | one file a logits processor: masks, penalties, temperatures, truncations |
//! | [`pipeline`] | [`Pipeline`]: rules in order as plain data; [`Session`]: a pipeline along a text |
//! | [`history`] | prompt and output as the rules see them |
//! | [`params`] | [`Params`]: the four parameters every stack has |
//! | [`maxima`] | Gumbel noise conditioned on its maximum |
//! | [`repeat`] | how often a sequence repeats its end |
//! | [`without`] | Gumbel-top-k: ordered samples without replacement |
//! | [`heal`] | prompts that end inside a token |
//!
//! The draw itself is core's, so no rule changes the noise a token sees. Rules write `-inf` to
//! remove; nothing resurrects a removed token, and no truncation empties a row.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod heal;
pub mod history;
pub mod maxima;
mod params;
pub mod pipeline;
pub mod repeat;
pub mod rules;
pub mod without;

pub use history::{History, Scope};
pub use params::Params;
pub use pipeline::{Detail, Drawn, Input, LogProbs, OnEmpty, Order, Pipeline, Session, Step};
pub use rules::{Hyper, Processor};
