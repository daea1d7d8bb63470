//! `trivium._core`: the extension module behind the Python package.
//!
//! No algorithm lives here. Each file wraps one public class; [`arrays`] reads foreign memory,
//! [`errors`] turns typed errors into exceptions, [`guard`] releases the interpreter and keeps
//! panics from crossing the border.

// Signatures here are Python's: arguments arrive owned, results are tuples of arrays.
#![allow(
    clippy::needless_pass_by_value,
    clippy::elidable_lifetime_names,
    clippy::type_complexity,
    clippy::too_many_arguments,
    clippy::doc_markdown
)]

use pyo3::prelude::*;

mod arrays;
mod canvas;
mod combine;
mod constraint;
mod control;
mod cuda;
mod device;
mod drafting;
mod errors;
mod grammar;
mod guard;
mod sampling;
mod schema;
mod sources;
mod spec;
mod trees;
mod verify;
mod vocab;
mod voter;

#[pymodule]
mod _core {
    #[pymodule_export]
    use crate::canvas::PyCanvas;
    #[pymodule_export]
    use crate::combine::{
        after_trigger, combine_grammars, island_grammar, phrase_grammar, span_grammar,
    };
    #[pymodule_export]
    use crate::control::{
        PyController, PyHedge, best_length_py, control_names, pearl_gamma_py, spec_branch_gamma_py,
        ucb_radius_py,
    };
    #[pymodule_export]
    use crate::cuda::cuda_doctor;
    #[pymodule_export]
    use crate::drafting::{
        PyAnchorIndex, PyDraftRouter, PyExitChooser, PyLayerDp, PyLayerSetSearch,
        PyLookaheadWindow, PyNgramScorer, PyPhrasePool, PyReplayBuffer, PyVocabMap,
        first_token_law, seam, skippy,
    };
    #[pymodule_export]
    use crate::grammar::{PyCancel, PyGrammarMask, PyMatcher, fill_batch_py};
    #[pymodule_export]
    use crate::sampling::{
        PyHeal, PyPipeline, PySampler, back_off, conditional_maxima, covers, repeats,
    };
    #[pymodule_export]
    use crate::sources::{build_corpus, draw_draft};
    #[pymodule_export]
    use crate::spec::{PyRequest, PySpeculator, PyTreeBatch, PyVerified};
    #[pymodule_export]
    use crate::trees::{
        PyDraftTree, PySequoia, PyStateSpacePlan, PyTemplate, PyTreeBuilder, builder_takes,
        builders, merge_attention_py, merge_trees, ppd_best_size, ppd_solve, prune_by_draft_py,
    };
    #[pymodule_export]
    use crate::verify::{
        PyEntropySwitch, PyRewardGate, check_mutants, check_verifiers, transform_rows,
        verifier_takes, verifiers, verify_tree_py,
    };
    #[pymodule_export]
    use crate::vocab::PyVocabulary;
    #[pymodule_export]
    use crate::voter::{PyVoter, replay_keys, vote_list};

    /// Version of the crates behind the package.
    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
