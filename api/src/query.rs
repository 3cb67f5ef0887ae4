//! Query parameters of lists: every fault named at once, unknown names refused, and the document fed from one table.

use chrono::{DateTime, Utc};
use domain::error::Faults;
use poem::{Request, RequestBody};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};

use crate::problem::Problem;

/// A set of parameters. `NOTES` tell the document: `query|name|kind|description`, where kind is `string`, `date-time`,
/// `integer:MIN:MAX:DEFAULT`, `id:PREFIX`, `one:a,b` (a choice) or `some:a,b` (several, by comma).
pub trait QuerySet: Sized + Send {
    const NOTES: &'static [&'static str];

    fn read(params: &mut Params) -> Self;
}

/// What a list was asked for.
pub struct Asked<Q>(pub Q);

/// Name, kind, description.
pub fn parts(note: &'static str) -> Option<(&'static str, &'static str, &'static str)> {
    let mut parts = note.strip_prefix("query|")?.splitn(3, '|');
    Some((parts.next()?, parts.next()?, parts.next()?))
}

pub struct Params {
    pairs: Vec<(String, String)>,
    pub faults: Faults,
}

impl Params {
    pub fn of(query: &str) -> Self {
        let pairs = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        Self { pairs, faults: Faults::default() }
    }

    /// The value, when there is one; a name given twice is a fault.
    pub fn text(&mut self, name: &str) -> Option<String> {
        let mut values = self.pairs.iter().filter(|(known, _)| known == name).map(|(_, value)| value.clone());
        let value = values.next()?;
        if values.next().is_some() {
            self.faults.add(name, "is given twice");
        }
        if value.contains('\0') || value.len() > 1_000 {
            self.faults.add(name, "must have at most 1000 characters, none of them NUL");
            return None;
        }
        (!value.is_empty()).then_some(value)
    }

    pub fn number(&mut self, name: &str, min: u32, max: u32) -> Option<u32> {
        let text = self.text(name)?;
        let number = text.parse().ok().filter(|number| (min..=max).contains(number));
        if number.is_none() {
            self.faults.add(name, format!("must be a whole number from {min} to {max}"));
        }
        number
    }

    pub fn time(&mut self, name: &str) -> Option<DateTime<Utc>> {
        let text = self.text(name)?;
        // A day alone means its beginning, in UTC.
        let full = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text };
        let time = DateTime::parse_from_rfc3339(&full).ok().map(|time| time.to_utc());
        if time.is_none() {
            self.faults.add(name, "must be a time as in RFC 3339, such as 2026-01-31T12:00:00Z, or a day");
        }
        time
    }

    /// One or several of `choices`, by comma.
    pub fn some_of(&mut self, name: &str, choices: &[&str]) -> Vec<String> {
        let Some(text) = self.text(name) else { return Vec::new() };
        let chosen: Vec<String> = text.split(',').map(|part| part.trim().to_owned()).collect();
        if chosen.iter().any(|part| !choices.contains(&part.as_str())) {
            self.faults.add(name, format!("must be one or several of {}", choices.join(", ")));
        }
        chosen
    }
}

impl<'a, Q: QuerySet> ApiExtractor<'a> for Asked<Q> {
    /// Not security: the list of schemes is the one way from an extractor into the document (see `document`).
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn security_schemes() -> Vec<&'static str> {
        Q::NOTES.to_vec()
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        Ok(Self(read::<Q>(request.uri().query().unwrap_or_default())?))
    }
}

pub fn read<Q: QuerySet>(query: &str) -> Result<Q, Problem> {
    let mut params = Params::of(query);
    let asked = Q::read(&mut params);
    let known: Vec<&str> = Q::NOTES.iter().filter_map(|note| parts(note)).map(|(name, _, _)| name).collect();
    for (name, _) in &params.pairs {
        if !known.contains(&name.as_str()) {
            let name: String = name.chars().filter(|c| !c.is_control()).take(100).collect();
            params.faults.add(name, format!("is no parameter of this route; it takes {}", known.join(", ")));
        }
    }
    params.faults.into_result()?;
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sample {
        limit: Option<u32>,
        status: Vec<String>,
    }

    impl QuerySet for Sample {
        const NOTES: &'static [&'static str] =
            &["query|limit|integer:1:100:20|Rows.", "query|status|some:on,off|State.", "query|from|date-time|Since."];

        fn read(params: &mut Params) -> Self {
            params.time("from");
            Self { limit: params.number("limit", 1, 100), status: params.some_of("status", &["on", "off"]) }
        }
    }

    #[test]
    fn good_ones_are_read() {
        let sample = read::<Sample>("limit=5&status=on,off&from=2026-01-31").ok().unwrap();
        assert_eq!((sample.limit, sample.status.len()), (Some(5), 2));
    }

    #[test]
    fn every_fault_is_named() {
        let problem = read::<Sample>("limit=0&status=maybe&from=now&colour=red&limit=3").err().unwrap();
        let mut fields: Vec<_> = problem.details.iter().map(|d| d.field.as_str()).collect();
        fields.sort_unstable();
        fields.dedup();
        assert_eq!(fields, ["colour", "from", "limit", "status"]);
    }
}
