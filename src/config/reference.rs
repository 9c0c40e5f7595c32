//! The reference page of all options, from the same description that checks the files.

use std::fmt::Write as _;

use super::keys;
use super::shape::{Key, Leaf, MapShape, Need, Shape, Takes};

const HEAD: &str = "# All options\n\n\
    Made by `stepgate schema --markdown > docs/OPTIONS.md` from the description that checks the files; a test holds it to \
    that. What the parts mean together, with examples, is in [POLICY.md](POLICY.md). Keys in **bold** must be there. \
    What stands under `apps[]` is also what a file of `include` holds, one app each. \
    Durations carry `ms`, `s`, `m`, `h` or `d`, sizes `B`, `KiB`, `MiB` or `GiB`.\n";

/// Every key of the language as Markdown: a section for each kind of map, in the order in which the files lead to it.
#[must_use]
pub fn markdown() -> String {
    let mut sections: Vec<Section> = Vec::new();
    if let Shape::Map(map) = &keys::MAIN {
        visit("The main file".to_owned(), map, &mut sections);
    }
    let mut page = HEAD.to_owned();
    for section in &sections {
        let _ = writeln!(page, "\n## {}\n", section.title);
        page.push_str("| key | takes | meaning |\n| --- | --- | --- |\n");
        for key in keys_of(section.map) {
            let name =
                if key.need == Need::Required { format!("**`{}`**", key.name) } else { format!("`{}`", key.name) };
            let _ = writeln!(page, "| {name} | {} | {} |", cell(&takes(&key.shape, &sections)), cell(key.doc));
        }
    }
    page
}

struct Section {
    title: String,
    map: &'static MapShape,
}

/// `map` and what its keys lead to; a map that several keys hold stands once, where it is met first.
fn visit(title: String, map: &'static MapShape, sections: &mut Vec<Section>) {
    if sections.iter().any(|known| std::ptr::eq(known.map, map)) {
        return;
    }
    let path = if sections.is_empty() { String::new() } else { title.trim_matches('`').to_owned() };
    sections.push(Section { title, map });
    for key in keys_of(map) {
        let own = match path.as_str() {
            "" | "apps[]" => key.name.to_owned(),
            path => format!("{path}.{}", key.name),
        };
        let mut found = Vec::new();
        maps(&key.shape, own, &mut found);
        for (path, map) in found {
            visit(format!("`{path}`"), map, sections);
        }
    }
}

fn keys_of(map: &'static MapShape) -> impl Iterator<Item = &'static Key> {
    map.keys.iter().filter(|key| key.need != Need::Later)
}

/// The maps that a value may be, each with the path that leads to it.
fn maps(shape: &'static Shape, path: String, found: &mut Vec<(String, &'static MapShape)>) {
    match shape {
        Shape::Map(map) => found.push((path, map)),
        Shape::List(item) => maps(item, format!("{path}[]"), found),
        Shape::OneOrMany(item) => maps(item, path, found),
        Shape::Names(_, value) => maps(value, format!("{path}.NAME"), found),
        Shape::Either(shapes) => shapes.iter().for_each(|shape| maps(shape, path.clone(), found)),
        // `{ file: }` or `{ env: }`, which every secret is: said in its own words.
        Shape::Secret(_) | Shape::Leaf(_) => {}
    }
}

fn takes(shape: &Shape, sections: &[Section]) -> String {
    match shape {
        Shape::Leaf(leaf) => leaf_takes(leaf),
        Shape::Map(map) => match sections.iter().find(|section| std::ptr::eq(section.map, *map)) {
            Some(section) => format!("a map: {}", link(&section.title)),
            None => "a map".to_owned(),
        },
        Shape::List(item) => format!("a list of: {}", takes(item, sections)),
        Shape::OneOrMany(item) => format!("{}, or a list of them", takes(item, sections)),
        Shape::Names(name, value) => format!("{} → {}", name.what, takes(value, sections)),
        Shape::Secret(_) => "a secret by reference: `{ file: PATH }` or `{ env: NAME }`".to_owned(),
        Shape::Either(shapes) => shapes.iter().map(|s| takes(s, sections)).collect::<Vec<_>>().join("; or "),
    }
}

fn leaf_takes(leaf: &Leaf) -> String {
    match &leaf.takes {
        Takes::OneOf(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        Takes::Bool | Takes::Int { .. } | Takes::Text(_) => leaf.what.to_owned(),
    }
}

/// A link to a heading, by the anchor that renderers make of it: small letters, blanks as hyphens, nothing else but
/// letters, digits, hyphens and underscores.
fn link(title: &str) -> String {
    let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect();
    format!("[{title}](#{anchor})")
}

/// Text for a cell of a table: `|` would end it, and `<` begin a tag.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}
