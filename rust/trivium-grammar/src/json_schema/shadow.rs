//! Shadow validation: a schema whose keywords are not all compiled, checked where a value is complete.
//!
//! The grammar is that of the schema without the keywords; the whole value is validated by definition
//! ([`Validator`]) where a token would complete it. So no invalid value ends (S), every valid one
//! stays reachable (C), and a value may be begun that nothing can make valid (D is not proven).

use super::naive::Validator;
use super::options::Options;
use crate::checker::Checker;
use crate::error::{Error, Result};
use crate::grammar::GrammarMask;
use std::sync::{Arc, Mutex};

/// Last bytes of JSON values.
const CLOSERS: &[u8] = b"}]\"el0123456789";

/// Tokens tested for one mask: those that complete the value.
const MAX_TESTS: usize = 1 << 18;

#[derive(Debug)]
struct Shadow {
    validator: Mutex<Validator>,
}

impl Checker for Shadow {
    fn allows(&self, text: &[u8], complete: bool) -> Result<bool> {
        if !complete {
            return Ok(true);
        }
        let text = std::str::from_utf8(text).map_err(|_| Error::internal("a text of no UTF-8"))?;
        let mut validator =
            self.validator.lock().map_err(|_| Error::internal("a validation panicked"))?;
        validator.is_valid(text)
    }

    fn closers(&self) -> Option<&[u8]> {
        Some(CLOSERS)
    }

    fn max_tests(&self) -> usize {
        MAX_TESTS
    }
}

impl GrammarMask {
    /// This grammar, of a schema some of whose keywords were left out, with `whole` checked where a
    /// value is complete.
    ///
    /// # Errors
    /// `InvalidSchema` if `whole` is no schema.
    pub fn shadowed_by(&self, whole: &str, options: &Options, why: String) -> Result<Self> {
        let mut validator = Validator::new(whole, options)?;
        // What cannot be checked at all is found now, not at the end of a text.
        validator.prepare()?;
        let shadow = Shadow { validator: Mutex::new(validator) };
        self.with_checker(Arc::new(shadow), "json schema", why)
    }
}
