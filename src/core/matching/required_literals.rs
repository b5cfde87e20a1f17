//! Required literals: literals that every match of a regex contains, by index in the program.

/// A set of alternative literals, one of which is in every match: the compiled form of
/// [`RequiredLiterals`](crate::rules::signature::RequiredLiterals).
#[derive(Debug)]
pub(crate) struct RequiredLiteralIds {
    /// Indices of the alternatives in the scanner.
    pub literals: Vec<usize>,
    /// Minimum bytes from the previous required literal (from the start of the match for the first)
    /// to this one, between their starts.
    pub min_distance: usize,
    /// Maximum bytes of that distance, if it is bounded.
    pub max_distance: Option<usize>,
}
