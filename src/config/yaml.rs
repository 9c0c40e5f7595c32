//! The one door for YAML: strict options, bounded input, and a tree in which every value and every
//! key keeps its place, so that all mistakes of a file can be told at once.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::options::{DuplicateKeyPolicy, MergeKeyPolicy};
use serde_yaml::{Location, Spanned};

use super::misread::in_our_words;

/// A place in a file, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    pub line: u32,
    pub column: u32,
}

/// One value with its place.
#[derive(Clone, Debug)]
pub struct Node {
    pub at: Mark,
    pub value: Value,
}

#[derive(Clone, Debug)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    /// In the order of the file, duplicates included: who reads it reports them.
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub key: String,
    pub key_at: Mark,
    pub node: Node,
}

/// Why a text is no YAML that we take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YamlError {
    pub at: Mark,
    pub message: String,
}

/// Reads one document. Anchors work; merge keys (`<<`) come out as a key of that name, which no
/// file of ours has; tags, several documents and oversized input are refused.
pub fn parse(text: &str) -> Result<Node, YamlError> {
    if text.trim().is_empty() {
        return Err(YamlError { at: Mark { line: 1, column: 1 }, message: "the file is empty".to_owned() });
    }
    // `budget` holds alias bombs; 5 000 rules are about 60 000 nodes (DEPENDENCIES 12.6).
    let options = serde_yaml::options! {
        strict_booleans: true,
        reject_unsupported_tags: true,
        reject_tagged_field_names: true,
        underscored_numbers_as_strings: true,
        leading_zero_numbers_as_strings: true,
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::AsOrdinary,
        // Neighbouring lines may hold what nobody should see.
        with_snippet: false,
        budget: serde_yaml::budget! {
            max_depth: 32,
            max_nodes: 100_000,
            max_aliases: 64,
            max_documents: 1,
            max_total_scalar_bytes: 1 << 20,
        },
    };
    match serde_yaml::from_str_with_options::<Tree>(text, options) {
        Ok(Tree(node)) => Ok(node),
        Err(error) => {
            let at = error.location().map_or(Mark { line: 1, column: 1 }, Mark::from);
            let message = error.render_with_formatter(&serde_yaml::UserMessageFormatter);
            // The place stands before it in our own form.
            let message = message.split(" at line ").next().unwrap_or(&message).trim();
            Err(YamlError { at, message: in_our_words(message, text, at) })
        }
    }
}

impl From<Location> for Mark {
    fn from(location: Location) -> Self {
        let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        Self { line: small(location.line()), column: small(location.column()) }
    }
}

impl Node {
    /// The value of a key of a map; the first of duplicates.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|e| e.key == key).map(|e| &e.node)
    }

    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The entries of a map; none for anything else.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list; none for anything else.
    #[must_use]
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// The items of a list, or the one value that stands for a list of one.
    #[must_use]
    pub fn one_or_many(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => std::slice::from_ref(self),
        }
    }

    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    #[must_use]
    pub fn int(&self) -> Option<i64> {
        match self.value {
            Value::Int(n) => Some(n),
            _ => None,
        }
    }

    #[must_use]
    pub fn bool(&self) -> Option<bool> {
        match self.value {
            Value::Bool(b) => Some(b),
            _ => None,
        }
    }
}

struct Tree(Node);

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Bare>::deserialize(deserializer)?;
        Ok(Self(Node { at: spanned.referenced.into(), value: spanned.value.0 }))
    }
}

struct Bare(Value);

impl<'de> Deserialize<'de> for Bare {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BareVisitor).map(Self)
    }
}

struct BareVisitor;

impl<'de> Visitor<'de> for BareVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or_else(|_| Value::Text(value.to_string()), Value::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Tree(node)) = access.next_element()? {
            items.push(node);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = access.next_key::<Spanned<String>>()? {
            let Tree(node) = access.next_value()?;
            entries.push(Entry { key: key.value, key_at: key.referenced.into(), node });
        }
        Ok(Value::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_and_key_keeps_its_place() {
        let node = parse("a: 1\nb:\n  - x\n  - { c: true, c: 2, \"yes\": no }\n").unwrap();
        let b = node.get("b").unwrap();
        assert_eq!(b.items()[0].at, Mark { line: 3, column: 5 });
        let entries = b.items()[1].entries();
        assert_eq!(entries.len(), 3, "duplicates are kept for the report");
        assert_eq!(entries[1].key_at, Mark { line: 4, column: 16 });
        assert_eq!(entries[1].node.at, Mark { line: 4, column: 19 });
        assert_eq!(entries[2].key, "yes");
        assert_eq!(entries[2].node.text(), Some("no"), "`no` is a word, not a boolean");
    }

    #[test]
    fn keys_that_look_like_other_types_stay_text() {
        let node = parse("n: 1\n443: x\ntrue: y\n").unwrap();
        let keys: Vec<&str> = node.entries().iter().map(|e| e.key.as_str()).collect();
        assert_eq!(keys, ["n", "443", "true"]);
    }

    #[test]
    fn numbers_with_tricks_are_no_numbers() {
        let node = parse("a: 1_000\nb: 010\nc: 0x10\nd: 12").unwrap();
        assert_eq!(node.get("a").unwrap().text(), Some("1_000"));
        assert_eq!(node.get("b").unwrap().text(), Some("010"));
        assert_eq!(node.get("d").unwrap().int(), Some(12));
    }

    #[test]
    fn bombs_tags_merges_and_second_documents_end_early() {
        let bomb = format!("a: &a [{}]\nb: [{}]\n", "x,".repeat(2000), "*a,".repeat(65));
        assert!(parse(&bomb).is_err());
        assert!(parse(&"[".repeat(40_000)).is_err());
        assert!(parse("a: !secret b").is_err());
        assert!(parse("a: 1\n---\nb: 2\n").is_err());
        assert!(parse("").is_err());
        let merged = parse("x: &x { a: 1 }\ny: { <<: *x }\n").unwrap();
        assert_eq!(merged.get("y").unwrap().entries()[0].key, "<<");
    }

    #[test]
    fn a_broken_file_says_where() {
        let error = parse("a: 1\nb: [1, 2\nc: 3\n").unwrap_err();
        assert!(error.at.line >= 2, "{error:?}");
        assert!(!error.message.is_empty() && !error.message.contains('\n'), "{error:?}");
    }
}
