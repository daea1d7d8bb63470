//! The formats of JSON Schema that are regular languages, as expressions over decoded characters.
//!
//! Each is written as the pattern its document gives, and combined where the document says "and": a
//! host name is labels *and* at most 253 characters. Not served, because no regular language they are:
//! `regex` (nesting) and `idn-hostname` (tables of contexts); they are unknown here. Labels of host
//! names that are punycode (`xn--`) are taken as they stand.

use super::ecma;
use crate::automata::expr::{Arena, EMPTY, ExprId};
use crate::error::Result;

type Builder = fn(&mut Arena) -> Result<ExprId>;

/// A format's name and what builds it.
const KNOWN: [(&str, Builder); 19] = [
    ("date", |a| pattern(a, &date())),
    ("date-time", date_time),
    ("duration", |a| pattern(a, &duration())),
    ("email", |a| email(a, ATEXT, LABEL)),
    ("hostname", hostname),
    ("idn-email", |a| email(a, &format!(r"{ATEXT}\u{{80}}-\u{{10ffff}}"), IDN_LABEL)),
    ("ipv4", |a| pattern(a, &ipv4())),
    ("ipv6", |a| pattern(a, &ipv6())),
    ("iri", |a| pattern(a, &Uri::new(true).absolute())),
    ("iri-reference", |a| pattern(a, &Uri::new(true).reference())),
    ("json-pointer", |a| pattern(a, POINTER)),
    ("relative-json-pointer", |a| pattern(a, &format!("(?:0|[1-9][0-9]*)(?:#|{POINTER})"))),
    ("time", time),
    ("uri", |a| pattern(a, &Uri::new(false).absolute())),
    ("uri-reference", |a| pattern(a, &Uri::new(false).reference())),
    ("uri-template", |a| pattern(a, &uri_template())),
    ("uuid", |a| pattern(a, "[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")),
    // Names that other vocabularies use for the same.
    ("ip-address", |a| pattern(a, &ipv4())),
    ("host-name", hostname),
];

/// Whether strings of a format are a language known here.
pub(crate) fn is_known(name: &str) -> bool {
    KNOWN.iter().any(|k| k.0 == name)
}

/// The strings of a format; ∅ for one that is not known.
///
/// # Errors
/// `LimitExceeded` over the arena's budget.
pub(crate) fn lower(arena: &mut Arena, name: &str) -> Result<ExprId> {
    KNOWN.iter().find(|k| k.0 == name).map_or(Ok(EMPTY), |k| k.1(arena))
}

fn pattern(arena: &mut Arena, text: &str) -> Result<ExprId> {
    ecma::lower(arena, text, true)
}

// ---- times (RFC 3339, ISO 8601) -----------------------------------------------------------------

fn date() -> String {
    // Multiples of four; of the centuries only multiples of four are leap years.
    let four = "(?:0[48]|[2468][048]|[13579][26])";
    let leap = format!("(?:[0-9]{{2}}{four}|(?:00|{four})00)");
    format!(
        "(?:[0-9]{{4}}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])\
         |(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))|{leap}-02-29)"
    )
}

fn time(arena: &mut Arena) -> Result<ExprId> {
    let ordinary = "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]+)?\
                    (?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])";
    let ordinary = pattern(arena, ordinary)?;
    let leap = leap_second(arena)?;
    Ok(arena.union(&[ordinary, leap]))
}

/// A leap second is inserted at 23:59:60 UTC, so the local time fixes the offset. Hours and minutes
/// fix those of the offset one by one, except east of Greenwich in a minute 59, which carries.
fn leap_second(arena: &mut Arena) -> Result<ExprId> {
    let two = "[0-9]{2}";
    let rest = ":60(?:\\.[0-9]+)?";
    let all = |f: &dyn Fn(u32) -> String, n: u32| -> String {
        (0..n).map(f).collect::<Vec<_>>().join("|")
    };
    let both = |arena: &mut Arena, hours: String, minutes: String| -> Result<ExprId> {
        let (hours, minutes) = (pattern(arena, &hours)?, pattern(arena, &minutes)?);
        Ok(arena.inter(&[hours, minutes]))
    };
    let west = both(
        arena,
        all(&|h| format!("{h:02}:{two}{rest}-{:02}:{two}", 23 - h), 24),
        all(&|m| format!("{two}:{m:02}{rest}-{two}:{:02}", 59 - m), 60),
    )?;
    let east = both(
        arena,
        all(&|h| format!("{h:02}:{two}{rest}[+]{h:02}:{two}"), 24),
        all(&|m| format!("{two}:{m:02}{rest}[+]{two}:{:02}", m + 1), 59),
    )?;
    let carried =
        pattern(arena, &all(&|h| format!("{h:02}:59{rest}[+]{:02}:00", (h + 1) % 24), 24))?;
    let zulu = pattern(arena, &format!("23:59{rest}[Zz]"))?;
    Ok(arena.union(&[west, east, carried, zulu]))
}

fn date_time(arena: &mut Arena) -> Result<ExprId> {
    let date = pattern(arena, &format!("{}[Tt]", date()))?;
    let time = time(arena)?;
    Ok(arena.concat(date, time))
}

fn duration() -> String {
    let n = "[0-9]+";
    let time = format!("T(?:{n}H(?:{n}M(?:{n}S)?)?|{n}M(?:{n}S)?|{n}S)");
    let date = format!("(?:{n}D|{n}M(?:{n}D)?|{n}Y(?:{n}M(?:{n}D)?)?)");
    format!("P(?:{n}W|{time}|{date}(?:{time})?)")
}

// ---- hosts and mail (RFC 1123, 5321, 6531) -----------------------------------------------------

/// Characters of an atom, for use in a class.
const ATEXT: &str = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-";
/// A label of a host name; its length is checked apart.
const LABEL: &str = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?";
/// The same with characters beyond ASCII.
const IDN_LABEL: &str = r"[A-Za-z0-9\u{80}-\u{10ffff}](?:[A-Za-z0-9\u{80}-\u{10ffff}-]{0,61}[A-Za-z0-9\u{80}-\u{10ffff}])?";

fn hostname(arena: &mut Arena) -> Result<ExprId> {
    let names = pattern(arena, &format!("{LABEL}(?:\\.{LABEL})*"))?;
    let short = arena.of_length(1, 253);
    Ok(arena.inter(&[names, short]))
}

fn email(arena: &mut Arena, atext: &str, label: &str) -> Result<ExprId> {
    let beyond = atext.strip_prefix(ATEXT).unwrap_or_default();
    let quoted = format!(r#""(?:[ !#-\[\]-~{beyond}]|\\[ -~])*""#);
    let local = pattern(arena, &format!(r"(?:[{atext}]+(?:\.[{atext}]+)*|{quoted})"))?;
    let most = arena.of_length(1, 64);
    let local = arena.inter(&[local, most]);
    let names = pattern(arena, &format!("{label}(?:\\.{label})*"))?;
    let most = arena.of_length(1, 253);
    let names = arena.inter(&[names, most]);
    let literal = pattern(arena, &format!(r"\[(?:{}|[Ii][Pp][Vv]6:{})\]", ipv4(), ipv6()))?;
    let domain = arena.union(&[names, literal]);
    let at = arena.literal("@");
    Ok(arena.sequence(&[local, at, domain]))
}

fn ipv4() -> String {
    let byte = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
    format!("{byte}(?:\\.{byte}){{3}}")
}

/// The alternatives of RFC 3986, 3.2.2.
fn ipv6() -> String {
    let h = "[0-9A-Fa-f]{1,4}";
    let last = format!("(?:{h}:{h}|{})", ipv4());
    let before = |n: u32| format!("(?:(?:{h}:){{0,{n}}}{h})?::");
    let mut members = vec![
        format!("(?:{h}:){{6}}{last}"),
        format!("::(?:{h}:){{5}}{last}"),
        format!("(?:{h})?::(?:{h}:){{4}}{last}"),
    ];
    for (n, after) in [(1, 3), (2, 2), (3, 1), (4, 0)] {
        members.push(format!("{}(?:{h}:){{{after}}}{last}", before(n)));
    }
    members.push(format!("{}{h}", before(5)));
    members.push(before(6));
    format!("(?:{})", members.join("|"))
}

// ---- identifiers (RFC 3986, 3987, 6570, 6901) --------------------------------------------------

/// `ucschar` of RFC 3987, for use in a class.
const UCS: &str = r"\u{a0}-\u{d7ff}\u{f900}-\u{fdcf}\u{fdf0}-\u{ffef}\u{10000}-\u{1fffd}\u{20000}-\u{2fffd}\u{30000}-\u{3fffd}\u{40000}-\u{4fffd}\u{50000}-\u{5fffd}\u{60000}-\u{6fffd}\u{70000}-\u{7fffd}\u{80000}-\u{8fffd}\u{90000}-\u{9fffd}\u{a0000}-\u{afffd}\u{b0000}-\u{bfffd}\u{c0000}-\u{cfffd}\u{d0000}-\u{dfffd}\u{e1000}-\u{efffd}";
/// `iprivate` of RFC 3987.
const PRIVATE: &str = r"\u{e000}-\u{f8ff}\u{f0000}-\u{ffffd}\u{100000}-\u{10fffd}";
const PERCENT: &str = "%[0-9A-Fa-f]{2}";
const POINTER: &str = "(?:/(?:[^~/]|~[01])*)*";

/// The grammar of RFC 3986, or of RFC 3987 with characters beyond ASCII.
struct Uri {
    unreserved: String,
    private: &'static str,
}

impl Uri {
    fn new(beyond_ascii: bool) -> Self {
        let more = if beyond_ascii { UCS } else { "" };
        let private = if beyond_ascii { PRIVATE } else { "" };
        Self { unreserved: format!(r"A-Za-z0-9._~{more}\-"), private }
    }

    /// One character of a set, or an escaped byte.
    fn one(&self, also: &str) -> String {
        format!("(?:[{}!$&'()*+,;={also}]|{PERCENT})", self.unreserved)
    }

    /// What may follow a scheme, and what may stand without one.
    fn parts(&self) -> (String, String) {
        let p = self.one(":@");
        let name = self.one("");
        let future = r"[Vv][0-9A-Fa-f]+\.[A-Za-z0-9._~!$&'()*+,;=:\-]+";
        let host = format!(r"(?:\[(?:{}|{future})\]|{name}*)", ipv6());
        let authority = format!("(?:{}*@)?{host}(?::[0-9]*)?", self.one(":"));
        let empty = format!("(?:/{p}*)*");
        let net = format!("//{authority}{empty}");
        let absolute = format!("/(?:{p}+(?:/{p}*)*)?");
        let rootless = format!("{p}+(?:/{p}*)*");
        let no_scheme = format!("{}+(?:/{p}*)*", self.one("@"));
        (format!("(?:{net}|{absolute}|{rootless}|)"), format!("(?:{net}|{absolute}|{no_scheme}|)"))
    }

    fn tail(&self) -> String {
        let query = format!("(?:{}|[/?{}])*", self.one(":@"), self.private);
        let fragment = format!("(?:{}|[/?])*", self.one(":@"));
        format!("(?:\\?{query})?(?:#{fragment})?")
    }

    fn absolute(&self) -> String {
        format!("[A-Za-z][A-Za-z0-9+.-]*:{}{}", self.parts().0, self.tail())
    }

    fn reference(&self) -> String {
        let (after, relative) = self.parts();
        format!("(?:[A-Za-z][A-Za-z0-9+.-]*:{after}|{relative}){}", self.tail())
    }
}

fn uri_template() -> String {
    let literal = format!(r"[!#$&'(-;=?-\[\]_a-z~{UCS}{PRIVATE}]");
    let char = format!("(?:[A-Za-z0-9_]|{PERCENT})");
    let variable = format!(r"{char}(?:\.?{char})*(?::[1-9][0-9]{{0,3}}|\*)?");
    let expression = format!(r"\{{[+#./;?&=,!@|]?{variable}(?:,{variable})*\}}");
    format!("(?:{literal}|{PERCENT}|{expression})*")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// `tests/data/formats.tsv`: format, whether valid, the text with `\uXXXX` escapes.
    const CASES: &str = include_str!("../../tests/data/formats.tsv");

    /// Judged differently here: what a punycode label decodes to is not looked at.
    fn is_exception(name: &str, text: &str) -> bool {
        name == "hostname" && text.to_ascii_lowercase().contains("xn--")
    }

    fn unescape(text: &str) -> String {
        let mut units = Vec::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if let Some(hex) = rest.strip_prefix("\\u") {
                units.push(u16::from_str_radix(&hex[..4], 16).unwrap());
                rest = &hex[4..];
            } else {
                units.extend(c.encode_utf16(&mut [0; 2]).iter());
                rest = &rest[c.len_utf8()..];
            }
        }
        String::from_utf16_lossy(&units)
    }

    #[test]
    fn official_suite() {
        let mut arena = Arena::new(1 << 28);
        let mut wrong = Vec::new();
        let mut checked = 0;
        for line in CASES.lines().filter(|l| !l.starts_with('#')) {
            let [name, valid, text] = line.split('\t').collect::<Vec<_>>()[..] else {
                panic!("{line}");
            };
            if !is_known(name) || is_exception(name, text) {
                continue;
            }
            arena.refuel();
            let e = lower(&mut arena, name).unwrap();
            assert_ne!(e, EMPTY);
            checked += 1;
            if arena.matches(e, &unescape(text)).unwrap() != (valid == "1") {
                wrong.push(line);
            }
        }
        assert!(wrong.is_empty(), "{} of {checked} wrong:\n{}", wrong.len(), wrong.join("\n"));
        assert!(checked > 400, "only {checked} cases");
    }

    #[test]
    fn leap_seconds_fall_on_the_end_of_a_day_in_greenwich() {
        let mut arena = Arena::new(1 << 26);
        let e = time(&mut arena).unwrap();
        // Every local minute with every offset.
        for local in 0..24 * 60 {
            for offset in (0..24 * 60).step_by(7).chain([local, (local + 1) % (24 * 60)]) {
                for east in [true, false] {
                    let utc = if east { local + 24 * 60 - offset } else { local + offset };
                    let text = format!(
                        "{:02}:{:02}:60{}{:02}:{:02}",
                        local / 60,
                        local % 60,
                        if east { '+' } else { '-' },
                        offset / 60,
                        offset % 60,
                    );
                    if local % 61 == 0 || utc % (24 * 60) == 24 * 60 - 1 {
                        arena.refuel();
                        let valid = utc % (24 * 60) == 24 * 60 - 1;
                        assert_eq!(arena.matches(e, &text).unwrap(), valid, "{text}");
                    }
                }
            }
        }
        for (text, valid) in [
            ("23:59:60Z", true),
            ("23:59:60+00:00", true),
            ("23:59:60-00:00", true),
            ("01:29:60+01:30", true),
            ("15:59:60.123-08:00", true),
            ("00:29:60+00:30", true),
            ("22:59:60Z", false),
            ("23:59:60+01:00", false),
            ("23:59:61Z", false),
        ] {
            assert_eq!(arena.matches(e, text).unwrap(), valid, "{text}");
        }
    }
}
