//! Finds the rules that may match a path without walking all of them.

use std::collections::HashMap;

use super::pattern::{Segment, Walk};
use super::rule::Rule;
use crate::domain::path::Reading;

/// How many literal segments are told apart. Each level is one look-up; past the fourth, rules of
/// one list are simply tried in order.
const DEPTH: usize = 4;

/// A tree over the literal segments at the start of the patterns, once as written and once with
/// letter case folded. Judging costs a look-up per segment however many rules there are; rules that
/// start with a wildcard stand at the root and are tried for every path.
#[derive(Clone, Debug, Default)]
pub struct RuleIndex {
    exact: Tree,
    folded: Tree,
}

#[derive(Clone, Debug, Default)]
struct Tree {
    nodes: Vec<Node>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    next: HashMap<Box<str>, usize, foldhash::fast::RandomState>,
    /// Positions of rules whose literal start ends here, ascending.
    rules: Vec<u32>,
}

impl RuleIndex {
    #[must_use]
    pub fn new(rules: &[Rule]) -> Self {
        Self { exact: Tree::new(rules, false), folded: Tree::new(rules, true) }
    }

    /// The positions of all rules that may match `reading`, ascending.
    pub(super) fn candidates<'a>(&'a self, reading: &Reading<'_>) -> Candidates<'a> {
        let tree = if reading.folded { &self.folded } else { &self.exact };
        let mut found = Candidates { lists: [&[]; DEPTH + 1], count: 0 };
        let mut walk = Walk::of(reading);
        let mut node = tree.nodes.first();
        while let Some(here) = node {
            found.add(&here.rules);
            node = match walk.next() {
                Some(segment) if !here.next.is_empty() => here.next.get(segment).and_then(|at| tree.nodes.get(*at)),
                _ => None,
            };
        }
        found
    }
}

impl Tree {
    fn new(rules: &[Rule], folded: bool) -> Self {
        let mut tree = Self { nodes: vec![Node::default()] };
        for (position, rule) in rules.iter().enumerate() {
            let position = u32::try_from(position).unwrap_or(u32::MAX);
            if rule.matcher.paths.is_empty() {
                tree.put(&[], position);
            }
            for pattern in &rule.matcher.paths {
                tree.put(pattern.segments(folded).unwrap_or_default(), position);
            }
        }
        tree
    }

    fn put(&mut self, segments: &[Segment], position: u32) {
        let mut at = 0;
        for segment in segments.iter().take(DEPTH) {
            let Segment::Literal(text) = segment else { break };
            let fresh = self.nodes.len();
            let Some(node) = self.nodes.get_mut(at) else { return };
            at = *node.next.entry(text.clone()).or_insert(fresh);
            if at == fresh {
                self.nodes.push(Node::default());
            }
        }
        if let Some(node) = self.nodes.get_mut(at)
            && node.rules.last() != Some(&position)
        {
            node.rules.push(position);
        }
    }
}

/// Merges the lists along one path, so that rules come in the order of the file.
pub(super) struct Candidates<'a> {
    lists: [&'a [u32]; DEPTH + 1],
    /// So many of them hold something.
    count: usize,
}

impl<'a> Candidates<'a> {
    /// No deeper than the tree: there is a place for each list.
    fn add(&mut self, list: &'a [u32]) {
        if !list.is_empty()
            && let Some(place) = self.lists.get_mut(self.count)
        {
            *place = list;
            self.count += 1;
        }
    }
}

impl Iterator for Candidates<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let lists = self.lists.get_mut(..self.count)?;
        // The common path meets the rules of one node, and there is nothing to merge.
        if let [only] = lists {
            let (first, rest) = only.split_first()?;
            *only = rest;
            return usize::try_from(*first).ok();
        }
        let least = lists.iter().filter_map(|l| l.first()).min().copied()?;
        for list in lists {
            if let Some((first, rest)) = list.split_first()
                && *first == least
            {
                *list = rest;
            }
        }
        usize::try_from(least).ok()
    }
}
