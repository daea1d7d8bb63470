//! Documents, the resources in them, and what a reference means.
//!
//! A *resource* is a schema with an identifier (or a document's root): it has a base address, a
//! dialect and anchors. Resources are found by walking the places where a dialect puts schemas, so
//! an `$id` inside an `enum` or an unknown keyword is no identifier. A reference into a place that
//! was not walked makes it one.
//!
//! Nothing is fetched: another document is one the caller gave by its address, or one of the
//! standard's own.

use super::error::Problem;
use super::json::{JId, Json, Step, Store};
use super::uri;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A version of the standard. Later ones compare greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Dialect {
    Draft4,
    Draft6,
    Draft7,
    Draft2019,
    Draft2020,
}

impl Dialect {
    /// The dialect that `$schema` names.
    fn named(uri: &str) -> Option<Self> {
        let uri = uri.trim_end_matches('#').trim_end_matches('/');
        let rest = uri.strip_prefix("http://").or_else(|| uri.strip_prefix("https://"))?;
        Some(match rest.strip_prefix("json-schema.org/")? {
            "draft-03/schema" | "draft-04/schema" | "draft-04/hyper-schema" => Self::Draft4,
            "draft-05/schema" | "draft-06/schema" | "draft-06/hyper-schema" => Self::Draft6,
            "draft-07/schema" | "draft-07/hyper-schema" => Self::Draft7,
            "draft/2019-09/schema" | "draft/2019-09/hyper-schema" => Self::Draft2019,
            "draft/2020-12/schema" | "draft/2020-12/hyper-schema" | "schema" | "draft-07" => {
                Self::Draft2020
            }
            _ => return None,
        })
    }

    fn id_keyword(self) -> &'static str {
        if self == Self::Draft4 { "id" } else { "$id" }
    }
}

/// Index of a resource.
pub(crate) type ResourceId = u32;

/// A schema with an address.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(crate) root: JId,
    pub(crate) dialect: Dialect,
    /// False if its `$vocabulary` leaves the validation vocabulary out.
    pub(crate) validation: bool,
    uri: String,
    anchors: FxHashMap<Arc<str>, JId>,
    pub(crate) dynamic: BTreeMap<Arc<str>, JId>,
}

const NONE: ResourceId = ResourceId::MAX;

/// Keywords whose value is a schema.
const ONE: &[&str] = &[
    "additionalItems",
    "additionalProperties",
    "contains",
    "contentSchema",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
];
/// Keywords whose value is a list of schemas.
const LIST: &[&str] = &["allOf", "anyOf", "items", "oneOf", "prefixItems"];
/// Keywords whose value maps names to schemas.
const MAP: &[&str] = &[
    "$defs",
    "definitions",
    "dependencies",
    "dependentSchemas",
    "patternProperties",
    "properties",
];

/// All documents of one compilation.
#[derive(Debug)]
pub(crate) struct Documents {
    pub(crate) store: Store,
    pub(crate) resources: Vec<Resource>,
    by_uri: FxHashMap<String, ResourceId>,
    resource_of: Vec<ResourceId>,
    /// Documents not read yet.
    remotes: BTreeMap<String, Arc<str>>,
    pub(crate) root: JId,
    /// Whether any resource has dynamic anchors.
    pub(crate) any_dynamic: bool,
}

impl Documents {
    /// Reads a schema; `remotes` are texts of other documents by address.
    pub(crate) fn new(text: &str, remotes: BTreeMap<String, Arc<str>>) -> Result<Self, Problem> {
        let mut this = Self {
            store: Store::default(),
            resources: Vec::new(),
            by_uri: FxHashMap::default(),
            resource_of: Vec::new(),
            remotes: remotes
                .into_iter()
                .map(|(k, v)| (uri::fragment(&k).0.to_owned(), v))
                .collect(),
            root: 0,
            any_dynamic: false,
        };
        this.root = this.load(text, "", Dialect::Draft2020)?;
        Ok(this)
    }

    fn load(&mut self, text: &str, address: &str, default: Dialect) -> Result<JId, Problem> {
        let root = self.store.read(text).map_err(|m| Problem::malformed(address, &m))?;
        self.resource_of.resize(self.store.len(), NONE);
        let id = self.open(root, address.to_owned(), default, true)?;
        self.scan(root, id)?;
        Ok(root)
    }

    /// A new resource at `root`.
    fn open(
        &mut self,
        root: JId,
        base: String,
        default: Dialect,
        validation: bool,
    ) -> Result<ResourceId, Problem> {
        let mut dialect = default;
        let mut validates = validation;
        if let Some(schema) = self.store.text(root, "$schema") {
            match Dialect::named(&schema) {
                Some(known) => {
                    dialect = known;
                    validates = true;
                }
                None => {
                    if let Some((of, has)) = self.custom_dialect(&schema, &base)? {
                        dialect = of;
                        validates = has;
                    }
                }
            }
        }
        let mut address = base;
        let has_ref = dialect <= Dialect::Draft7 && self.store.member(root, "$ref").is_some();
        if let Some(id) = self.store.text(root, dialect.id_keyword())
            && !has_ref
        {
            let (before, _) = uri::fragment(&id);
            if !before.is_empty() {
                address = uri::resolve(&address, before);
            }
        }
        let id = self.resources.len() as ResourceId;
        self.resources.push(Resource {
            root,
            dialect,
            validation: validates,
            uri: address.clone(),
            anchors: FxHashMap::default(),
            dynamic: BTreeMap::new(),
        });
        self.by_uri.entry(address).or_insert(id);
        Ok(id)
    }

    /// What the metaschema that `$schema` names says of itself, if it is at hand.
    fn custom_dialect(
        &mut self,
        schema: &str,
        base: &str,
    ) -> Result<Option<(Dialect, bool)>, Problem> {
        let address = uri::resolve(base, uri::fragment(schema).0);
        if address == base && !self.remotes.contains_key(&address) {
            return Ok(None);
        }
        let Some(root) = self.document(&address)? else { return Ok(None) };
        let of = self.resource(root).dialect;
        let validation = match self.store.member(root, "$vocabulary").map(|v| self.store.get(v)) {
            Some(Json::Object(members)) => {
                members.iter().any(|m| m.0.ends_with("/vocab/validation"))
            }
            _ => true,
        };
        Ok(Some((of, validation)))
    }

    /// Marks the schemas below `at` as part of a resource, opening further ones.
    fn scan(&mut self, at: JId, resource: ResourceId) -> Result<(), Problem> {
        let mut todo = vec![(at, resource)];
        while let Some((at, mut resource)) = todo.pop() {
            let Json::Object(members) = self.store.get(at).clone() else {
                self.resource_of[at as usize] = resource;
                continue;
            };
            let dialect = self.resources[resource as usize].dialect;
            let has_ref = dialect <= Dialect::Draft7 && self.store.member(at, "$ref").is_some();
            if let Some(id) = self.store.text(at, dialect.id_keyword())
                && !has_ref
                && self.resources[resource as usize].root != at
            {
                let (before, fragment) = uri::fragment(&id);
                if before.is_empty() {
                    if let Some(name) = fragment.filter(|f| !f.is_empty()) {
                        self.resources[resource as usize].anchors.insert(name.into(), at);
                    }
                } else {
                    let base = self.resources[resource as usize].uri.clone();
                    let validation = self.resources[resource as usize].validation;
                    resource = self.open(at, base, dialect, validation)?;
                }
            } else if let Some(id) = self.store.text(at, dialect.id_keyword())
                && !has_ref
                && let (_, Some(name)) = uri::fragment(&id)
                && !name.is_empty()
            {
                self.resources[resource as usize].anchors.insert(name.into(), at);
            }
            self.resource_of[at as usize] = resource;
            let here = &mut self.resources[resource as usize];
            if dialect >= Dialect::Draft2019
                && let Some(name) = self.store.text(at, "$anchor")
            {
                here.anchors.insert(name, at);
            }
            if dialect == Dialect::Draft2020
                && let Some(name) = self.store.text(at, "$dynamicAnchor")
            {
                here.anchors.insert(Arc::clone(&name), at);
                here.dynamic.insert(name, at);
                self.any_dynamic = true;
            }
            if dialect == Dialect::Draft2019
                && here.root == at
                && self.store.member(at, "$recursiveAnchor").map(|v| self.store.get(v))
                    == Some(&Json::Bool(true))
            {
                // An anonymous dynamic anchor of the whole resource.
                here.dynamic.insert("".into(), at);
                self.any_dynamic = true;
            }
            for (key, value) in &members {
                if has_ref && !matches!(&**key, "definitions" | "$defs") {
                    continue;
                }
                let key = &**key;
                match self.store.get(*value) {
                    Json::Array(items) if LIST.contains(&key) => {
                        todo.extend(items.iter().map(|&i| (i, resource)));
                    }
                    Json::Object(inner) if MAP.contains(&key) => {
                        todo.extend(inner.iter().map(|m| (m.1, resource)));
                    }
                    _ if ONE.contains(&key) => todo.push((*value, resource)),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// The resource that a schema lies in. A place not walked before is walked now.
    pub(crate) fn resource_id(&self, at: JId) -> ResourceId {
        let mut here = at;
        loop {
            match self.resource_of.get(here as usize) {
                Some(&id) if id != NONE => return id,
                _ => match self.store.place(here) {
                    (_, Step::Root) => return 0,
                    (parent, _) => here = *parent,
                },
            }
        }
    }

    pub(crate) fn resource(&self, at: JId) -> &Resource {
        &self.resources[self.resource_id(at) as usize]
    }

    /// The document or resource at an address, read if it was not.
    fn document(&mut self, address: &str) -> Result<Option<JId>, Problem> {
        if let Some(&id) = self.by_uri.get(address) {
            return Ok(Some(self.resources[id as usize].root));
        }
        let text = match self.remotes.remove(address) {
            Some(text) => text,
            None => match super::metaschema::text(address) {
                Some(text) => text.into(),
                None => return Ok(None),
            },
        };
        let root = self.load(&text, address, Dialect::Draft2020)?;
        // Reached by this address whatever it calls itself.
        let id = self.resource_id(root);
        self.by_uri.insert(address.to_owned(), id);
        Ok(Some(root))
    }

    /// The schema that `reference`, standing in the schema `from`, names.
    pub(crate) fn resolve(&mut self, from: JId, reference: &str) -> Result<JId, Problem> {
        let (before, fragment) = uri::fragment(reference);
        let home = self.resource_id(from);
        let root = if before.is_empty() {
            self.resources[home as usize].root
        } else {
            let address = uri::resolve(&self.resources[home as usize].uri, before);
            let Some(root) = self.document(&address)? else {
                let hint = "give the document in remotes={address: schema}";
                let why = format!("{address}, which is not among the documents given,");
                return Err(Problem::unsupported(self, from, "$ref", &why, hint));
            };
            root
        };
        let broken = |this: &Self| {
            let why = format!("{reference} leads nowhere");
            Problem::invalid(this, from, "$ref", &why)
        };
        let Some(name) = fragment.and_then(uri::decode) else {
            return if fragment.is_some() { Err(broken(self)) } else { Ok(root) };
        };
        if name.is_empty() {
            return Ok(root);
        }
        let Some(pointer) = name.strip_prefix('/') else {
            let resource = self.resource_id(root) as usize;
            return match self.resources[resource].anchors.get(name.as_str()) {
                Some(&at) => Ok(at),
                None => Err(broken(self)),
            };
        };
        let mut at = root;
        for step in pointer.split('/') {
            let step = step.replace("~1", "/").replace("~0", "~");
            let next = match self.store.get(at) {
                Json::Object(_) => self.store.member(at, &step),
                Json::Array(items) => {
                    step.parse::<usize>().ok().and_then(|i| items.get(i).copied())
                }
                _ => None,
            };
            let Some(next) = next else { return Err(broken(self)) };
            at = next;
        }
        if self.resource_of[at as usize] == NONE {
            let resource = self.resource_id(at);
            self.scan(at, resource)?;
        }
        Ok(at)
    }
}
