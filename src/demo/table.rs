//! Tables and short texts for the terminal.

use std::fmt;

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

/// Characters of a line; a narrower terminal wraps.
const WIDTH: u16 = 118;

/// A table under a headline.
pub struct Titled {
    title: String,
    table: Table,
}

impl Titled {
    pub fn new(title: impl Into<String>, columns: &[&str]) -> Self {
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN);
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
        table.set_header(columns.iter().copied());
        Self { title: title.into(), table }
    }

    pub fn row<I: IntoIterator<Item = String>>(&mut self, cells: I) {
        self.table.add_row(cells);
    }
}

impl fmt::Display for Titled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{}\n{}", self.title, self.table)
    }
}

/// A value as people read it: texts bare, absent ones as a dash, the rest as JSON.
pub fn plain(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// At most `most` characters, with a mark where something was left out.
pub fn excerpt(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// The time of day of a timestamp, with milliseconds.
pub fn clock(value: &Value) -> String {
    let text = value.as_str().unwrap_or_default();
    let time = text.split_once('T').map_or(text, |(_, time)| time);
    time.trim_end_matches('Z').chars().take("12:34:56.789".len()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_are_cut_by_characters() {
        assert_eq!(excerpt("Chloé", 5), "Chloé");
        assert_eq!(excerpt("Chloé Martin", 6), "Chloé…");
        assert_eq!(plain(&json!({"a": 1})), r#"{"a":1}"#);
        assert_eq!(plain(&json!(null)), "–");
        assert_eq!(clock(&json!("2026-01-31T12:00:01.123456Z")), "12:00:01.123");
    }

    #[test]
    fn a_table_holds_its_rows_under_its_title() {
        let mut table = Titled::new("The plan", &["step", "operation"]);
        table.row(["a".to_owned(), "GET /x".to_owned()]);
        let text = table.to_string();
        assert!(text.starts_with("\nThe plan\n") && text.contains("GET /x"), "{text}");
    }
}
