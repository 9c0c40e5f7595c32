//! What a file may hold, as data: one description checks files, writes the JSON Schema and names
//! the keys for "did you mean", so that the three cannot drift apart.

use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use super::fault::{Report, did_you_mean, nearest};
use super::slips;
use super::yaml::{Entry, Node, Value};

/// What a value may be. Where a list of shapes is given, the kind of the value picks one.
#[derive(Debug)]
pub enum Shape {
    Leaf(&'static Leaf),
    Map(&'static MapShape),
    List(&'static Shape),
    /// One, or a list of them.
    OneOrMany(&'static Shape),
    /// Names that the file chooses, each with the same kind of value.
    Names(&'static Leaf, &'static Shape),
    /// A secret by reference; a text in its place is refused unseen.
    Secret(&'static MapShape),
    Either(&'static [Shape]),
}

#[derive(Debug)]
pub struct MapShape {
    /// For messages: `an app`.
    pub what: &'static str,
    pub keys: &'static [Key],
}

#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    pub shape: Shape,
    /// Meaning, unit, default: its reference page.
    pub doc: &'static str,
    pub need: Need,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    Optional,
    Required,
    /// Stands in the language, not in this version: using it is a fault, never silently nothing.
    Later,
}

/// A single value.
#[derive(Debug)]
pub struct Leaf {
    /// For messages: `a duration such as 15m`.
    pub what: &'static str,
    pub takes: Takes,
}

#[derive(Debug)]
pub enum Takes {
    Bool,
    Int {
        least: i64,
        most: i64,
    },
    /// Text that a parser accepts; its error is the message.
    Text(fn(&str) -> Result<(), String>),
    OneOf(&'static [&'static str]),
}

pub const fn key(name: &'static str, shape: Shape, doc: &'static str) -> Key {
    Key { name, shape, doc, need: Need::Optional }
}

pub const fn required(name: &'static str, shape: Shape, doc: &'static str) -> Key {
    Key { name, shape, doc, need: Need::Required }
}

pub const fn later(name: &'static str, doc: &'static str) -> Key {
    Key { name, shape: Shape::Leaf(&Leaf { what: "anything", takes: Takes::Bool }), doc, need: Need::Later }
}

/// Checks a whole file against its shape: unknown, doubled and missing keys, wrong kinds, values
/// that do not parse.
pub(super) fn check(file: &Arc<str>, node: &Node, shape: &'static Shape, report: &mut Report) {
    Checker { file, report, around: Vec::new() }.node(node, shape);
}

/// Checks these keys of a map alone; that there are others, or which are missing, is not told.
pub(super) fn check_keys(file: &Arc<str>, node: &Node, shape: &'static Shape, names: &[&str], report: &mut Report) {
    let Shape::Map(map) = shape else { return };
    let entries = node.entries();
    let mut checker = Checker { file, report, around: Vec::new() };
    let ours: Vec<Entry> = entries.iter().filter(|e| names.contains(&e.key.as_str())).cloned().collect();
    checker.duplicates(&ours);
    for entry in &ours {
        if let Some(key) = map.keys.iter().find(|k| k.name == entry.key) {
            checker.node(&entry.node, &key.shape);
        }
    }
}

struct Checker<'a> {
    file: &'a Arc<str>,
    report: &'a mut Report,
    /// The maps around the place that is looked at, outermost first.
    around: Vec<&'static MapShape>,
}

impl Checker<'_> {
    fn node(&mut self, node: &Node, shape: &'static Shape) {
        match (shape, &node.value) {
            (Shape::Leaf(leaf), _) => self.leaf(node, leaf),
            (Shape::Map(map), Value::Map(entries)) => self.map(node, entries, map),
            (Shape::List(item) | Shape::OneOrMany(item), Value::List(items)) => {
                for node in items {
                    self.node(node, item);
                }
            }
            (
                Shape::OneOrMany(item),
                Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) | Value::Map(_),
            ) => {
                self.node(node, item);
            }
            (Shape::Names(name, value), Value::Map(entries)) => {
                self.duplicates(entries);
                for entry in entries {
                    if let Takes::Text(check) = name.takes
                        && let Err(why) = check(&entry.key)
                    {
                        self.report.fault(self.file, entry.key_at, why);
                    }
                    self.node(&entry.node, value);
                }
            }
            (Shape::Secret(map), Value::Map(entries)) => self.map(node, entries, map),
            // What stands here may be the secret itself: it is never repeated.
            (Shape::Secret(_), _) => self.report.fault_with(
                self.file,
                node.at,
                "a secret stands here in clear",
                "write a reference: { file: /run/secrets/NAME } or { env: NAME }".to_owned(),
            ),
            (Shape::Either(shapes), _) => match shapes.iter().find(|s| s.fits(node)) {
                Some(shape) => self.node(node, shape),
                None => self.wrong(node, shape),
            },
            (Shape::Map(_) | Shape::List(_) | Shape::OneOrMany(_) | Shape::Names(..), _) => self.wrong(node, shape),
        }
    }

    fn map(&mut self, node: &Node, entries: &[Entry], map: &'static MapShape) {
        self.duplicates(entries);
        self.around.push(map);
        let mut mistaken: Vec<&str> = Vec::new();
        for entry in entries {
            match map.keys.iter().find(|k| k.name == entry.key) {
                Some(key) if key.need == Need::Later => {
                    let message = format!("`{}` is not supported yet in this version", key.name);
                    self.report.fault(self.file, entry.key_at, message);
                }
                Some(key) => self.node(&entry.node, &key.shape),
                None if entry.key == "<<" => {
                    let message = "merge keys (`<<`) do not work here: write the keys out";
                    self.report.fault(self.file, entry.key_at, message);
                }
                None => {
                    let (hint, meant) = self.unknown(&entry.key, map);
                    let message = format!("unknown key {:?} in {}", entry.key, map.what);
                    self.report.fault_with(self.file, entry.key_at, message, hint);
                    mistaken.extend(meant);
                }
            }
        }
        self.around.pop();
        for key in map.keys.iter().filter(|k| k.need == Need::Required) {
            // What stands there under a wrong name was told.
            if !entries.iter().any(|e| e.key == key.name) && !mistaken.contains(&key.name) {
                self.report.fault(self.file, node.at, format!("{} needs the key `{}`", map.what, key.name));
            }
        }
    }

    /// What to do about a key that `map` has not, and which of its keys was meant.
    fn unknown(&self, key: &str, map: &'static MapShape) -> (String, Option<&'static str>) {
        if let Some((meant, write)) = slips::other_name(map, key) {
            return (format!("write {write}"), Some(meant));
        }
        if let [(first, write), more @ ..] = slips::further_in(map, key).as_slice() {
            let others: String = more.iter().map(|(other, _)| format!(" (or inside `{other}`)")).collect();
            return (format!("{write}{others}"), Some(first));
        }
        let around = self.around.iter().rev().skip(1);
        if let Some(outer) = around.copied().find(|outer| outer.keys.iter().any(|k| k.name == key)) {
            return (format!("it is a key of {}: take it out of {}", outer.what, map.what), None);
        }
        let known = map.keys.iter().filter(|k| k.need != Need::Later).map(|k| k.name);
        match nearest(key, known.clone()) {
            Some(near) => (format!("did you mean {near:?}?"), Some(near)),
            None => (format!("known keys: {}", known.collect::<Vec<_>>().join(", ")), None),
        }
    }

    /// The last of two would win silently elsewhere: a hole that nobody sees (S-CONF-1).
    fn duplicates(&mut self, entries: &[Entry]) {
        for (i, entry) in entries.iter().enumerate() {
            if let Some(first) = entries.iter().take(i).find(|e| e.key == entry.key) {
                let message =
                    format!("the key {:?} stands here a second time (first in line {})", entry.key, first.key_at.line);
                self.report.fault(self.file, entry.key_at, message);
            }
        }
    }

    fn leaf(&mut self, node: &Node, leaf: &Leaf) {
        let problem = match (&leaf.takes, &node.value) {
            (Takes::Bool, Value::Bool(_)) => return,
            (Takes::Int { least, most }, Value::Int(n)) if (least..=most).contains(&n) => return,
            (Takes::Text(check), Value::Text(text)) => match check(text) {
                Ok(()) => return,
                Err(why) => why,
            },
            (Takes::OneOf(words), Value::Text(text)) => {
                if words.contains(&text.as_str()) {
                    return;
                }
                let hint =
                    did_you_mean(text, words.iter().copied()).unwrap_or_else(|| format!("known: {}", words.join(", ")));
                self.report.fault_with(self.file, node.at, format!("{text:?} is not {}", leaf.what), hint);
                return;
            }
            (Takes::OneOf(words), value) => format!("expected one of {}, found {}", words.join(", "), found(value)),
            (Takes::Bool | Takes::Int { .. } | Takes::Text(_), value) => {
                format!("expected {}, found {}", leaf.what, found(value))
            }
        };
        let hint = slips::curly_quotes(&node.value).or_else(|| slips::other_leaf(leaf, &node.value));
        self.report.fault_with(self.file, node.at, problem, hint);
    }

    fn wrong(&mut self, node: &Node, shape: &Shape) {
        let message = format!("expected {}, found {}", shape.what(), found(&node.value));
        let hint = slips::other_kind(shape, &node.value);
        self.report.fault_with(self.file, node.at, message, hint);
    }
}

impl Shape {
    fn fits(&self, node: &Node) -> bool {
        match (self, &node.value) {
            (Self::Leaf(leaf), value) => matches!(
                (&leaf.takes, value),
                (Takes::Bool, Value::Bool(_))
                    | (Takes::Int { .. }, Value::Int(_))
                    | (Takes::Text(_) | Takes::OneOf(_), Value::Text(_))
            ),
            (Self::Map(_) | Self::Names(..), Value::Map(_)) | (Self::Secret(_), _) => true,
            (Self::List(_) | Self::OneOrMany(_), Value::List(_)) => true,
            (Self::OneOrMany(item), _) => item.fits(node),
            (Self::Either(shapes), _) => shapes.iter().any(|s| s.fits(node)),
            (Self::Map(_) | Self::List(_) | Self::Names(..), _) => false,
        }
    }

    fn what(&self) -> String {
        match self {
            Self::Leaf(leaf) => leaf.what.to_owned(),
            Self::Map(map) => format!("{} (a map)", map.what),
            Self::List(item) => format!("a list of: {}", item.what()),
            Self::OneOrMany(item) => format!("{}, or a list of them", item.what()),
            Self::Names(name, value) => format!("a map from {} to {}", name.what, value.what()),
            Self::Secret(_) => "a reference to a secret".to_owned(),
            Self::Either(shapes) => shapes.iter().map(Self::what).collect::<Vec<_>>().join(", or "),
        }
    }

    fn schema(&self) -> Json {
        match self {
            Self::Leaf(leaf) => leaf.schema(),
            Self::Map(map) | Self::Secret(map) => map.schema(),
            Self::List(item) => json!({ "type": "array", "items": item.schema() }),
            Self::OneOrMany(item) => {
                json!({ "anyOf": [item.schema(), { "type": "array", "items": item.schema() }] })
            }
            Self::Names(_, value) => json!({ "type": "object", "additionalProperties": value.schema() }),
            Self::Either(shapes) => json!({ "anyOf": shapes.iter().map(Self::schema).collect::<Vec<_>>() }),
        }
    }
}

impl Leaf {
    fn schema(&self) -> Json {
        match &self.takes {
            Takes::Bool => json!({ "type": "boolean" }),
            Takes::Int { least, most } => json!({ "type": "integer", "minimum": least, "maximum": most }),
            Takes::Text(_) => json!({ "type": "string", "description": self.what }),
            Takes::OneOf(words) => json!({ "enum": words }),
        }
    }
}

impl MapShape {
    fn schema(&self) -> Json {
        let ready = || self.keys.iter().filter(|k| k.need != Need::Later);
        let properties: Map<String, Json> = ready()
            .map(|k| {
                let mut schema = k.shape.schema();
                if let Json::Object(fields) = &mut schema {
                    fields.insert("description".to_owned(), k.doc.into());
                }
                (k.name.to_owned(), schema)
            })
            .collect();
        let needed: Vec<&str> = ready().filter(|k| k.need == Need::Required).map(|k| k.name).collect();
        let mut schema = json!({ "type": "object", "properties": properties, "additionalProperties": false });
        if let (Json::Object(fields), false) = (&mut schema, needed.is_empty()) {
            fields.insert("required".to_owned(), json!(needed));
        }
        schema
    }
}

/// The JSON Schema of a file with this shape.
#[must_use]
pub fn json_schema(title: &str, shape: &Shape) -> Json {
    let mut schema = shape.schema();
    if let Json::Object(fields) = &mut schema {
        fields.insert("$schema".to_owned(), "http://json-schema.org/draft-07/schema#".into());
        fields.insert("title".to_owned(), title.into());
    }
    schema
}

fn found(value: &Value) -> String {
    match value {
        Value::Null => "nothing (is what belongs to it indented further? Else leave the key out)".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Int(n) => format!("the number {n}"),
        Value::Float(n) => format!("the number {n}"),
        Value::Text(text) => format!("the text {text:?}"),
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "a map".to_owned(),
    }
}
