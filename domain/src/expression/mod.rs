//! `{{ … }}`: one bounded language for values, conditions and transforms.
//!
//! minijinja without files, network or clock, with fuel and size limits. A text that is one expression alone keeps
//! its type; in a longer text values are printed. Undefined names are errors that name the expression.

mod budget;
mod scope;

use std::{collections::BTreeSet, sync::OnceLock};

pub use budget::Budget;
use minijinja::{Environment, ErrorKind, UndefinedBehavior, value::ValueKind};
pub use scope::{Scope, Values, engine_value};
use serde_json::{Map, Value};

/// Instructions an evaluation may take.
const FUEL: u64 = 200_000;
/// Functions that are always there.
pub const FUNCTIONS: [&str; 3] = ["range", "dict", "namespace"];

/// An expression that cannot be read or evaluated. `message` never holds the values it was evaluated with.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("in {expression:?}: {message}")]
pub struct ExpressionError {
    pub expression: String,
    pub message: String,
}

impl ExpressionError {
    fn new(expression: &str, message: impl Into<String>) -> Self {
        let short: String = expression.chars().take(200).collect();
        Self { expression: short, message: message.into() }
    }

    fn from_engine(expression: &str, error: &minijinja::Error) -> Self {
        let detail = error.detail().map_or_else(String::new, |d| format!(": {d}"));
        Self::new(expression, format!("{}{detail}", error.kind()))
    }
}

fn environment() -> &'static Environment<'static> {
    static ENVIRONMENT: OnceLock<Environment<'static>> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| {
        let mut env = Environment::new();
        env.set_undefined_behavior(UndefinedBehavior::Strict);
        env.set_fuel(Some(FUEL));
        env.set_recursion_limit(50);
        env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        // As JSON prints them; the engine's own way is Python's ("None", "True", "{'a': 1}").
        env.set_formatter(|out, state, value| match value.kind() {
            ValueKind::None | ValueKind::Bool | ValueKind::Map | ValueKind::Seq | ValueKind::Iterable => {
                let text = serde_json::to_string(value)
                    .map_err(|e| minijinja::Error::new(ErrorKind::BadSerialization, e.to_string()))?;
                out.write_str(&text).map_err(Into::into)
            }
            _ => minijinja::escape_formatter(out, state, value),
        });
        env
    })
}

/// The inside of a text that is one `{{ expression }}` and nothing else.
pub fn sole_expression(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    (!inner.contains("{{") && !inner.contains("}}")).then(|| inner.trim())
}

/// Does the text hold anything to evaluate?
pub fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%")
}

/// An expression given bare (`steps.a.status == 200`) or in braces.
pub fn evaluate(expression: &str, scope: &Scope) -> Result<Value, ExpressionError> {
    evaluate_within(expression, scope, &Budget::default())
}

fn evaluate_within(expression: &str, scope: &Scope, budget: &Budget) -> Result<Value, ExpressionError> {
    let bare = sole_expression(expression).unwrap_or(expression);
    let compiled = environment().compile_expression(bare).map_err(|e| ExpressionError::from_engine(bare, &e))?;
    let value = compiled.eval(scope.root()).map_err(|e| ExpressionError::from_engine(bare, &e))?;
    if value.is_undefined() {
        return Err(ExpressionError::new(bare, "the value is not defined"));
    }
    budget.take(bare, &value)?;
    serde_json::to_value(&value).map_err(|e| ExpressionError::new(bare, format!("the result is no JSON value: {e}")))
}

/// Is the result of a condition true? Numbers, texts and lists count by being non-zero or non-empty.
pub fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64().is_some_and(|f| f != 0.0),
        Value::String(s) => !s.is_empty(),
        Value::Array(a) => !a.is_empty(),
        Value::Object(o) => !o.is_empty(),
    }
}

/// Renders every text of a JSON value, which is all that a step has; keys stay as they are.
pub fn render(value: &Value, scope: &Scope) -> Result<Value, ExpressionError> {
    render_within(value, scope, &Budget::default())
}

/// As `render`, for one of several values of a step.
pub fn render_within(value: &Value, scope: &Scope, budget: &Budget) -> Result<Value, ExpressionError> {
    match value {
        Value::String(text) if !is_template(text) => Ok(value.clone()),
        Value::String(text) if sole_expression(text).is_some() => evaluate_within(text, scope, budget),
        Value::String(text) => {
            let template = environment().template_from_str(text).map_err(|e| ExpressionError::from_engine(text, &e))?;
            budget.render(text, &template, scope.root()).map(Value::String)
        }
        Value::Array(items) => {
            items.iter().map(|v| render_within(v, scope, budget)).collect::<Result<_, _>>().map(Value::Array)
        }
        Value::Object(map) => render_map(map, scope, budget).map(Value::Object),
        scalar => Ok(scalar.clone()),
    }
}

/// Renders the values of a map.
pub fn render_map(
    map: &Map<String, Value>,
    scope: &Scope,
    budget: &Budget,
) -> Result<Map<String, Value>, ExpressionError> {
    map.iter().map(|(k, v)| Ok((k.clone(), render_within(v, scope, budget)?))).collect()
}

/// The names a text uses (`steps.fetch.output.email`, `input.id`): checks its syntax on the way.
pub fn references(text: &str) -> Result<BTreeSet<String>, ExpressionError> {
    let names = match sole_expression(text) {
        Some(bare) => environment().compile_expression(bare).map(|e| e.undeclared_variables(true)),
        None => environment().template_from_str(text).map(|t| t.undeclared_variables(true)),
    };
    names.map(|n| n.into_iter().collect()).map_err(|e| ExpressionError::from_engine(text, &e))
}

/// As `references`, for a field that is an expression even without braces.
pub fn expression_references(text: &str) -> Result<BTreeSet<String>, ExpressionError> {
    let bare = sole_expression(text).unwrap_or(text);
    references(&format!("{{{{ {bare} }}}}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn scope() -> Scope {
        let mut values = Values::new(&json!({"name": "Ada", "n": 3, "none": null, "list": [1, 2]}));
        values.set("fetch", &json!({"output": {"email": "ada@x.test", "tags": ["a", "b"]}, "status": 200}));
        Scope::for_tests(&values, &["fetch"])
    }

    #[test]
    fn a_sole_expression_keeps_its_type() {
        assert_eq!(render(&json!("{{ input.n }}"), &scope()).unwrap(), json!(3));
        assert_eq!(render(&json!("{{ steps.fetch.output.tags }}"), &scope()).unwrap(), json!(["a", "b"]));
        assert_eq!(render(&json!("{{ input.none }}"), &scope()).unwrap(), json!(null));
        assert_eq!(render(&json!("{{ input.n * 2 }}"), &scope()).unwrap(), json!(6));
        for function in FUNCTIONS {
            assert!(environment().globals().any(|(name, _)| name == function), "{function}");
        }
    }

    #[test]
    fn texts_are_printed_and_nested_values_rendered() {
        let rendered = render(&json!({"a": ["Hi {{ input.name }}, {{ input.none }}"], "b": 1}), &scope()).unwrap();
        assert_eq!(rendered, json!({"a": ["Hi Ada, null"], "b": 1}));
    }

    #[test]
    fn unknown_names_fail_with_their_expression() {
        for text in ["{{ nope }}", "{{ steps.nope.output }}", "{{ input.missing }}", "Hi {{ input.missing.deeper }}"] {
            let error = render(&json!(text), &scope()).unwrap_err();
            assert!(text.contains(&error.expression), "{error}");
        }
    }

    #[test]
    fn runaway_expressions_end() {
        assert!(
            render(&json!("{% for i in range(90000) %}{% for j in range(90000) %}x{% endfor %}{% endfor %}"), &scope())
                .is_err()
        );
    }

    #[test]
    fn references_are_found_and_syntax_is_checked() {
        let names = references("Hi {{ steps.fetch.output.email }} of {{ input.name | upper }}").unwrap();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["input.name", "steps.fetch.output.email"]);
        assert!(references("{{ input. }}").is_err());
        assert_eq!(expression_references("steps.a.status == 200").unwrap().len(), 1);
    }

    #[test]
    fn conditions_are_plain_truth() {
        assert!(truth(&evaluate("steps.fetch.status == 200 and input.n > 2", &scope()).unwrap()));
        assert!(!truth(&json!("")));
    }
}
