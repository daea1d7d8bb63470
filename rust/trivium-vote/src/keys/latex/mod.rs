//! `latex`: mathematical answers, equal when their values are, else when they are spelled alike.
//!
//! Own, after the ways in which evaluation scripts disagree (Kydlicek, "Math-Verify"). Two stages.
//! The spelling is normalised: delimiters, spacing, `\left`, units, degree and per cent signs,
//! `\text{..}` and its like go; `\frac34` and `\sqrt3` get braces; a leading `x =` goes. Then a
//! recursive descent over `+ - * / ^ \frac \sqrt \pi e` and implicit products evaluates it:
//!
//! ```text
//! Q:3/4            an exact rational of 128-bit parts
//! R:3.464101615    a real constant, rounded to 10 significant digits
//! S:..             neither: the normalised spelling without white space
//! (..) [..)        a tuple or interval of keys, in order; \{..\} and bare lists: a set, sorted
//! ```
//!
//! No symbolic algebra: exponents stop at 64, nesting at 64, and what would be larger is spelling.

mod compound;
mod spelling;
mod value;

/// Longer answers are no mathematics: they are compared by spelling.
const MAX_BYTES: usize = 1024;
/// Nesting of lists and of expressions.
const MAX_DEPTH: usize = 64;

/// The key of a trimmed answer; none where nothing is left.
pub(super) fn key(raw: &str) -> Option<String> {
    if let Some(rest) = raw.strip_prefix("R:") {
        return rest.parse::<f64>().ok().filter(|x| x.is_finite()).map(|_| raw.to_owned());
    }
    let raw = ["Q:", "S:"].iter().find_map(|tag| raw.strip_prefix(tag)).unwrap_or(raw);
    if raw.len() > MAX_BYTES {
        return Some(format!("S:{}", raw.split_whitespace().collect::<String>()));
    }
    let plain = spelling::normalise(raw);
    if plain.is_empty() {
        return None;
    }
    Some(compound::compound(&plain, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_answers_have_equal_keys() {
        for (x, y) in [
            ("\\frac{3}{4}", "0.75"),
            ("\\dfrac34", "0.75"),
            ("2\\sqrt3", "\\sqrt{12}"),
            ("\\frac{\\pi}{2}", "\\pi/2"),
            ("(1,2)", "(1, 2)"),
            ("1,2", "2, 1"),
            ("\\text{(A)}", "A"),
            ("10^\\circ", "10"),
            ("x=5", "5"),
            ("10,000", "10000"),
            ("27_{8}", "27_8"),
            ("1 1/2", "3/2"),
            ("1\\frac{1}{2}", "3/2"),
            ("\\$32", "32"),
            ("5\\text{ cm}", "5"),
            ("3\\sqrt2", "3sqrt(2)"),
            ("2 \\pm 1", "1,3"),
            ("\\left( 1, 2 \\right]", "(1,2]"),
            ("f(x)=\\frac{1}{2}", "0.5"),
            ("2^{10}", "1024"),
            ("\\{1,2\\}", "\\{2,1\\}"),
        ] {
            assert_eq!(key(x), key(y), "{x} {y}");
        }
    }

    #[test]
    fn different_answers_have_different_keys() {
        for (x, y) in [
            ("(1,2)", "(2,1)"),
            ("[0,1)", "(0,1)"),
            ("1/3", "0.333"),
            ("1,2", "12"),
            ("x<2", "x>2"),
            ("A", "AA"),
            ("10%", "0.1"),
        ] {
            assert_ne!(key(x), key(y), "{x} {y}");
        }
    }

    #[test]
    fn hostile_answers_are_spelling() {
        let tower = key("5^(5^(5^5))").unwrap();
        assert!(tower.starts_with("S:"), "{tower}");
        let deep = "(".repeat(60_000);
        assert!(key(&deep).is_some());
        assert!(key(&"{".repeat(5000)).is_some());
        assert!(key(&"9".repeat(5000)).is_some());
        assert!(key(&"\\sqrt".repeat(9000)).is_some());
        assert!(key(&"\\frac".repeat(9000)).is_some());
        assert!(key(&"^-".repeat(9000)).is_some());
        assert_eq!((key(""), key("$$")), (None, None));
        for text in ["\\frac{1}{0}", "\\sqrt{-1}", "\\text{", "_{", "x=", "<", "a<", "1<2<3", "é^2"]
        {
            drop(key(text));
        }
    }
}
