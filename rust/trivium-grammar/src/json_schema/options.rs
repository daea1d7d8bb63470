//! How values may be spelled, and what is done about keywords that cannot be enforced.

pub use super::expand::Formats;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Order of an object's members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MemberOrder {
    /// As `properties` lists them, then names only `required` knows, then undeclared ones.
    #[default]
    Schema,
    /// Any.
    Any,
}

/// Members that a schema neither declares nor forbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Additional {
    /// Allowed, as the standard says.
    #[default]
    Spec,
    /// Refused where a schema declares `properties` and is silent about others.
    Closed,
}

/// White space between the tokens of JSON; never before the value or after it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Whitespace {
    /// Up to 64 blanks, tabs, carriage returns and line feeds.
    #[default]
    Flex,
    /// None.
    Compact,
    /// Any number.
    Any,
    /// A line for each member and item, indented by so many blanks a level.
    Indent(u8),
    /// A pattern of the Rust dialect.
    Pattern(String),
}

/// How characters of strings may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Escaping {
    /// Raw where JSON permits it, short escapes, `\u00XX` for other control characters.
    #[default]
    Minimal,
    /// Also `\uXXXX` for every character.
    Any,
}

/// How numbers may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Numerals {
    /// No exponent where a bound or divisor applies, integers without fraction.
    #[default]
    Plain,
    /// Every spelling of JSON.
    Any,
}

/// What is done about a keyword that cannot be enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnUnsupported {
    /// The schema is refused.
    #[default]
    Error,
    /// The keyword is dropped and listed in the report.
    Relax,
}

/// Everything a schema is compiled with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Order of members.
    pub order: MemberOrder,
    /// Undeclared members.
    pub additional: Additional,
    /// White space.
    pub whitespace: Whitespace,
    /// Escapes in strings.
    pub escapes: Escaping,
    /// Spelling of numbers.
    pub numbers: Numerals,
    /// Most digits of a number: a guard against endless ones that gives up completeness.
    pub digits: Option<u32>,
    /// Which formats are asserted.
    pub formats: Formats,
    /// What is done about keywords that cannot be enforced.
    pub on_unsupported: OnUnsupported,
    /// Texts of other documents, by address.
    pub remotes: BTreeMap<String, Arc<str>>,
    /// Cells of one node.
    pub max_cells: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            order: MemberOrder::default(),
            additional: Additional::default(),
            whitespace: Whitespace::default(),
            escapes: Escaping::default(),
            numbers: Numerals::default(),
            digits: None,
            formats: Formats::Assert,
            on_unsupported: OnUnsupported::default(),
            remotes: BTreeMap::new(),
            max_cells: 20_000,
        }
    }
}
