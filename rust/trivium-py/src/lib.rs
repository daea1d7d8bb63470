//! `trivium._core`: the extension module behind the Python package.
//!
//! No algorithm lives here. Each file wraps one public class; [`arrays`] reads foreign memory,
//! [`errors`] turns typed errors into exceptions, [`guard`] releases the interpreter and keeps
//! panics from crossing the border.

use pyo3::prelude::*;

mod arrays;
mod errors;
mod guard;
mod vocab;

#[pymodule]
mod _core {
    #[pymodule_export]
    use crate::vocab::PyVocabulary;

    /// Version of the crates behind the package.
    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
