//! References between documents: RFC 3986 resolution, as far as identifiers of schemas need it.

/// Scheme with colon, authority with slashes, path, query with mark; the fragment is cut off before.
fn split(uri: &str) -> (&str, &str, &str, &str) {
    let scheme_end = uri
        .find([':', '/', '?'])
        .filter(|&i| i > 0 && uri.as_bytes()[i] == b':')
        .filter(|&i| {
            uri.as_bytes()[0].is_ascii_alphabetic()
                && uri[..i].bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
        })
        .map_or(0, |i| i + 1);
    let (scheme, rest) = uri.split_at(scheme_end);
    let authority_end = match rest.strip_prefix("//") {
        Some(after) => after.find(['/', '?']).map_or(rest.len(), |i| i + 2),
        None => 0,
    };
    let (authority, rest) = rest.split_at(authority_end);
    let (path, query) = rest.split_at(rest.find('?').unwrap_or(rest.len()));
    (scheme, authority, path, query)
}

fn without_dots(path: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    let mut parts = path.split('/').peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        match part {
            "." => {
                if last {
                    out.push("");
                }
            }
            ".." => {
                if out.len() > 1 || out.first().is_some_and(|p| !p.is_empty()) {
                    out.pop();
                }
                if last {
                    out.push("");
                }
            }
            part => out.push(part),
        }
    }
    out.join("/")
}

/// Cuts a reference into the part before `#` and the fragment.
pub(crate) fn fragment(uri: &str) -> (&str, Option<&str>) {
    match uri.split_once('#') {
        Some((before, fragment)) => (before, Some(fragment)),
        None => (uri, None),
    }
}

/// `reference`, which has no fragment, seen from `base`.
pub(crate) fn resolve(base: &str, reference: &str) -> String {
    let (scheme, authority, path, query) = split(reference);
    if !scheme.is_empty() {
        return format!("{scheme}{authority}{}{query}", without_dots(path));
    }
    let (base_scheme, base_authority, base_path, base_query) = split(base);
    if !authority.is_empty() {
        return format!("{base_scheme}{authority}{}{query}", without_dots(path));
    }
    if path.is_empty() {
        let query = if query.is_empty() { base_query } else { query };
        return format!("{base_scheme}{base_authority}{base_path}{query}");
    }
    let path = if path.starts_with('/') {
        without_dots(path)
    } else if base_path.is_empty() && !base_authority.is_empty() {
        without_dots(&format!("/{path}"))
    } else {
        let folder = base_path.rfind('/').map_or("", |i| &base_path[..=i]);
        without_dots(&format!("{folder}{path}"))
    };
    format!("{base_scheme}{base_authority}{path}{query}")
}

/// Undoes percent-encoding; `None` if the result is no text.
pub(crate) fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        if bytes[i] == b'%' {
            let hex = text.get(i + 1..i + 3)?;
            out.push(u8::from_str_radix(hex, 16).ok()?);
            i += 3;
        } else {
            out.push(bytes[i]);
            i += 1;
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolves_as_the_standard_says() {
        for (base, reference, want) in [
            ("http://a/b/c/d?q", "g", "http://a/b/c/g"),
            ("http://a/b/c/d?q", "../g", "http://a/b/g"),
            ("http://a/b/c/d?q", "../../../g", "http://a/g"),
            ("http://a/b/c/d?q", "/g/./h", "http://a/g/h"),
            ("http://a/b/c/d?q", "?y", "http://a/b/c/d?y"),
            ("http://a/b/c/d?q", "", "http://a/b/c/d?q"),
            ("http://a/b/c/d?q", "//h/x", "http://h/x"),
            ("http://a", "g", "http://a/g"),
            ("urn:uuid:1", "", "urn:uuid:1"),
            ("", "item.json", "item.json"),
            ("folder/x.json", "item.json", "folder/item.json"),
        ] {
            assert_eq!(resolve(base, reference), want, "{base} {reference}");
        }
        assert_eq!(decode("a%25b%C3%A9").as_deref(), Some("a%bé"));
        assert_eq!(decode("%zz"), None);
    }
}
