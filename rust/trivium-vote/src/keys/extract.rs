//! Where the answer stands inside a text. The first rule that applies wins:
//!
//! 1. the last balanced `\boxed{...}` or `\fbox{...}`; a box left open by a length limit is no
//!    answer at all, because a truncated answer is another answer;
//! 2. the last occurrence of a marker, up to its closing mark, else to the end of the sentence or
//!    of the line. A marker at the end of its line takes the next line that is not empty.
//!
//! One pass from the right for each marker; no regular expressions.

/// The outcome of a search.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// The answer, without the white space around it.
    Span(&'a str),
    /// An answer that the end of the text may have cut.
    Truncated,
    /// No marker.
    Nothing,
}

/// Finds the answer; `cut` says that the text ended at a length limit.
pub(super) fn span<'a>(
    text: &'a str,
    delimiters: &[(String, Option<String>)],
    cut: bool,
) -> Found<'a> {
    match boxed(text, cut) {
        Found::Nothing => marked(text, delimiters, cut),
        found => found,
    }
}

/// One pass with a stack of open braces; of the boxes that close, the one that closes last.
fn boxed(text: &str, cut: bool) -> Found<'_> {
    let bytes = text.as_bytes();
    let (mut best, mut stack, mut at) = (None, Vec::new(), 0);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => {
                if let Some(inner) = box_start(text, at + 1) {
                    stack.push(Some(inner));
                    at = inner - 1;
                } else {
                    // Skips an escaped brace.
                    at += 1;
                }
            }
            b'{' => stack.push(None),
            b'}' => {
                if let Some(Some(inner)) = stack.pop() {
                    best = Some((inner, at));
                }
            }
            _ => {}
        }
        at += 1;
    }
    match best {
        _ if cut && stack.iter().any(Option::is_some) => Found::Truncated,
        Some((start, end)) => Found::Span(text[start..end].trim()),
        None => Found::Nothing,
    }
}

/// The offset just inside the brace of a box whose name starts at `at`.
fn box_start(text: &str, at: usize) -> Option<usize> {
    let rest = text.get(at..)?;
    let rest = rest.strip_prefix("boxed").or_else(|| rest.strip_prefix("fbox"))?.trim_start();
    rest.strip_prefix('{').map(|inner| text.len() - inner.len())
}

fn marked<'a>(text: &'a str, delimiters: &[(String, Option<String>)], cut: bool) -> Found<'a> {
    let last = delimiters
        .iter()
        .filter_map(|(open, close)| rfind(text, open).map(|at| (at + open.len(), close)))
        .max_by_key(|(end, _)| *end);
    let Some((start, close)) = last else { return Found::Nothing };
    let rest = &text[start..];
    if let Some(close) = close {
        return match find(rest, close) {
            Some(end) => Found::Span(rest[..end].trim()),
            None if cut => Found::Truncated,
            None => line(rest, cut),
        };
    }
    line(rest, cut)
}

/// The first sentence of the first line that holds anything.
fn line(rest: &str, cut: bool) -> Found<'_> {
    let rest = rest.trim_start_matches([':', ' ', '\t']).trim_start();
    let end_of_line = rest.find('\n');
    let line = &rest[..end_of_line.unwrap_or(rest.len())];
    let end_of_sentence = line.char_indices().find_map(|(at, c)| {
        let next = line[at..].chars().nth(1);
        (c == '.' && next.is_none_or(char::is_whitespace)).then_some(at)
    });
    match end_of_sentence {
        _ if line.trim().is_empty() => {
            if cut {
                Found::Truncated
            } else {
                Found::Nothing
            }
        }
        Some(end) if !line[..end].trim().is_empty() => Found::Span(line[..end].trim()),
        _ if cut && end_of_line.is_none() => Found::Truncated,
        _ => Found::Span(line.trim()),
    }
}

/// Last occurrence, ASCII case ignored.
fn rfind(text: &str, mark: &str) -> Option<usize> {
    let (text, mark) = (text.as_bytes(), mark.as_bytes());
    let last = text.len().checked_sub(mark.len())?;
    (0..=last).rev().find(|&at| text[at..at + mark.len()].eq_ignore_ascii_case(mark))
}

/// First occurrence, ASCII case ignored.
fn find(text: &str, mark: &str) -> Option<usize> {
    let (text, mark) = (text.as_bytes(), mark.as_bytes());
    let last = text.len().checked_sub(mark.len())?;
    (0..=last).find(|&at| text[at..at + mark.len()].eq_ignore_ascii_case(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Found<'_> {
        span(text, &super::super::KeyOptions::default_delimiters(), false)
    }

    #[test]
    fn the_last_balanced_box_wins() {
        assert_eq!(at(r"\boxed{1} so \boxed{\frac{1}{2}}."), Found::Span(r"\frac{1}{2}"));
        assert_eq!(at(r"\boxed {a\}b} answer: 3"), Found::Span(r"a\}b"));
        assert_eq!(at(r"answer: 3 \boxed{4"), Found::Span(r"3 \boxed{4"));
        assert_eq!(at(r"\boxed{3} \boxed{4"), Found::Span("3"));
        assert_eq!(at(r"\boxed{3, \boxed{4}"), Found::Span("4"));
        assert_eq!(at(r"\boxed{a \boxed{b} c}"), Found::Span(r"a \boxed{b} c"));
    }

    #[test]
    fn markers_end_with_the_sentence_or_the_line() {
        assert_eq!(at("3 + 4 = 7. The answer is 7. Next, 9."), Found::Span("7"));
        assert_eq!(at("The ANSWER is: 3.5 cm\nmore"), Found::Span("3.5 cm"));
        assert_eq!(at("#### 12\n"), Found::Span("12"));
        assert_eq!(at("Answer:\n\n 14 apples"), Found::Span("14 apples"));
        assert_eq!(at("<answer> 5 </answer> The end"), Found::Span("5"));
        assert_eq!(at("Answer: 1. Answer: 2."), Found::Span("2"));
        assert_eq!(at("The answer is .5"), Found::Span(".5"));
        assert_eq!(at("nothing here"), Found::Nothing);
        assert_eq!(at("The answer is"), Found::Nothing);
        assert_eq!(at(""), Found::Nothing);
    }
}
