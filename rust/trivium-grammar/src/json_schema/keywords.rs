//! One schema object as rules in 2020-12's terms, whatever dialect it is written in.
//!
//! | older dialects | become |
//! |---|---|
//! | draft 4 `exclusiveMinimum: true` | an open bound |
//! | `items: [...]`, `additionalItems` | prefix and rest |
//! | `dependencies` | required names or a schema, by value |
//! | siblings of `$ref` up to draft 7 | nothing |
//! | `$recursiveRef` | a reference to the anonymous dynamic anchor |
//!
//! Keywords of unknown name are annotations. A known keyword with a value of the wrong kind is an
//! error: guessing what it meant would weaken the schema in silence.

use super::decimal::Decimal;
use super::documents::{Dialect, Documents};
use super::error::Problem;
use super::json::{JId, Json};
use std::sync::Arc;

/// A schema's place.
pub(crate) type Loc = JId;

/// Kinds of values, as bits.
pub(crate) mod kind {
    pub(crate) const NULL: u8 = 1;
    pub(crate) const BOOL: u8 = 2;
    /// Numbers that are integers.
    pub(crate) const INTEGER: u8 = 4;
    /// Numbers that are not integers.
    pub(crate) const FRACTION: u8 = 8;
    pub(crate) const STRING: u8 = 16;
    pub(crate) const ARRAY: u8 = 32;
    pub(crate) const OBJECT: u8 = 64;
    pub(crate) const NUMBER: u8 = INTEGER | FRACTION;
    pub(crate) const ALL: u8 = 127;
}

/// One requirement. A schema is the conjunction of its rules.
#[derive(Debug, Clone)]
pub(crate) enum Rule {
    Kinds(u8),
    /// Draft 4: an integer is a number *written* without fraction or exponent.
    PlainIntegers,
    /// One of these values.
    OneOfValues(Arc<[JId]>),
    /// At least, or at most, a number.
    Bound {
        lower: bool,
        at: Decimal,
        open: bool,
    },
    MultipleOf(Decimal),
    /// Characters of a string.
    Length(u64, Option<u64>),
    Pattern(Arc<str>),
    Format(Arc<str>),
    /// The first items, and the others.
    Items {
        prefix: Arc<[Loc]>,
        rest: Option<Loc>,
    },
    /// Items of an array.
    Count(u64, Option<u64>),
    /// Between so many items satisfy a schema; whether they count as evaluated.
    Contains {
        schema: Loc,
        min: u64,
        max: Option<u64>,
        evaluates: bool,
    },
    Unique,
    Members {
        names: Arc<[(Arc<str>, Loc)]>,
        patterns: Arc<[(Arc<str>, Loc)]>,
        additional: Option<Loc>,
    },
    PropertyNames(Loc),
    Required(Arc<[Arc<str>]>),
    /// Members of an object.
    Size(u64, Option<u64>),
    /// If a member is present, so are others.
    DependentRequired(Arc<str>, Arc<[Arc<str>]>),
    /// If a member is present, the object satisfies a schema.
    DependentSchema(Arc<str>, Loc),
    AllOf(Arc<[Loc]>),
    AnyOf(Arc<[Loc]>),
    OneOf(Arc<[Loc]>),
    Not(Loc),
    If {
        test: Loc,
        then: Option<Loc>,
        otherwise: Option<Loc>,
    },
    Ref(Loc),
    /// The static target, and the dynamic anchor that may replace it.
    DynamicRef(Loc, Arc<str>),
    UnevaluatedItems(Loc),
    UnevaluatedProperties(Loc),
}

impl Rule {
    /// Schemas applied to the same value.
    pub(crate) fn in_place(&self) -> Vec<Loc> {
        match self {
            Self::AllOf(l) | Self::AnyOf(l) | Self::OneOf(l) => l.to_vec(),
            Self::Not(l) | Self::Ref(l) | Self::DependentSchema(_, l) | Self::DynamicRef(l, _) => {
                vec![*l]
            }
            Self::If { test, then, otherwise } => {
                [Some(*test), *then, *otherwise].into_iter().flatten().collect()
            }
            _ => Vec::new(),
        }
    }
}

/// The rules of a schema; `None` for the schema that nothing satisfies.
pub(crate) type Rules = Option<Arc<[Rule]>>;

struct Reader<'a> {
    docs: &'a mut Documents,
    at: Loc,
    out: Vec<Rule>,
}

/// Reads the schema at a place.
pub(crate) fn read(docs: &mut Documents, at: Loc) -> Result<Rules, Problem> {
    match docs.store.get(at) {
        Json::Bool(true) => return Ok(Some(Arc::from([]))),
        Json::Bool(false) => return Ok(None),
        Json::Object(_) => {}
        _ => return Err(Problem::invalid(docs, at, "", "a schema is an object or a boolean")),
    }
    let mut reader = Reader { docs, at, out: Vec::new() };
    reader.all()?;
    Ok(Some(reader.out.into()))
}

impl Reader<'_> {
    fn wrong<T>(&self, keyword: &str, why: &str) -> Result<T, Problem> {
        Err(Problem::invalid(self.docs, self.at, keyword, why))
    }

    fn get(&self, keyword: &str) -> Option<(JId, Json)> {
        let id = self.docs.store.member(self.at, keyword)?;
        Some((id, self.docs.store.get(id).clone()))
    }

    fn number(&self, keyword: &str) -> Result<Option<Decimal>, Problem> {
        match self.get(keyword) {
            None => Ok(None),
            Some((_, Json::Number(n))) => Ok(Some(n)),
            Some(_) => self.wrong(keyword, "expected a number"),
        }
    }

    fn count(&self, keyword: &str) -> Result<Option<u64>, Problem> {
        match self.number(keyword)? {
            None => Ok(None),
            Some(n) => match n.to_u64() {
                Some(n) => Ok(Some(n)),
                None if n.is_integer() && !n.is_negative() => Ok(Some(u64::MAX)),
                None => self.wrong(keyword, "expected a count"),
            },
        }
    }

    /// A pair of counts; no rule where nothing is asked.
    fn counts(
        &mut self,
        min: &str,
        max: &str,
        rule: fn(u64, Option<u64>) -> Rule,
    ) -> Result<(), Problem> {
        let (min, max) = (self.count(min)?, self.count(max)?);
        if min.is_some_and(|m| m > 0) || max.is_some() {
            self.out.push(rule(min.unwrap_or(0), max));
        }
        Ok(())
    }

    fn text(&self, keyword: &str) -> Result<Option<Arc<str>>, Problem> {
        match self.get(keyword) {
            None => Ok(None),
            Some((_, Json::String(s))) => Ok(Some(s)),
            Some(_) => self.wrong(keyword, "expected a string"),
        }
    }

    fn schema(&self, keyword: &str) -> Result<Option<Loc>, Problem> {
        match self.get(keyword) {
            None => Ok(None),
            Some((id, Json::Object(_) | Json::Bool(_))) => Ok(Some(id)),
            Some(_) => self.wrong(keyword, "expected a schema"),
        }
    }

    fn schemas(&self, keyword: &str) -> Result<Option<Arc<[Loc]>>, Problem> {
        match self.get(keyword) {
            None => Ok(None),
            Some((_, Json::Array(items))) => Ok(Some(items.into())),
            Some(_) => self.wrong(keyword, "expected a list of schemas"),
        }
    }

    fn map(&self, keyword: &str) -> Result<Vec<(Arc<str>, JId)>, Problem> {
        match self.get(keyword) {
            None => Ok(Vec::new()),
            Some((_, Json::Object(members))) => Ok(members),
            Some(_) => self.wrong(keyword, "expected an object"),
        }
    }

    fn names(&self, keyword: &str, id: JId) -> Result<Arc<[Arc<str>]>, Problem> {
        let Json::Array(items) = self.docs.store.get(id) else {
            return self.wrong(keyword, "expected a list of names");
        };
        let mut out: Vec<Arc<str>> = Vec::with_capacity(items.len());
        for &item in items {
            match self.docs.store.get(item) {
                Json::String(s) => out.push(Arc::clone(s)),
                _ => return self.wrong(keyword, "expected a list of names"),
            }
        }
        let mut seen = rustc_hash::FxHashSet::default();
        out.retain(|name| seen.insert(Arc::clone(name)));
        Ok(out.into())
    }

    fn all(&mut self) -> Result<(), Problem> {
        let resource = self.docs.resource(self.at);
        let (dialect, validation) = (resource.dialect, resource.validation);
        if dialect <= Dialect::Draft7 && self.get("$ref").is_some() {
            return self.references(dialect);
        }
        if validation {
            self.assertions(dialect)?;
            self.numbers(dialect)?;
            self.counts("minLength", "maxLength", Rule::Length)?;
            if let Some(pattern) = self.text("pattern")? {
                self.out.push(Rule::Pattern(pattern));
            }
        }
        // Its own vocabulary: asserted whatever `$schema` says of the others.
        if let Some((_, Json::String(format))) = self.get("format") {
            self.out.push(Rule::Format(format));
        }
        self.arrays(dialect, validation)?;
        self.objects(dialect, validation)?;
        self.combinations(dialect)?;
        self.references(dialect)?;
        if dialect >= Dialect::Draft2019 {
            if let Some(schema) = self.schema("unevaluatedItems")? {
                self.out.push(Rule::UnevaluatedItems(schema));
            }
            if let Some(schema) = self.schema("unevaluatedProperties")? {
                self.out.push(Rule::UnevaluatedProperties(schema));
            }
        }
        Ok(())
    }

    fn assertions(&mut self, dialect: Dialect) -> Result<(), Problem> {
        if let Some((_, value)) = self.get("type") {
            let mut bits = 0;
            let mut add = |name: &str| {
                bits |= match name {
                    "null" => kind::NULL,
                    "boolean" => kind::BOOL,
                    "integer" => kind::INTEGER,
                    "number" => kind::NUMBER,
                    "string" => kind::STRING,
                    "array" => kind::ARRAY,
                    "object" => kind::OBJECT,
                    "any" if dialect <= Dialect::Draft4 => kind::ALL,
                    _ => return false,
                };
                true
            };
            let ok = match &value {
                Json::String(name) => add(name),
                Json::Array(items) => items.iter().all(|&i| match self.docs.store.get(i) {
                    Json::String(name) => add(name),
                    _ => false,
                }),
                _ => false,
            };
            if !ok {
                return self.wrong("type", "expected names of JSON types");
            }
            self.out.push(Rule::Kinds(bits));
            if dialect == Dialect::Draft4 && bits & kind::NUMBER == kind::INTEGER {
                self.out.push(Rule::PlainIntegers);
            }
        }
        if let Some((_, value)) = self.get("enum") {
            let Json::Array(items) = value else {
                return self.wrong("enum", "expected a list");
            };
            self.out.push(Rule::OneOfValues(items.into()));
        }
        if dialect > Dialect::Draft4
            && let Some((id, _)) = self.get("const")
        {
            self.out.push(Rule::OneOfValues(Arc::from([id])));
        }
        Ok(())
    }

    fn numbers(&mut self, dialect: Dialect) -> Result<(), Problem> {
        for (keyword, exclusive, lower) in
            [("minimum", "exclusiveMinimum", true), ("maximum", "exclusiveMaximum", false)]
        {
            // Draft 4's flag, which people write under any dialect.
            let flag = match self.get(exclusive) {
                Some((_, Json::Bool(b))) => Some(b),
                _ => None,
            };
            if let Some(at) = self.number(keyword)? {
                self.out.push(Rule::Bound { lower, at, open: flag == Some(true) });
            }
            if flag.is_none()
                && dialect > Dialect::Draft4
                && let Some(at) = self.number(exclusive)?
            {
                self.out.push(Rule::Bound { lower, at, open: true });
            } else if flag.is_none() && dialect == Dialect::Draft4 && self.get(exclusive).is_some()
            {
                match self.number(exclusive)? {
                    Some(at) => self.out.push(Rule::Bound { lower, at, open: true }),
                    None => return self.wrong(exclusive, "expected a boolean"),
                }
            }
        }
        if let Some(of) = self.number("multipleOf")? {
            if of.is_zero() || of.is_negative() {
                return self.wrong("multipleOf", "expected a number above 0");
            }
            self.out.push(Rule::MultipleOf(of));
        }
        Ok(())
    }

    fn arrays(&mut self, dialect: Dialect, validation: bool) -> Result<(), Problem> {
        let (prefix, rest) = if dialect == Dialect::Draft2020 {
            match self.get("items") {
                // The older form is an error in 2020-12, but its meaning is not in doubt.
                Some((_, Json::Array(items))) if self.get("prefixItems").is_none() => {
                    (items.into(), self.schema("additionalItems")?)
                }
                _ => (self.schemas("prefixItems")?.unwrap_or_default(), self.schema("items")?),
            }
        } else {
            match self.get("items") {
                Some((_, Json::Array(items))) => (items.into(), self.schema("additionalItems")?),
                _ => (Arc::from([]), self.schema("items")?),
            }
        };
        if !prefix.is_empty() || rest.is_some() {
            self.out.push(Rule::Items { prefix, rest });
        }
        if dialect > Dialect::Draft4
            && let Some(schema) = self.schema("contains")?
        {
            let counted = validation && dialect >= Dialect::Draft2019;
            let min = if counted { self.count("minContains")?.unwrap_or(1) } else { 1 };
            let max = if counted { self.count("maxContains")? } else { None };
            let evaluates = dialect == Dialect::Draft2020;
            self.out.push(Rule::Contains { schema, min, max, evaluates });
        }
        if validation {
            self.counts("minItems", "maxItems", Rule::Count)?;
            match self.get("uniqueItems") {
                Some((_, Json::Bool(true))) => self.out.push(Rule::Unique),
                None | Some((_, Json::Bool(false))) => {}
                Some(_) => return self.wrong("uniqueItems", "expected a boolean"),
            }
        }
        Ok(())
    }

    fn objects(&mut self, dialect: Dialect, validation: bool) -> Result<(), Problem> {
        let names = self.map("properties")?;
        let patterns = self.map("patternProperties")?;
        let additional = self.schema("additionalProperties")?;
        if !names.is_empty() || !patterns.is_empty() || additional.is_some() {
            let (names, patterns) = (names.into(), patterns.into());
            self.out.push(Rule::Members { names, patterns, additional });
        }
        if dialect > Dialect::Draft4
            && let Some(schema) = self.schema("propertyNames")?
        {
            self.out.push(Rule::PropertyNames(schema));
        }
        if validation {
            match self.get("required") {
                None => {}
                // Draft 3's flag on the member itself: an annotation in every later dialect's terms.
                Some((_, Json::Bool(_))) if dialect <= Dialect::Draft4 => {}
                Some((id, _)) => {
                    let names = self.names("required", id)?;
                    if !names.is_empty() {
                        self.out.push(Rule::Required(names));
                    }
                }
            }
            self.counts("minProperties", "maxProperties", Rule::Size)?;
            if dialect >= Dialect::Draft2019 {
                for (name, id) in self.map("dependentRequired")? {
                    let needs = self.names("dependentRequired", id)?;
                    self.out.push(Rule::DependentRequired(name, needs));
                }
            }
        }
        if dialect >= Dialect::Draft2019 {
            for (name, id) in self.map("dependentSchemas")? {
                self.out.push(Rule::DependentSchema(name, id));
            }
        }
        // Dropped from 2019-09 on, kept by its metaschema for compatibility.
        for (name, id) in self.map("dependencies")? {
            match self.docs.store.get(id) {
                Json::Array(_) => {
                    let needs = self.names("dependencies", id)?;
                    self.out.push(Rule::DependentRequired(name, needs));
                }
                Json::String(s) if dialect <= Dialect::Draft4 => {
                    let needs = Arc::from([Arc::clone(s)]);
                    self.out.push(Rule::DependentRequired(name, needs));
                }
                _ => self.out.push(Rule::DependentSchema(name, id)),
            }
        }
        Ok(())
    }

    fn combinations(&mut self, dialect: Dialect) -> Result<(), Problem> {
        for (keyword, rule) in [
            ("allOf", Rule::AllOf as fn(Arc<[Loc]>) -> Rule),
            ("anyOf", Rule::AnyOf),
            ("oneOf", Rule::OneOf),
        ] {
            if let Some(list) = self.schemas(keyword)? {
                self.out.push(rule(list));
            }
        }
        if let Some(schema) = self.schema("not")? {
            self.out.push(Rule::Not(schema));
        }
        if dialect >= Dialect::Draft7
            && let Some(test) = self.schema("if")?
        {
            let (then, otherwise) = (self.schema("then")?, self.schema("else")?);
            self.out.push(Rule::If { test, then, otherwise });
        }
        Ok(())
    }

    fn references(&mut self, dialect: Dialect) -> Result<(), Problem> {
        if let Some(target) = self.text("$ref")? {
            let to = self.docs.resolve(self.at, &target)?;
            self.out.push(Rule::Ref(to));
        }
        if dialect == Dialect::Draft2019
            && let Some(target) = self.text("$recursiveRef")?
        {
            let to = self.docs.resolve(self.at, &target)?;
            let bookend = self.docs.resource(to).dynamic.get("") == Some(&to);
            self.out.push(if bookend { Rule::DynamicRef(to, "".into()) } else { Rule::Ref(to) });
        }
        if dialect == Dialect::Draft2020
            && let Some(target) = self.text("$dynamicRef")?
        {
            let to = self.docs.resolve(self.at, &target)?;
            let name = super::uri::fragment(&target).1.unwrap_or("");
            let bookend = self.docs.resource(to).dynamic.get(name) == Some(&to);
            self.out.push(if bookend { Rule::DynamicRef(to, name.into()) } else { Rule::Ref(to) });
        }
        Ok(())
    }
}
