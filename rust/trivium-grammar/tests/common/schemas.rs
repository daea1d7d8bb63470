//! Random JSON Schemas and small values, for the algebra and for the machine.

/// Small numbers from one seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// Below `n`.
    pub(crate) fn roll(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    /// One of a list.
    pub(crate) fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.roll(of.len() as u64) as usize]
    }
}

/// Small values of every kind.
pub(crate) const VALUES: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "1",
    "2",
    "3",
    "-1",
    "0.5",
    "1.5",
    "6",
    "\"\"",
    "\"a\"",
    "\"b\"",
    "\"ab\"",
    "\"ba\"",
    "\"é\"",
    "[]",
    "[1]",
    "[1,1]",
    "[1,\"a\"]",
    "[\"a\",\"b\"]",
    "[1,2,3]",
    "[[1],[1]]",
    "[null,null,0]",
    "{}",
    "{\"a\":1}",
    "{\"a\":\"a\"}",
    "{\"b\":2}",
    "{\"a\":1,\"b\":2}",
    "{\"a\":\"b\",\"c\":null}",
    "{\"ab\":1}",
    "{\"a\":{\"a\":1}}",
    "{\"a\":[1,2]}",
    "{\"a\":1,\"b\":\"a\",\"c\":0.5}",
    "{\"c\":3,\"ab\":1.5}",
    "[{\"a\":1},{\"a\":1}]",
];

fn list(d: &mut Dice, depth: u32) -> String {
    let n = 1 + d.roll(3);
    let items: Vec<String> = (0..n).map(|_| schema(d, depth)).collect();
    format!("[{}]", items.join(","))
}

/// A random schema over a small world.
pub(crate) fn schema(d: &mut Dice, depth: u32) -> String {
    if depth == 0 {
        return match d.roll(6) {
            0 => "true".into(),
            1 => "false".into(),
            _ => leaf(d),
        };
    }
    if d.roll(4) == 0 {
        return leaf(d);
    }
    let mut parts: Vec<String> = Vec::new();
    for _ in 0..=d.roll(3) {
        let less = depth - 1;
        let text = match d.roll(21) {
            0 => format!("\"properties\":{{\"a\":{},\"b\":{}}}", schema(d, less), schema(d, less)),
            1 => format!("\"additionalProperties\":{}", schema(d, less)),
            2 => format!(
                "\"patternProperties\":{{\"^a\":{},\"b$\":{}}}",
                schema(d, less),
                schema(d, less)
            ),
            3 => format!("\"required\":[\"{}\"]", d.pick(&["a", "b", "c"])),
            4 => format!("\"items\":{}", schema(d, less)),
            5 => format!("\"prefixItems\":{}", list(d, less)),
            6 => format!("\"contains\":{}", schema(d, less)),
            7 => format!(
                "\"contains\":{},\"minContains\":{},\"maxContains\":{}",
                schema(d, less),
                d.roll(3),
                d.roll(3)
            ),
            8 => format!("\"anyOf\":{}", list(d, less)),
            9 => format!("\"oneOf\":{}", list(d, less)),
            10 => format!("\"allOf\":{}", list(d, less)),
            11 => format!("\"not\":{}", schema(d, less)),
            12 => format!(
                "\"if\":{},\"then\":{},\"else\":{}",
                schema(d, less),
                schema(d, less),
                schema(d, less)
            ),
            13 => format!("\"propertyNames\":{}", schema(d, less)),
            14 => format!("\"dependentSchemas\":{{\"a\":{}}}", schema(d, less)),
            15 => "\"dependentRequired\":{\"a\":[\"b\",\"c\"]}".to_owned(),
            16 => format!("\"minProperties\":{}", d.roll(3)),
            17 => format!("\"maxItems\":{},\"minItems\":{}", d.roll(4), d.roll(3)),
            18 => "\"uniqueItems\":true".to_owned(),
            19 => format!("\"unevaluatedProperties\":{}", schema(d, less)),
            _ => format!("\"unevaluatedItems\":{}", schema(d, less)),
        };
        let key = text.split(':').next().unwrap_or_default().to_owned();
        if !parts.iter().any(|p| p.starts_with(&key)) {
            parts.push(text);
        }
    }
    format!("{{{}}}", parts.join(","))
}

fn leaf(d: &mut Dice) -> String {
    match d.roll(10) {
        0 => format!(
            "{{\"type\":\"{}\"}}",
            d.pick(&["null", "boolean", "integer", "number", "string", "array", "object"])
        ),
        1 => format!("{{\"enum\":[{},{}]}}", d.pick(VALUES), d.pick(VALUES)),
        2 => format!("{{\"const\":{}}}", d.pick(VALUES)),
        3 => format!("{{\"minimum\":{}}}", d.pick(&["0", "1", "1.5"])),
        4 => format!("{{\"exclusiveMaximum\":{}}}", d.pick(&["0", "1", "2"])),
        5 => format!("{{\"multipleOf\":{}}}", d.pick(&["1", "2", "0.5", "1.5"])),
        6 => format!("{{\"minLength\":{}}}", d.roll(3)),
        7 => format!("{{\"maxLength\":{}}}", d.roll(3)),
        8 => format!("{{\"pattern\":\"{}\"}}", d.pick(&["^a", "b$", "a", "^$"])),
        _ => "{\"type\":[\"string\",\"integer\"]}".to_owned(),
    }
}
