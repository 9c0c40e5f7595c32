//! What a rule's `match` selects.

/// All conditions of one `match`; every one that is given must hold.
#[derive(Clone, Debug, Default)]
pub struct Matcher {}

/// Finds the rules that may match a path without walking all of them.
#[derive(Clone, Debug, Default)]
pub struct RuleIndex {}
