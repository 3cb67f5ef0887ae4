//! Reads JSON objects field by field and gathers every fault with its path, instead of stopping at the first.

use serde_json::{Map, Value};

use crate::error::Faults;

/// One object being read. Call `finish` at the end: fields nobody asked for are faults.
pub struct Fields<'a> {
    map: &'a Map<String, Value>,
    pub path: String,
    asked: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// `None` (and a fault) when the value is no object.
    pub fn of(value: &'a Value, path: String, faults: &mut Faults) -> Option<Self> {
        match value.as_object() {
            Some(map) => Some(Self { map, path, asked: Vec::new() }),
            None => {
                faults.add(path, "must be an object");
                None
            }
        }
    }

    pub fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Absent and null are the same.
    pub fn value(&mut self, name: &'static str) -> Option<&'a Value> {
        self.asked.push(name);
        self.map.get(name).filter(|v| !v.is_null())
    }

    pub fn text(&mut self, name: &'static str, faults: &mut Faults) -> Option<&'a str> {
        let value = self.value(name)?;
        let text = value.as_str().filter(|t| !t.trim().is_empty());
        if text.is_none() {
            faults.add(self.at(name), "must be a text that is not empty");
        }
        text
    }

    pub fn required_text(&mut self, name: &'static str, faults: &mut Faults) -> Option<&'a str> {
        if self.value(name).is_none() {
            faults.add(self.at(name), "is required");
            return None;
        }
        self.text(name, faults)
    }

    pub fn object(&mut self, name: &'static str, faults: &mut Faults) -> Map<String, Value> {
        match self.value(name) {
            None => Map::new(),
            Some(Value::Object(map)) => map.clone(),
            Some(_) => {
                faults.add(self.at(name), "must be an object");
                Map::new()
            }
        }
    }

    pub fn list(&mut self, name: &'static str, faults: &mut Faults) -> Option<&'a Vec<Value>> {
        let value = self.value(name)?;
        let list = value.as_array();
        if list.is_none() {
            faults.add(self.at(name), "must be a list");
        }
        list
    }

    pub fn integer(&mut self, name: &'static str, min: u64, max: u64, faults: &mut Faults) -> Option<u64> {
        let value = self.value(name)?;
        let number = value.as_u64().filter(|n| (min..=max).contains(n));
        if number.is_none() {
            faults.add(self.at(name), format!("must be a whole number from {min} to {max}"));
        }
        number
    }

    pub fn number(&mut self, name: &'static str, min: f64, max: f64, faults: &mut Faults) -> Option<f64> {
        let value = self.value(name)?;
        let number = value.as_f64().filter(|n| (min..=max).contains(n));
        if number.is_none() {
            faults.add(self.at(name), format!("must be a number from {min} to {max}"));
        }
        number
    }

    /// Milliseconds from `500ms`, `30s`, `5m`, `1h`, or a bare number of seconds.
    pub fn duration(&mut self, name: &'static str, max_ms: u64, faults: &mut Faults) -> Option<u64> {
        let value = self.value(name)?;
        let ms = match value {
            Value::String(text) => parse_duration(text),
            Value::Number(n) => n.as_f64().filter(|s| *s > 0.0 && s.is_finite()).map(|s| (s * 1000.0) as u64),
            _ => None,
        };
        let ms = ms.filter(|ms| (1..=max_ms).contains(ms));
        if ms.is_none() {
            faults.add(self.at(name), format!("must be a duration such as \"30s\", at most {} s", max_ms / 1000));
        }
        ms
    }

    pub fn choice(
        &mut self,
        name: &'static str,
        choices: &[&'static str],
        faults: &mut Faults,
    ) -> Option<&'static str> {
        let value = self.value(name)?;
        let choice = value.as_str().and_then(|v| choices.iter().find(|c| **c == v).copied());
        if choice.is_none() {
            faults.add(self.at(name), format!("must be one of {}", choices.join(", ")));
        }
        choice
    }

    pub fn finish(self, faults: &mut Faults) {
        for name in self.map.keys().filter(|k| !self.asked.contains(&k.as_str())) {
            faults.add(self.at(name), "is not a known field here");
        }
    }
}

/// `500ms`, `30s`, `5m`, `2h`, `7d` in milliseconds.
pub fn parse_duration(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at(split);
    let factor = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(parse_duration("500ms"), Some(500));
        assert_eq!(parse_duration("2h"), Some(7_200_000));
        for bad in ["", "5", "s", "5 parsecs", "99999999999999999999s", "-1s"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }
}
