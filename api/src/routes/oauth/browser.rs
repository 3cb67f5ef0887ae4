//! What a browser brings and keeps: the query that a provider writes, a cookie for each authorization, pages or JSON.

use std::marker::PhantomData;

use commands::App;
use domain::ids::OauthFlowId;
use poem::{
    IntoResponse, Request, RequestBody, Response,
    http::{HeaderValue, StatusCode, header},
};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ApiResponse, ExtractParamOptions,
    registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry},
};
use secrecy::{ExposeSecret, SecretString};

use super::{page::Page, view::ConnectedJson};
use crate::{answer::Answer, problem::Problem, request::Arrival};

/// Seconds, as long as an authorization may take.
const LIFE: i64 = 600;
/// Only our own routes see it.
const PATH: &str = "/api/v1/oauth";

fn name(flow: OauthFlowId) -> String {
    format!("apiq_oauth_{}", flow.0.simple())
}

fn cookie(app: &App, flow: OauthFlowId, value: &str, seconds: i64) -> String {
    let secure = app.settings().public_url.as_ref().is_some_and(|url| url.starts_with("https://"));
    let secure = if secure { "; Secure" } else { "" };
    // Lax: a provider sends people back by a link from another site.
    format!("{}={value}; Path={PATH}; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}", name(flow))
}

/// `Set-Cookie` that binds this browser.
pub fn kept(app: &App, flow: OauthFlowId, browser: &SecretString) -> String {
    cookie(app, flow, browser.expose_secret(), LIFE)
}

/// `Set-Cookie` that ends it.
pub fn forgotten(app: &App, flow: OauthFlowId) -> String {
    cookie(app, flow, "", 0)
}

/// Parameters of the query, for the document.
pub trait Written: Send + Sync + 'static {
    const NOTES: &'static [&'static str];
}

pub struct LinkQuery;

impl Written for LinkQuery {
    const NOTES: &'static [&'static str] = &["query|link|string|The secret of `connectUrl`."];
}

pub struct AnswerQuery;

impl Written for AnswerQuery {
    const NOTES: &'static [&'static str] = &[
        "query|state|string|As it was sent to the provider.",
        "query|code|string|To be exchanged for tokens.",
        "query|error|string|Why there is no code.",
        "query|iss|string|Which provider answers (RFC 9207).",
    ];
}

/// What came by a link: others write it, so that unknown parameters are no fault.
pub struct Came<Q> {
    pairs: Vec<(String, String)>,
    cookies: String,
    wants_page: bool,
    /// As it was called.
    pub path: String,
    request_id: String,
    marker: PhantomData<Q>,
}

impl<Q> Came<Q> {
    /// The only value of this name. One that is there twice is none: nobody knows which of them is meant.
    pub fn text(&self, name: &str) -> Option<String> {
        let mut values = self.pairs.iter().filter(|(known, _)| known == name).map(|(_, value)| value);
        let value = values.next().filter(|value| !value.is_empty() && value.len() <= 4_096 && !value.contains('\0'))?;
        values.next().is_none().then(|| value.clone())
    }

    /// The cookie of this authorization.
    pub fn cookie(&self, flow: OauthFlowId) -> Option<String> {
        let name = name(flow);
        let mut pairs = self.cookies.split(';').filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
    }

    /// A page for a browser, also of what went wrong; the usual forms for others.
    pub fn shown<T>(self, result: Result<T, Problem>) -> Result<Shown<T>, Problem> {
        match result {
            Ok(answer) => Ok(Shown { answer: Ok(answer), as_page: self.wants_page }),
            Err(problem) if self.wants_page && problem.status().is_client_error() => {
                let mut page = Page::new(problem.status().as_u16(), "Not connected");
                page.say(&problem.message);
                page.line("Request", &self.request_id);
                Ok(Shown { answer: Err(page), as_page: true })
            }
            Err(problem) => Err(problem),
        }
    }
}

impl<'a, Q: Written> ApiExtractor<'a> for Came<Q> {
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
        let query = request.uri().query().unwrap_or_default();
        let cookies = request.headers().get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let arrival = Arrival::of(request)?;
        Ok(Self {
            pairs: url::form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
            cookies: cookies.collect::<Vec<_>>().join("; "),
            wants_page: request.header(header::ACCEPT).is_some_and(|accepted| accepted.contains("text/html")),
            path: arrival.path.clone(),
            request_id: arrival.label.clone(),
            marker: PhantomData,
        })
    }
}

/// An answer, or a page in its place.
pub struct Shown<T> {
    answer: Result<T, Page>,
    as_page: bool,
}

/// An answer that leaves a cookie.
pub struct Cookie<T> {
    pub answer: T,
    /// `Set-Cookie`; empty: none.
    pub cookie: String,
}

/// A redirect that leaves a cookie.
pub struct To {
    pub url: String,
    pub cookie: String,
}

fn with_cookie(mut response: Response, cookie: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(cookie)
        && !cookie.is_empty()
    {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
    response
}

impl<T: IntoResponse> IntoResponse for Cookie<T> {
    fn into_response(self) -> Response {
        with_cookie(self.answer.into_response(), &self.cookie)
    }
}

impl IntoResponse for To {
    fn into_response(self) -> Response {
        let response = Response::builder().status(StatusCode::FOUND).header(header::LOCATION, &self.url).finish();
        with_cookie(response, &self.cookie)
    }
}

impl IntoResponse for Shown<To> {
    fn into_response(self) -> Response {
        match self.answer {
            Ok(to) => to.into_response(),
            Err(page) => page.into_response(),
        }
    }
}

impl IntoResponse for Shown<Cookie<Answer<ConnectedJson>>> {
    fn into_response(self) -> Response {
        match self.answer {
            Ok(Cookie { answer, cookie }) if self.as_page => with_cookie(answer.data().page().into_response(), &cookie),
            Ok(answer) => answer.into_response(),
            Err(page) => page.into_response(),
        }
    }
}

impl<T: ApiResponse> ApiResponse for Cookie<T> {
    fn meta() -> MetaResponses {
        T::meta()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl ApiResponse for To {
    fn meta() -> MetaResponses {
        let response = MetaResponse {
            description: "To the provider.",
            status: Some(302),
            status_range: None,
            content: vec![],
            headers: vec![],
        };
        MetaResponses { responses: vec![response] }
    }

    fn register(_: &mut Registry) {}
}

impl<T: ApiResponse> ApiResponse for Shown<T> {
    fn meta() -> MetaResponses {
        let mut meta = T::meta();
        for response in meta.responses.iter_mut().filter(|response| !response.content.is_empty()) {
            let schema = MetaSchemaRef::Inline(Box::new(MetaSchema::new("string")));
            response.content.push(MetaMediaType { content_type: "text/html", schema });
        }
        meta
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}
