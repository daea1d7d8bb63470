//! The normalised spelling of a LaTeX answer: what does not change its value goes.

const UNITS: &[&str] = &[
    "cm", "mm", "km", "m", "ft", "feet", "foot", "inches", "inch", "in", "miles", "mile", "units",
    "unit", "dollars", "cents", "degrees", "degree", "hours", "hour", "minutes", "minute",
    "seconds", "second", "days", "day", "mph", "kg", "g", "lbs", "pounds", "square", "cubic",
    "meters", "metres", "percent", "years", "weeks", "points", "people", "ways",
];

/// The normalised spelling: LaTeX without what does not change the value.
pub(super) fn normalise(raw: &str) -> String {
    let mut text = raw.replace('\u{2212}', "-").replace("\\\\", "\u{1}").replace('~', " ");
    for gone in [
        "\\left",
        "\\right",
        "\\displaystyle",
        "\\qquad",
        "\\quad",
        "\\,",
        "\\;",
        "\\!",
        "\\:",
        "\\ ",
        "\\(",
        "\\)",
        "\\[",
        "\\]",
        "^{\\circ}",
        "^\\circ",
        "\\degree",
        "\u{b0}",
        "\\%",
        "%",
        "\\$",
        "$",
        "\\bigl",
        "\\bigr",
        "\\Big",
        "\\big",
    ] {
        if text.contains(gone) {
            text = text.replace(gone, if gone.ends_with("quad") { " " } else { "" });
        }
    }
    for (from, to) in [
        ("\\dfrac", "\\frac"),
        ("\\tfrac", "\\frac"),
        ("\\cfrac", "\\frac"),
        ("\\cdot", "*"),
        ("\\times", "*"),
        ("\\div", "/"),
        ("\\leqslant", "<="),
        ("\\geqslant", ">="),
        ("\\leq", "<="),
        ("\\geq", ">="),
        ("\\le", "<="),
        ("\\ge", ">="),
        ("\u{2264}", "<="),
        ("\u{2265}", ">="),
        ("\\lt", "<"),
        ("\\gt", ">"),
        ("\\ne", "!="),
        ("\u{3c0}", "\\pi"),
        ("\u{221a}", "\\sqrt"),
        ("\u{221e}", "\\infty"),
        ("\u{b1}", "\\pm"),
        ("\\lbrace", "\\{"),
        ("\\rbrace", "\\}"),
    ] {
        if text.contains(from) {
            text = text.replace(from, to);
        }
    }
    for name in [
        "\\textbf",
        "\\textit",
        "\\text",
        "\\mathrm",
        "\\mathbf",
        "\\mbox",
        "\\operatorname",
        "\\boxed",
        "\\fbox",
    ] {
        text = unwrap(&text, name);
    }
    let mut text = text.trim().trim_end_matches('.').trim().to_owned();
    // A leading name: `x =`, `f(x) =`, `x \in`.
    for mark in ["=", "\\in"] {
        let sides: Vec<&str> = text.split(mark).collect();
        if let [name, value] = sides[..] {
            let name = name.trim();
            let inner = name.strip_suffix("(x)").unwrap_or(name);
            let is_name = !inner.is_empty()
                && inner.len() <= 2
                && inner.bytes().all(|b| b.is_ascii_alphabetic());
            if is_name && !value.starts_with("fty") && !name.ends_with(['<', '>', '!']) {
                text = value.trim().to_owned();
            }
        }
    }
    text = subscripts(&text);
    // Trailing units after a digit or a brace.
    while let Some((head, word)) = split_last_word(&text) {
        let base = word.trim_end_matches(['^', '2', '3', '{', '}']);
        if UNITS.contains(&base.to_ascii_lowercase().as_str())
            && head.ends_with(|c: char| c.is_ascii_digit() || c == '}' || c == ')')
        {
            text = head.to_owned();
        } else {
            break;
        }
    }
    text
}

/// Cuts a trailing word off; the rest is trimmed.
fn split_last_word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_end();
    let power = text.trim_end_matches(['^', '2', '3', '{', '}']);
    let power = if power.ends_with(|c: char| c.is_ascii_alphabetic()) { power } else { text };
    let start = power.trim_end_matches(|c: char| c.is_ascii_alphabetic()).len();
    let head = &text[..start];
    (start < power.len() && !head.ends_with('\\')).then(|| (head.trim_end(), &text[start..]))
}

/// `name{body}` becomes ` body `.
fn unwrap(text: &str, name: &str) -> String {
    let mut rest = text;
    let mut out = String::new();
    while let Some(at) = rest.find(name) {
        out.push_str(&rest[..at]);
        let after = rest[at + name.len()..].trim_start();
        match braced(after) {
            Some((body, tail)) => {
                out.push(' ');
                out.push_str(body);
                out.push(' ');
                rest = tail;
            }
            None => rest = after,
        }
    }
    out.push_str(rest);
    out
}

/// Splits `{body}tail`.
fn braced(text: &str) -> Option<(&str, &str)> {
    let mut depth = 0;
    for (i, b) in text.bytes().enumerate() {
        match b {
            b'{' => depth += 1,
            b'}' if depth == 1 => return Some((&text[1..i], &text[i + 1..])),
            b'}' => depth -= 1,
            _ if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// `_{8}` becomes `_8`.
fn subscripts(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("_{") {
        out.push_str(&rest[..=at]);
        match braced(&rest[at + 1..]) {
            Some((body, tail)) if body.bytes().all(|b| b.is_ascii_alphanumeric()) => {
                out.push_str(body);
                rest = tail;
            }
            _ => {
                out.push('{');
                rest = &rest[at + 2..];
            }
        }
    }
    out.push_str(rest);
    out
}
