//! How much an evaluation may give: a limit for each value, and one for all values of a step together.

use std::{cell::Cell, io};

use minijinja::{Template, Value};

use super::ExpressionError;

/// Bytes of JSON a rendered value may have.
const MAX_VALUE: usize = 8 * 1024 * 1024;
/// Bytes that the rendered values of one step may have together.
const MAX_STEP: usize = 16 * 1024 * 1024;

/// What a step's values may still take while they are rendered one after the other.
pub struct Budget(Cell<usize>);

impl Default for Budget {
    fn default() -> Self {
        Self(Cell::new(MAX_STEP))
    }
}

impl Budget {
    /// Takes a value's bytes as JSON. They are counted before there is a copy of it: a list may hold one large text a
    /// thousand times.
    pub(super) fn take(&self, expression: &str, value: &Value) -> Result<(), ExpressionError> {
        let mut counted = self.limited(io::sink());
        let written = serde_json::to_writer(&mut counted, value);
        self.settle(expression, &counted)?;
        written.map_err(|e| ExpressionError::new(expression, format!("the result is no JSON value: {e}")))
    }

    /// Renders a text, and no more of it than fits.
    pub(super) fn render(
        &self,
        text: &str,
        template: &Template<'_, '_>,
        root: &Value,
    ) -> Result<String, ExpressionError> {
        let mut written = self.limited(Vec::new());
        let rendered = template.render_captured_to(root.clone(), &mut written);
        self.settle(text, &written)?;
        rendered.map_err(|e| ExpressionError::from_engine(text, &e))?;
        String::from_utf8(written.inner).map_err(|_| ExpressionError::new(text, "the result is no text"))
    }

    fn limited<W>(&self, inner: W) -> Limited<W> {
        Limited { inner, left: self.0.get().min(MAX_VALUE), taken: 0, over: false }
    }

    fn settle<W>(&self, expression: &str, written: &Limited<W>) -> Result<(), ExpressionError> {
        let left = self.0.get();
        if written.over {
            let what = match left >= MAX_VALUE {
                true => format!("the result has more than {MAX_VALUE} bytes"),
                false => format!("the values of this step have more than {MAX_STEP} bytes together"),
            };
            return Err(ExpressionError::new(expression, what));
        }
        self.0.set(left - written.taken);
        Ok(())
    }
}

/// A writer that refuses what is too much.
struct Limited<W> {
    inner: W,
    left: usize,
    taken: usize,
    over: bool,
}

impl<W: io::Write> io::Write for Limited<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(left) = self.left.checked_sub(bytes.len()) else {
            self.over = true;
            return Err(io::Error::other("too much"));
        };
        self.inner.write_all(bytes)?;
        self.left = left;
        self.taken += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::expression::{Budget, Scope, Values, render, render_within};

    #[test]
    fn the_values_of_a_step_have_one_limit_together() {
        let values = Values::new(&json!({ "five": "x".repeat(5 << 20), "nine": "x".repeat(9 << 20) }));
        let scope = Scope::for_tests(&values, &[]);
        let of = |count: usize| json!({ "list": vec!["{{ input.five }}"; count] });
        assert!(render(&of(3), &scope).is_ok());
        let error = render(&of(4), &scope).unwrap_err();
        assert_eq!(error.message, "the values of this step have more than 16777216 bytes together");
        let budget = Budget::default();
        assert!(render_within(&of(2), &scope, &budget).is_ok());
        assert!(render_within(&of(2), &scope, &budget).is_err(), "what is rendered later counts, too");
        for one in ["{{ input.nine }}", "{{ input.five }} {{ input.five }}", "{{ [input.five, input.five] }}"] {
            let error = render(&json!(one), &scope).unwrap_err();
            assert_eq!(error.message, "the result has more than 8388608 bytes", "{one}");
        }
    }
}
