//! `choice`: one letter of a given set.
//!
//! `A`, `(A)`, `A.`, `A)`, `**A**`, `\text{A}`, `option A` and `A (because ...)` are the choice A,
//! and so is the text of an option where the texts are listed and exactly one matches. No article
//! is stripped, since `A` is an answer; but `A man ...` is a sentence and `A or B` names two
//! choices, so both abstain.

use super::{Fallback, KeyOptions};
use trivium_core::{Error, Result};

/// A compiled `choice` key.
#[derive(Debug, Clone)]
pub(super) struct ChoiceKey {
    letters: Vec<char>,
    options: Vec<String>,
    fallback: Fallback,
}

/// Words after which a lone `A` is a letter rather than an article.
const AFTER_LETTER: &[&str] = &["is", "because", "since", "as", "based", "assuming", "would"];

impl ChoiceKey {
    pub(super) fn new(options: &KeyOptions) -> Result<Self> {
        let letters: Vec<char> = options.letters.chars().collect();
        if letters.is_empty() || !letters.iter().all(char::is_ascii_uppercase) {
            let why = format!("{:?} is not a set of the letters A to Z", options.letters);
            return Err(Error::input("letters", why));
        }
        if (1..letters.len()).any(|i| letters[..i].contains(&letters[i])) {
            return Err(Error::input("letters", format!("{:?} repeats one", options.letters)));
        }
        if options.options.len() > letters.len() {
            let why = format!("{} texts for {} letters", options.options.len(), letters.len());
            return Err(Error::input("options", why));
        }
        let texts = options.options.iter().map(|text| fold(text)).collect();
        Ok(Self { letters, options: texts, fallback: options.fallback })
    }

    /// The key of an answer that stands alone.
    pub(super) fn key(&self, raw: &str) -> Option<String> {
        (self.letter(raw).or_else(|| self.option(raw)))
            .or_else(|| self.scan(raw).map(|(letter, _)| letter))
            .map(String::from)
    }

    /// The key of a text that is nothing but a choice.
    pub(super) fn bare<'a>(&self, text: &'a str) -> Option<(String, &'a str)> {
        let text = text.trim();
        let inner = strip(text);
        let alone = self.member(inner, true).or_else(|| self.option(text))?;
        Some((alone.to_string(), text))
    }

    /// The first or last stand-alone letter, where that is asked for.
    pub(super) fn fallback<'a>(&self, text: &'a str) -> Option<(String, &'a str)> {
        self.scan(text).map(|(letter, at)| (letter.to_string(), &text[at..=at]))
    }

    fn member(&self, inner: &str, any_case: bool) -> Option<char> {
        let mut chars = inner.chars();
        let (first, rest) = (chars.next()?, chars.next());
        let first = if any_case { first.to_ascii_uppercase() } else { first };
        (rest.is_none() && self.letters.contains(&first)).then_some(first)
    }

    /// A letter at the front of an answer.
    fn letter(&self, raw: &str) -> Option<char> {
        if let Some(letter) = self.member(strip(raw), true) {
            return Some(letter);
        }
        let text = strip_words(raw.trim_start_matches(is_wrapper));
        if let Some(letter) = self.member(strip(text), true) {
            return Some(letter);
        }
        let text = text.trim_start_matches(is_wrapper);
        let first = text.chars().next().filter(|c| self.letters.contains(c))?;
        let rest = &text[1..];
        let follows = rest.chars().next()?;
        let separated = match follows {
            c if c.is_whitespace() => {
                let word = rest.split_whitespace().next().unwrap_or("");
                let plain = word.chars().all(char::is_alphabetic);
                word.is_empty()
                    || rest.trim_start_matches([' ', '\t']).starts_with('\n')
                    || (!plain && !word.starts_with(|c: char| c.is_alphanumeric()))
                    || AFTER_LETTER.contains(&word)
                    || (first != 'A' && first != 'I')
            }
            '\'' | '’' | '-' | '_' | '/' | '&' | '+' | '=' | '^' | '*' if follows != '*' => false,
            c => !c.is_alphanumeric(),
        };
        let another = standing(rest).any(|(_, c)| c != first && self.letters.contains(&c));
        (separated && !another).then_some(first)
    }

    /// The listed option with this text, if there is exactly one.
    fn option(&self, raw: &str) -> Option<char> {
        let text = fold(raw);
        let mut found = (self.options.iter().zip(&self.letters))
            .filter(|(option, _)| !text.is_empty() && **option == text);
        match (found.next(), found.next()) {
            (Some((_, &letter)), None) => Some(letter),
            _ => None,
        }
    }

    fn scan(&self, text: &str) -> Option<(char, usize)> {
        let mut all = standing(text).filter(|(_, c)| self.letters.contains(c));
        let found = match self.fallback {
            Fallback::Off => None,
            Fallback::First => all.next(),
            Fallback::Last => all.last(),
        };
        found.map(|(at, c)| (c, at))
    }
}

fn is_wrapper(c: char) -> bool {
    c.is_whitespace() || matches!(c, '(' | '[' | '{' | '*' | '$' | '"' | '\'' | '`' | '_' | ':')
}

/// What is left of `\text{A}`, `(A)`, `**A**`, `A.` without the decoration.
fn strip(raw: &str) -> &str {
    let raw = raw.trim().trim_start_matches(is_wrapper);
    let raw = [r"\text", r"\mathrm", r"\textbf", r"\mathbf"]
        .iter()
        .find_map(|name| raw.strip_prefix(name).filter(|rest| rest.trim_start().starts_with('{')))
        .unwrap_or(raw);
    raw.trim_matches(|c: char| is_wrapper(c) || matches!(c, ')' | ']' | '}' | '.' | ',' | ';'))
}

/// Drops leading words such as `option` and `the answer is`.
fn strip_words(mut text: &str) -> &str {
    while let Some(end) = text.find(char::is_whitespace) {
        let word = text[..end].trim_end_matches(':');
        let known = ["option", "choice", "answer", "the", "is", "correct", "letter"];
        if !known.iter().any(|name| word.eq_ignore_ascii_case(name)) {
            break;
        }
        text = text[end..].trim_start();
    }
    text
}

/// ASCII capitals that are no part of a word, with their offsets.
fn standing(text: &str) -> impl Iterator<Item = (usize, char)> {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || "_'’".contains(c));
    let mut before = None;
    text.char_indices().filter(move |&(at, c)| {
        let free = c.is_ascii_uppercase() && !part(before) && !part(text[at + 1..].chars().next());
        before = Some(c);
        free
    })
}

fn fold(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().map(str::to_lowercase).collect();
    words.join(" ").trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::{Key, Said};
    use super::*;

    fn key(options: KeyOptions) -> Key {
        Key::new("choice", options).unwrap()
    }

    #[test]
    fn spellings_of_a_letter_agree() {
        let key = key(KeyOptions::default());
        for raw in [
            "A",
            "(A)",
            "A.",
            "A)",
            "**A**",
            r"\text{A}",
            r"\text{(A)}",
            "option A",
            "Option (A)",
            "a",
            "(a)",
            "A (since it is",
            "A: 5",
            "[A]",
            " A\n",
            "A because",
            "$A$",
            "the answer is A",
            "A).\n\nQ",
            "A, 5 apples",
        ] {
            assert_eq!(key.of(raw).as_deref(), Some("A"), "{raw:?}");
        }
        assert_eq!(key.of("E (None of these").as_deref(), Some("E"));
        assert_eq!(key.of("B is right").as_deref(), Some("B"));
    }

    #[test]
    fn what_is_no_single_letter_abstains() {
        let key = key(KeyOptions::default());
        for raw in [
            "",
            "AA",
            "N",
            "A or B",
            "A man",
            "30",
            "None of these",
            "A-B",
            "A's",
            "Apple",
            "é",
            "(",
            "AB",
        ] {
            assert_eq!(key.of(raw), None, "{raw:?}");
        }
    }

    #[test]
    fn option_texts_count_when_unique() {
        let options = ["12 km", "15 km", "12 KM."].map(String::from).to_vec();
        let options = KeyOptions { options, ..KeyOptions::default() };
        let key = key(options);
        assert_eq!(key.of("15  KM.").as_deref(), Some("B"));
        assert_eq!(key.of("12 km"), None);
    }

    #[test]
    fn texts_are_read_after_a_marker_or_by_fallback() {
        let read = |fallback, text| {
            let options = KeyOptions { fallback, ..KeyOptions::default() };
            key(options).read(Said::Text(text), false).map(|found| found.key)
        };
        assert_eq!(read(Fallback::Off, "Half, so the answer is (C)."), Some("C".into()));
        assert_eq!(read(Fallback::Off, "I pick C"), None);
        assert_eq!(read(Fallback::Last, "Not B, I pick C!"), Some("C".into()));
        assert_eq!(read(Fallback::First, "Not B, I pick C!"), Some("B".into()));
        assert_eq!(read(Fallback::Off, "(D)"), Some("D".into()));
    }

    #[test]
    fn sets_of_letters_are_checked() {
        for letters in ["", "AAB", "ab", "1"] {
            let options = KeyOptions { letters: letters.into(), ..KeyOptions::default() };
            assert!(Key::new("choice", options).is_err(), "{letters:?}");
        }
    }
}
