//! A provider's answer, read without trust: tool calls, or one JSON object with steps.

use serde_json::{Map, Value};

use crate::planner::text::plain;

/// Steps of one answer, nested ones included, and how deep they may nest.
pub const MAX_STEPS: usize = 50;
pub const MAX_DEPTH: usize = 4;
/// The longest content or argument text that is parsed, in bytes.
const MAX_BYTES: usize = 128 * 1024;

/// A step as the model gave it; nothing in it is checked yet.
#[derive(Debug, Clone, PartialEq)]
pub enum RawStep {
    Call { id: String, tool: String, arguments: Map<String, Value> },
    Condition { id: String, expression: String, then: Vec<RawStep>, otherwise: Vec<RawStep> },
    Loop { id: String, items: String, steps: Vec<RawStep> },
    Transform { id: String, output: Map<String, Value> },
}

#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub name: Option<String>,
    pub steps: Vec<RawStep>,
}

impl Answer {
    /// # Errors
    /// One sentence for the model: what is wrong with the answer as a whole.
    pub fn read(reply: &Value) -> Result<Self, String> {
        let message = reply.pointer("/choices/0/message").ok_or("the answer has no message")?;
        let calls = message.get("tool_calls").and_then(Value::as_array).filter(|c| !c.is_empty());
        if let Some(calls) = calls {
            if calls.len() > MAX_STEPS {
                return Err(format!("the answer has {} calls, more than {MAX_STEPS}", calls.len()));
            }
            let steps = calls.iter().enumerate().map(|(i, c)| tool_call(i, c)).collect::<Result<_, _>>()?;
            return Ok(Self { name: None, steps });
        }
        let content = message.get("content").and_then(Value::as_str).unwrap_or_default();
        let object = json_object(content).ok_or("the answer has neither tool calls nor a JSON object with steps")?;
        let steps = object.get("steps").and_then(Value::as_array).ok_or("the JSON object has no list \"steps\"")?;
        let mut count = 0;
        let steps = steps_of(steps, 0, &mut count)?;
        if steps.is_empty() {
            return Err("the plan has no steps".to_owned());
        }
        Ok(Self { name: object.get("name").and_then(Value::as_str).map(|n| plain(n, 60)), steps })
    }
}

/// What the model said, short, for the next round.
pub fn digest(reply: &Value) -> String {
    let message = reply.pointer("/choices/0/message").unwrap_or(&Value::Null);
    let calls = message.get("tool_calls").filter(|c| c.as_array().is_some_and(|a| !a.is_empty()));
    let text = match calls {
        Some(calls) => calls.to_string(),
        None => message.get("content").and_then(Value::as_str).unwrap_or_default().to_owned(),
    };
    let text = plain(&text, 4_000);
    if text.is_empty() { "(nothing)".to_owned() } else { text }
}

fn tool_call(at: usize, call: &Value) -> Result<RawStep, String> {
    let function = call.get("function").ok_or_else(|| format!("call {} names no function", at + 1))?;
    let tool = function.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let arguments = match function.get("arguments") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(map)) => map.clone(),
        Some(Value::String(text)) if text.trim().is_empty() => Map::new(),
        Some(Value::String(text)) if text.len() <= MAX_BYTES => match serde_json::from_str(text) {
            Ok(Value::Object(map)) => map,
            _ => return Err(format!("the arguments of call {} ({}) are no JSON object", at + 1, plain(&tool, 64))),
        },
        Some(_) => return Err(format!("the arguments of call {} are no JSON object or too long", at + 1)),
    };
    Ok(RawStep::Call { id: format!("s{}", at + 1), tool, arguments })
}

/// The object in a text, also between Markdown fences or with words around it.
fn json_object(content: &str) -> Option<Map<String, Value>> {
    let (start, end) = (content.find('{')?, content.rfind('}')?);
    let text = content.get(start..=end).filter(|t| t.len() <= MAX_BYTES)?;
    match serde_json::from_str(text) {
        Ok(Value::Object(map)) => Some(map),
        _ => None,
    }
}

fn steps_of(list: &[Value], depth: usize, count: &mut usize) -> Result<Vec<RawStep>, String> {
    if depth > MAX_DEPTH {
        return Err(format!("steps nest deeper than {MAX_DEPTH}"));
    }
    *count += list.len();
    if *count > MAX_STEPS {
        return Err(format!("the plan has more than {MAX_STEPS} steps"));
    }
    list.iter().map(|step| step_of(step, depth, count)).collect()
}

fn step_of(step: &Value, depth: usize, count: &mut usize) -> Result<RawStep, String> {
    let id = step.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
    let text = |name: &str| step.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let object = |names: [&str; 2]| names.iter().find_map(|n| step.get(*n)?.as_object().cloned()).unwrap_or_default();
    let inner = |name: &str, count: &mut usize| {
        steps_of(step.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice), depth + 1, count)
    };
    match step.get("type").and_then(Value::as_str).unwrap_or("api_call") {
        "api_call" => {
            let tool = if step.get("tool").is_some() { text("tool") } else { endpoint_name(step) };
            Ok(RawStep::Call { id, tool, arguments: object(["arguments", "parameters"]) })
        }
        "condition" => Ok(RawStep::Condition {
            id,
            expression: text("expression"),
            then: inner("then", count)?,
            otherwise: inner("else", count)?,
        }),
        "loop" => Ok(RawStep::Loop { id, items: text("items"), steps: inner("steps", count)? }),
        "transform" => Ok(RawStep::Transform { id, output: object(["output", "output"]) }),
        other => Err(format!("steps of type \"{}\" can't be planned", plain(other, 40))),
    }
}

/// A step in our own schema names its operation by id, or by method and path.
fn endpoint_name(step: &Value) -> String {
    let text = |name: &str| step.get(name).and_then(Value::as_str);
    match (text("method"), text("endpoint")) {
        (Some(method), Some(endpoint)) => format!("{} {endpoint}", method.to_uppercase()),
        _ => text("operationId").unwrap_or_default().to_owned(),
    }
}
