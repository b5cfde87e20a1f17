//! Literals that every match of a regex contains, by their index in the program.

/// A set of alternative literals, one of which is in every match: `RequiredLiterals` of the rule, compiled.
#[derive(Debug)]
pub(crate) struct RequiredLiteralIds {
    /// Its literals' places in the scanner's list.
    pub literals: Vec<usize>,
    pub min_distance: usize,
    pub max_distance: Option<usize>,
}
