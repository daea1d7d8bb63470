//! Answers of several parts: tuples, intervals, sets, bare lists, relations.

use super::value::value;

/// Key of a normalised spelling: lists and relations first, then a value, then the spelling.
pub(super) fn compound(text: &str, depth: usize) -> String {
    let text = text.trim();
    let spelled =
        || format!("S:{}", text.split_whitespace().collect::<String>().replace('\u{1}', "\\\\"));
    if depth > 4 {
        return spelled();
    }
    if let Some(number) = thousands(text) {
        return value(&number).unwrap_or_else(spelled);
    }
    let set = text.strip_prefix("\\{").and_then(|t| t.strip_suffix("\\}"));
    if let Some(body) = set
        && let Some(parts) = split(body)
    {
        return format!("{{{}}}", sorted(&parts, depth));
    }
    let (first, last) = (text.chars().next(), text.chars().last());
    if let (Some(open @ ('(' | '[')), Some(close @ (')' | ']'))) = (first, last)
        && text.len() > 2
        && let Some(parts) = split(&text[1..text.len() - 1])
        && parts.len() > 1
        && closes_last(text)
    {
        let keys: Vec<String> = parts.iter().map(|part| compound(part, depth + 1)).collect();
        return format!("{open}{}{close}", keys.join(","));
    }
    if let Some(inner) = text.strip_prefix('(').and_then(|t| t.strip_suffix(')'))
        && !inner.is_empty()
        && inner.trim().bytes().all(|b| b.is_ascii_alphabetic())
    {
        return compound(inner, depth + 1);
    }
    if let Some(parts) = split(text)
        && parts.len() > 1
    {
        return format!("{{{}}}", sorted(&parts, depth));
    }
    if let Some((a, b)) = text.split_once("\\pm") {
        let sides = [format!("{a}+{b}"), format!("{a}-{b}")];
        if value(&sides[0]).is_some() {
            let sides: Vec<&str> = sides.iter().map(String::as_str).collect();
            return format!("{{{}}}", sorted(&sides, depth));
        }
    }
    if let Some(chain) = relation(text, depth) {
        return chain;
    }
    value(text).unwrap_or_else(spelled)
}

fn sorted(parts: &[&str], depth: usize) -> String {
    let mut keys: Vec<String> = parts.iter().map(|part| compound(part, depth + 1)).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.join(",")
}

/// Whether the first bracket is closed by the last character.
fn closes_last(text: &str) -> bool {
    let mut depth = 0i32;
    for (i, b) in text.bytes().enumerate() {
        match b {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i + 1 == text.len();
        }
    }
    false
}

/// Splits at commas outside brackets; none where brackets do not match or a part is empty.
fn split(text: &str) -> Option<Vec<&str>> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0i32, 0);
    for (i, b) in text.bytes().enumerate() {
        match b {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            b',' | b';' if depth == 0 => {
                parts.push(text[start..i].trim());
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    let last = parts.len() - 1;
    if let Some(stripped) = parts[last].strip_prefix("and ") {
        parts[last] = stripped;
    }
    (depth == 0 && parts.iter().all(|part| !part.is_empty())).then_some(parts)
}

/// `10,000` without its commas.
fn thousands(text: &str) -> Option<String> {
    let body = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = body.split_once('.').unwrap_or((body, "0"));
    let mut groups = whole.split(',');
    let first = groups.next()?;
    let digits = |g: &str| !g.is_empty() && g.bytes().all(|b| b.is_ascii_digit());
    let mut rest = groups.peekable();
    rest.peek()?;
    let good = digits(first)
        && first.len() <= 3
        && digits(fraction)
        && rest.all(|g| g.len() == 3 && digits(g));
    good.then(|| text.replace(',', ""))
}

/// A chain of relations with keyed sides.
fn relation(text: &str, depth: usize) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    let mut any = false;
    loop {
        let found = rest.find(['<', '>', '=', '!']);
        let Some(at) = found else { break };
        let sign = if rest[at + 1..].starts_with('=') { 2 } else { 1 };
        let side = rest[..at].trim();
        if side.is_empty() || rest.len() <= at + sign {
            return None;
        }
        out.push_str(&compound(side, depth + 3));
        out.push_str(&rest[at..at + sign]);
        rest = &rest[at + sign..];
        any = true;
    }
    any.then(|| out + &compound(rest.trim(), depth + 3))
}
