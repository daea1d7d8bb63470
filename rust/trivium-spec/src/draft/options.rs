//! A source with its settings as text: `name` or `name:key=value;key=value`.
//!
//! Text, because it goes through files, command lines and other languages unchanged. In values `%`,
//! `;`, `,` and `=` are written `%25`, `%3B`, `%2C` and `%3D`. Every key must be known to the source.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use trivium_core::error::{Error, Result};

/// Settings that a source takes out one by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    name: String,
    values: BTreeMap<String, String>,
    known: Vec<&'static str>,
}

impl Options {
    /// Splits a description.
    ///
    /// # Errors
    /// `InvalidInput` for a setting without `=` or given twice, or a broken escape.
    pub fn parse(text: &str) -> Result<Self> {
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        let mut values = BTreeMap::new();
        for part in rest.split(';').filter(|p| !p.is_empty()) {
            let (key, value) = part.split_once('=').ok_or_else(|| {
                Error::input("sources", format!("{text:?}: {part:?} is not key=value"))
            })?;
            if values.insert(key.to_owned(), unescape(value)?).is_some() {
                return Err(Error::input("sources", format!("{text:?}: {key} is given twice")));
            }
        }
        Ok(Self { name: name.to_owned(), values, known: Vec::new() })
    }

    /// Name of the source.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes a text.
    pub fn text(&mut self, key: &'static str) -> Option<String> {
        self.known.push(key);
        self.values.remove(key)
    }

    /// Takes a number within `range`.
    ///
    /// # Errors
    /// `InvalidInput` if it is none, or outside.
    pub fn number(
        &mut self,
        key: &'static str,
        default: usize,
        range: RangeInclusive<usize>,
    ) -> Result<usize> {
        let Some(value) = self.text(key) else { return Ok(default) };
        let n: usize = value.parse().map_err(|_| {
            Error::input("sources", format!("{}: {key}={value} is not a number", self.name))
        })?;
        if !range.contains(&n) {
            return Err(Error::input(
                "sources",
                format!("{}: {key}={n} is outside {}..={}", self.name, range.start(), range.end()),
            ));
        }
        Ok(n)
    }

    /// Takes a fraction in 0..=1.
    ///
    /// # Errors
    /// `InvalidInput` if it is none, or outside.
    pub fn fraction(&mut self, key: &'static str, default: f32) -> Result<f32> {
        let Some(value) = self.text(key) else { return Ok(default) };
        match value.parse::<f32>() {
            Ok(x) if (0.0..=1.0).contains(&x) => Ok(x),
            _ => Err(Error::input(
                "sources",
                format!("{}: {key}={value} is not a fraction in 0..=1", self.name),
            )),
        }
    }

    /// Takes one of several words; the first is the default.
    ///
    /// # Errors
    /// `InvalidInput` listing them.
    pub fn choice(
        &mut self,
        key: &'static str,
        words: &'static [&'static str],
    ) -> Result<&'static str> {
        let Some(value) = self.text(key) else { return Ok(words[0]) };
        words.iter().copied().find(|w| *w == value).ok_or_else(|| {
            Error::input(
                "sources",
                format!("{}: {key}={value} is none of {}", self.name, words.join(", ")),
            )
        })
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// `InvalidInput` naming the keys that the source has.
    pub fn done(self) -> Result<()> {
        match self.values.keys().next() {
            None => Ok(()),
            Some(key) => Err(Error::input(
                "sources",
                format!("{} has no setting {key:?}; it has [{}]", self.name, self.known.join(", ")),
            )),
        }
    }
}

fn unescape(value: &str) -> Result<String> {
    let mut parts = value.split('%');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let c = match part.get(..2) {
            Some("25") => '%',
            Some("3B") => ';',
            Some("2C") => ',',
            Some("3D") => '=',
            _ => return Err(Error::input("sources", format!("broken escape in {value:?}"))),
        };
        out.push(c);
        out.push_str(&part[2..]);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_typed_and_complete() {
        let mut o = Options::parse("x:n=3;p=a%3B%2C%3D%25b;f=0.5").unwrap();
        assert_eq!(o.name(), "x");
        assert_eq!(o.number("n", 1, 1..=4).unwrap(), 3);
        assert_eq!(o.number("m", 7, 1..=9).unwrap(), 7);
        assert_eq!(o.text("p").unwrap(), "a;,=%b");
        assert_eq!(o.fraction("f", 0.0).unwrap(), 0.5);
        assert_eq!(o.choice("c", &["one", "two"]).unwrap(), "one");
        o.done().unwrap();
    }

    #[test]
    fn bad_settings_are_refused() {
        for bad in ["x:n", "x:n=1;n=2", "x:n=%zz", "x:n=%2"] {
            assert!(Options::parse(bad).is_err(), "{bad}");
        }
        let mut o = Options::parse("x:n=9;z=1;c=three;f=2").unwrap();
        assert!(o.clone().number("n", 1, 1..=4).is_err());
        assert!(o.clone().number("c", 1, 1..=4).is_err());
        assert!(o.clone().choice("c", &["one", "two"]).is_err());
        assert!(o.clone().fraction("f", 0.1).is_err());
        assert!(o.text("n").is_some());
        assert!(o.done().unwrap_err().to_string().contains("it has [n]"));
    }
}
