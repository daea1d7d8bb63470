//! `word`, `bool` and `date`: small vocabularies and fixed layouts.
//!
//! Own. A word is its text in lower case with white space collapsed, without quotes and a final full
//! stop. A truth value is yes or no by a table. A date is read in fixed layouts (`2024-03-05`,
//! `03/05/2024`, `5 March 2024`, `March 5, 2024`), so that zero padding does not split votes; slashes
//! are month first, unless the first number cannot be one.

/// The key of a word or phrase.
pub(super) fn word(raw: &str) -> Option<String> {
    let text = raw.trim_matches(['"', '\'', '`', '*', ' ']).trim_end_matches('.').to_lowercase();
    let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let key = joined.trim_matches(['"', '\'', '`', '*', ' ', '.']).to_owned();
    (!key.is_empty()).then_some(key)
}

/// The key of a truth value.
pub(super) fn boolean(raw: &str) -> Option<String> {
    let word = word(raw)?;
    let first = word.split([',', '.', ';', ' ']).next().unwrap_or_default();
    match first {
        "yes" | "true" | "1" | "y" | "t" | "plausible" => Some("yes".to_owned()),
        "no" | "false" | "0" | "n" | "f" | "implausible" => Some("no".to_owned()),
        _ => None,
    }
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// The key of a date: `YYYY-MM-DD`.
pub(super) fn date(raw: &str) -> Option<String> {
    let text = raw.trim().trim_end_matches('.').to_ascii_lowercase();
    if text.len() > 64 {
        return None;
    }
    let parts: Vec<&str> =
        text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty()).collect();
    let [a, b, c] = parts[..] else { return None };
    let number = |part: &str| {
        let digits = part.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let suffix = &part[digits.len()..];
        (matches!(suffix, "" | "st" | "nd" | "rd" | "th") && digits.len() <= 4)
            .then(|| digits.parse::<u32>().ok())
            .flatten()
    };
    let named = |part: &str| {
        let month = part.get(..3)?;
        let place = MONTHS.iter().position(|m| *m == month)?;
        part.bytes().all(|b| b.is_ascii_alphabetic()).then_some(place as u32 + 1)
    };
    let (year, month, day) = if let Some(month) = named(a) {
        (number(c)?, month, number(b)?)
    } else if let Some(month) = named(b) {
        (number(c)?, month, number(a)?)
    } else if a.len() == 4 {
        (number(a)?, number(b)?, number(c)?)
    } else {
        let (first, second) = (number(a)?, number(b)?);
        if first > 12 { (number(c)?, second, first) } else { (number(c)?, first, second) }
    };
    let year = if c.len() == 2 && a.len() <= 2 {
        year + if year < 50 { 2000 } else { 1900 }
    } else {
        year
    };
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let longest = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        1..=12 => 31,
        _ => return None,
    };
    (1..=longest).contains(&day).then(|| format!("{year:04}-{month:02}-{day:02}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_date_agree() {
        for spelling in [
            "2024-03-05",
            "03/05/2024",
            "3/5/2024",
            "5 March 2024",
            "March 5th, 2024",
            "2024/3/5",
            "Mar 5 2024.",
        ] {
            assert_eq!(date(spelling).as_deref(), Some("2024-03-05"), "{spelling}");
        }
        assert_eq!(date("25/12/2024").as_deref(), Some("2024-12-25"));
        assert_eq!(date("02/29/2024").as_deref(), Some("2024-02-29"));
        for none in ["02/30/2024", "13/13/2024", "yesterday", "", "1/2", "é/1/2", "2024-00-01"] {
            assert_eq!(date(none), None, "{none}");
        }
    }

    #[test]
    fn words_and_truth() {
        assert_eq!(word(" \"The  Cat.\" ").as_deref(), Some("the cat"));
        assert_eq!(
            (boolean("Yes, it is").as_deref(), boolean("FALSE").as_deref()),
            (Some("yes"), Some("no"))
        );
        assert_eq!((boolean("perhaps"), word("''")), (None, None));
    }
}
