//! The rules as one data type, tagged by name in JSON.

use crate::rules::{
    Allow, BadWords, Diversity, Dry, Dynatemp, EncoderNgram, EncoderRepetition, Epsilon, Eta,
    Forced, Forgetting, Frequency, LengthDecay, LogitBias, MinLength, MinP, Mirostat, Momentum,
    NgramBlock, Processor, Repetition, Rpg, SelfDebias, SequenceBias, Suppress, Temperature, TopH,
    TopK, TopNSigma, TopP, Typical, Xtc,
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
    EncoderNgram = "encoder_ngram",
    BadWords = "bad_words",
    Forced = "forced",
    LogitBias = "logit_bias",
    SequenceBias = "sequence_bias",
    Diversity = "diversity",
    EncoderRepetition = "encoder_repetition",
    Repetition = "repetition",
    Frequency = "frequency",
    Forgetting = "forgetting",
    Dry = "dry",
    Rpg = "rpg",
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
    Momentum = "momentum",
}
