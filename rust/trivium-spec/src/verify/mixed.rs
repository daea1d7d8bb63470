//! Chosen and drawn siblings at one node.
//!
//! ```text
//! recursive rejection over the drawn siblings; if none is accepted y ~ r; walk if y is any child
//! ```
//!
//! Own combination: tails of stores below drawn nodes, top tokens beside a draw. Rejection over
//! the drawn siblings yields `y ~ p` whatever else hangs at the node, so chosen siblings cost
//! nothing and are reached by membership. A token that was both chosen and drawn is one drawn
//! node, placed where it was drawn. With drawn siblings from `q` off the chosen ones and one draw
//! this is greedy plus one. What would break it: testing chosen siblings against `q`.

use super::fault::{Faults, Mutation};
use super::recursive;
use super::walk::{Choice, Site, Tests, Work};
use crate::tree::Role;
use trivium_core::TokenId;

pub(crate) fn decide<F: Faults>(
    site: &Site<'_>,
    roles: &[Role],
    tests: &mut Tests<'_, F>,
    work: &mut Work,
) -> Choice {
    let all = tests.faults.has(Mutation::ChosenAsDrawn);
    let first_only = tests.faults.has(Mutation::DrawnAsChosen);
    // The drawn ones, moved to the front of a small buffer that the path rules do not use here.
    let mut drawn: Vec<TokenId> = std::mem::take(&mut work.path.tokens);
    drawn.clear();
    drawn.extend(
        site.draws.iter().zip(roles).filter(|(_, r)| all || **r == Role::Drawn).map(|(&t, _)| t),
    );
    if first_only && drawn.len() > 1 {
        drawn.remove(0);
    }
    let choice = recursive::decide(&Site { draws: &drawn, ..*site }, false, tests, work);
    work.path.tokens = drawn;
    choice
}
