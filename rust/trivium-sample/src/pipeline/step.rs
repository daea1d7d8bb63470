//! The rules as one data type, tagged by name in JSON.

use crate::rules::{
    Allow, BadWords, Dry, Dynatemp, Epsilon, Eta, Forced, Forgetting, Frequency, LengthDecay,
    LogitBias, MinLength, MinP, Mirostat, NgramBlock, Processor, Repetition, SelfDebias,
    SequenceBias, Suppress, Temperature, TopH, TopK, TopNSigma, TopP, Typical, Xtc,
};
use serde::{Deserialize, Serialize};

macro_rules! steps {
    ($($variant:ident = $name:literal,)*) => {
        /// One rule with its parameters: `{"rule": name, ...}` in JSON.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "rule")]
        pub enum Step {
            $(
                #[doc = concat!("`", $name, "`.")]
                #[serde(rename = $name)]
                $variant($variant),
            )*
        }

        impl Step {
            /// Names of all rules.
            pub const NAMES: &[&str] = &[$($name),*];

            /// Name of the rule.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$variant(_) => $name,)* }
            }

            /// The rule.
            pub fn processor(&self) -> &dyn Processor {
                match self { $(Self::$variant(rule) => rule,)* }
            }
        }

        $(impl From<$variant> for Step {
            fn from(rule: $variant) -> Self {
                Self::$variant(rule)
            }
        })*
    };
}

steps! {
    SelfDebias = "self_debias",
    Allow = "allow",
    Suppress = "suppress",
    MinLength = "min_length",
    NgramBlock = "ngram_block",
    BadWords = "bad_words",
    Forced = "forced",
    LogitBias = "logit_bias",
    SequenceBias = "sequence_bias",
    Repetition = "repetition",
    Frequency = "frequency",
    Forgetting = "forgetting",
    Dry = "dry",
    LengthDecay = "length_decay",
    Temperature = "temperature",
    Dynatemp = "dynatemp",
    TopH = "top_h",
    TopK = "top_k",
    TopP = "top_p",
    MinP = "min_p",
    Typical = "typical",
    Epsilon = "epsilon",
    Eta = "eta",
    TopNSigma = "top_n_sigma",
    Xtc = "xtc",
    Mirostat = "mirostat",
}
