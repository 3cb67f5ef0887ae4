//! What one API document may cost: caps beside its size.

/// The caps that have a setting; the reader's own defaults apply where none is given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpecLimits {
    /// Levels of nesting.
    pub depth: Option<usize>,
    /// Keys and values.
    pub nodes: Option<usize>,
    /// `$ref`s.
    pub refs: Option<usize>,
    /// Bytes that references and YAML aliases may unfold to.
    pub expansion: Option<usize>,
    /// Entries of an archive.
    pub files: Option<usize>,
    /// Other documents fetched for one.
    pub fetches: Option<usize>,
    /// Seconds of work.
    pub seconds: Option<usize>,
}

/// A whole number within `from..=to`.
pub(super) fn within(from: usize, to: usize) -> impl Fn(&str) -> Result<usize, String> {
    move |text| match text.parse() {
        Ok(number) if (from..=to).contains(&number) => Ok(number),
        _ => Err(format!("\"{text}\" is no number from {from} to {to}")),
    }
}
