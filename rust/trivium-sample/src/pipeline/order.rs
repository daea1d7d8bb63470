//! Orders of rules: the canonical one and those of three stacks.
//!
//! Canonical: fusion, masks, edits (bias and penalties), temperature, truncation. transformers runs
//! bias and penalties before its masks; llama.cpp truncates before temperature; vLLM runs min-p before
//! top-k and top-p. The last two orders are documented from memory of those projects and say nothing
//! of their arithmetic; rules that a stack does not have stand where the canonical order has them.

use super::Step;
use serde::{Deserialize, Serialize};

/// Which order `Pipeline::ordered` sorts by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Order {
    /// Fusion, masks, edits, temperature, truncation.
    #[default]
    #[serde(rename = "canonical")]
    Canonical,
    /// transformers 5.
    #[serde(rename = "transformers")]
    Transformers,
    /// llama.cpp.
    #[serde(rename = "llama.cpp")]
    LlamaCpp,
    /// vLLM.
    #[serde(rename = "vllm")]
    Vllm,
}

const TRANSFORMERS: &[&str] = &[
    "self_debias",
    "sequence_bias",
    "logit_bias",
    "diversity",
    "encoder_repetition",
    "repetition",
    "frequency",
    "forgetting",
    "dry",
    "rpg",
    "ngram_block",
    "encoder_ngram",
    "bad_words",
    "min_length",
    "allow",
    "forced",
    "length_decay",
    "suppress",
    "temperature",
    "dynatemp",
    "top_h",
    "top_k",
    "top_p",
    "min_p",
    "typical",
    "epsilon",
    "eta",
    "top_n_sigma",
    "xtc",
    "mirostat",
    "momentum",
];

const LLAMA_CPP: &[&str] = &[
    "self_debias",
    "allow",
    "suppress",
    "min_length",
    "ngram_block",
    "encoder_ngram",
    "bad_words",
    "forced",
    "logit_bias",
    "sequence_bias",
    "length_decay",
    "diversity",
    "encoder_repetition",
    "repetition",
    "frequency",
    "forgetting",
    "dry",
    "rpg",
    "top_n_sigma",
    "top_k",
    "typical",
    "top_p",
    "min_p",
    "epsilon",
    "eta",
    "top_h",
    "xtc",
    "temperature",
    "dynatemp",
    "mirostat",
    "momentum",
];

const VLLM: &[&str] = &[
    "self_debias",
    "allow",
    "bad_words",
    "min_length",
    "suppress",
    "ngram_block",
    "encoder_ngram",
    "forced",
    "logit_bias",
    "sequence_bias",
    "diversity",
    "encoder_repetition",
    "repetition",
    "frequency",
    "forgetting",
    "dry",
    "rpg",
    "length_decay",
    "temperature",
    "dynatemp",
    "min_p",
    "top_k",
    "top_p",
    "typical",
    "epsilon",
    "eta",
    "top_h",
    "top_n_sigma",
    "xtc",
    "mirostat",
    "momentum",
];

impl Order {
    /// An order by its name.
    pub fn by_name(name: &str) -> Option<Self> {
        match name {
            "canonical" => Some(Self::Canonical),
            "transformers" => Some(Self::Transformers),
            "llama.cpp" => Some(Self::LlamaCpp),
            "vllm" => Some(Self::Vllm),
            _ => None,
        }
    }

    /// Place of a rule.
    pub(crate) fn rank(self, step: &Step) -> usize {
        let table = match self {
            Self::Canonical => Step::NAMES,
            Self::Transformers => TRANSFORMERS,
            Self::LlamaCpp => LLAMA_CPP,
            Self::Vllm => VLLM,
        };
        table.iter().position(|&name| name == step.name()).unwrap_or(table.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_has_every_rule_once() {
        for table in [TRANSFORMERS, LLAMA_CPP, VLLM] {
            let mut a = table.to_vec();
            let mut b = Step::NAMES.to_vec();
            a.sort_unstable();
            b.sort_unstable();
            assert_eq!(a, b);
        }
    }
}
