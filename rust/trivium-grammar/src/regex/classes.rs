//! Character classes of the dialects.

use crate::automata::charset::{self, Range};
use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, HirKind};

/// `[0-9]`.
pub(super) const DIGIT: [Range; 1] = [(0x30, 0x39)];
/// `[0-9A-Za-z_]`.
pub(super) const WORD: [Range; 4] = [(0x30, 0x39), (0x41, 0x5a), (0x5f, 0x5f), (0x61, 0x7a)];
/// White space and line ends of ECMA-262.
pub(super) const ECMA_SPACE: [Range; 10] = [
    (0x09, 0x0d),
    (0x20, 0x20),
    (0xa0, 0xa0),
    (0x1680, 0x1680),
    (0x2000, 0x200a),
    (0x2028, 0x2029),
    (0x202f, 0x202f),
    (0x205f, 0x205f),
    (0x3000, 0x3000),
    (0xfeff, 0xfeff),
];
/// `str.isspace`.
pub(super) const PYTHON_SPACE: [Range; 10] = [
    (0x09, 0x0d),
    (0x1c, 0x20),
    (0x85, 0x85),
    (0xa0, 0xa0),
    (0x1680, 0x1680),
    (0x2000, 0x200a),
    (0x2028, 0x2029),
    (0x202f, 0x202f),
    (0x205f, 0x205f),
    (0x3000, 0x3000),
];
/// `\s` under Python's `re.ASCII`.
pub(super) const ASCII_SPACE: [Range; 2] = [(0x09, 0x0d), (0x20, 0x20)];
/// What `.` leaves out in ECMA-262.
pub(super) const LINE_ENDS: [Range; 3] = [(0x0a, 0x0a), (0x0d, 0x0d), (0x2028, 0x2029)];

/// The characters with a Unicode property, named as in `\p{name}`.
pub(super) fn property(name: &str) -> Option<Vec<Range>> {
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '=' | '-' | ' ')) {
        return None;
    }
    let hir = regex_syntax::parse(&format!("\\p{{{name}}}")).ok()?;
    match hir.kind() {
        HirKind::Class(Class::Unicode(c)) => {
            Some(c.iter().map(|r| (r.start().into(), r.end().into())).collect())
        }
        // One character only, or none.
        HirKind::Literal(text) => {
            let text = std::str::from_utf8(&text.0).ok()?;
            Some(text.chars().map(|c| (c.into(), c.into())).collect())
        }
        _ => None,
    }
}

/// `\w` of Python's `re`: letters, numbers and the underscore.
pub(super) fn python_word() -> Vec<Range> {
    let mut set = vec![(0x5f, 0x5f)];
    set.extend(property("L").unwrap_or_default());
    set.extend(property("N").unwrap_or_default());
    charset::normalize(set)
}

/// With every character those that differ from it in case only.
pub(crate) fn fold(set: Vec<Range>) -> Vec<Range> {
    let ranges = set.iter().flat_map(|&(lo, hi)| {
        // Surrogates are no characters.
        let parts = charset::intersect(&[(lo, hi)], &[(0, 0xd7ff), (0xe000, charset::MAX)]);
        parts.into_iter().filter_map(|(lo, hi)| {
            Some(ClassUnicodeRange::new(char::from_u32(lo)?, char::from_u32(hi)?))
        })
    });
    let mut class = ClassUnicode::new(ranges.collect::<Vec<_>>());
    if class.try_case_fold_simple().is_err() {
        return set;
    }
    class.iter().map(|r| (r.start().into(), r.end().into())).collect()
}
