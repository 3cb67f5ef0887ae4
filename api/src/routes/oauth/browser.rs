//! What a browser brings and keeps: the query that a provider writes, a cookie for each authorization, pages or JSON.

use std::marker::PhantomData;

use commands::{App, oauth::flow_of_link};
use domain::{error::Code, ids::OauthFlowId};
use poem::{
    IntoResponse, Request, RequestBody, Response,
    http::{HeaderValue, StatusCode, header},
};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ApiResponse, ExtractParamOptions,
    registry::{MetaMediaType, MetaRequest, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry},
};
use secrecy::{ExposeSecret, SecretString};

use super::{page::Page, view::ConnectedJson};
use crate::{answer::Answer, body, problem::Problem, request::Arrival, state::ApiState};

/// Seconds, as long as an authorization may take.
const LIFE: i64 = 600;
const FORM: &str = "application/x-www-form-urlencoded";
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

fn connect_name(flow: OauthFlowId) -> String {
    format!("apiq_connect_{}", flow.0.simple())
}

/// `Set-Cookie` that a form's token must repeat. Strict: another site's form does not bring it.
pub fn connect_cookie(app: &App, flow: OauthFlowId, token: &str) -> String {
    let seconds = if token.is_empty() { 0 } else { LIFE };
    let secure = app.settings().public_url.as_ref().is_some_and(|url| url.starts_with("https://"));
    let secure = if secure { "; Secure" } else { "" };
    let name = connect_name(flow);
    format!("{name}={token}; Path={PATH}/connect; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}

/// Parameters of the query, for the document.
pub trait Written: Send + Sync + 'static {
    const NOTES: &'static [&'static str];
}

pub struct LinkQuery;

impl Written for LinkQuery {
    const NOTES: &'static [&'static str] = &["query|link|string|The secret of `connectUrl`."];
}

/// What the form of a connect link sends.
pub struct ConnectForm;

impl Written for ConnectForm {
    const NOTES: &'static [&'static str] = &[];
}

impl ConnectForm {
    const FIELDS: [&'static str; 2] = ["link", "token"];

    fn schema() -> MetaSchemaRef {
        let text = || MetaSchemaRef::Inline(Box::new(MetaSchema::new("string")));
        let mut schema = MetaSchema::new("object");
        schema.properties = Self::FIELDS.into_iter().map(|name| (name, text())).collect();
        schema.required = Self::FIELDS.to_vec();
        MetaSchemaRef::Inline(Box::new(schema))
    }
}

/// A form that the page of a connect link has sent.
pub struct Posted(pub Came<ConnectForm>);

impl Posted {
    /// The link, if the form came from a page that this browser was given for it.
    pub fn link(&self) -> Option<SecretString> {
        let Self(came) = self;
        let (link, token) = (came.text("link")?, came.text("token")?);
        let link = SecretString::from(link);
        let kept = came.named(&connect_name(flow_of_link(&link)?))?;
        (came.from_here && kept == token).then_some(link)
    }
}

impl<'a> ApiExtractor<'a> for Posted {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn request_meta() -> Option<MetaRequest> {
        let content = vec![MetaMediaType { content_type: FORM, schema: ConnectForm::schema() }];
        Some(MetaRequest { description: None, content, required: true })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let bytes = body::read(&ApiState::of(request)?, request, body.take()?).await?;
        if !request.content_type().is_some_and(|kind| kind.starts_with(FORM)) {
            let message = "Send the body as a form, with Content-Type: application/x-www-form-urlencoded.";
            return Err(Problem::new(Code::UnsupportedMediaType, message).into());
        }
        Ok(Self(Came::of(request, &bytes)?))
    }
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
    /// As far as the browser says: not from a page of another origin.
    from_here: bool,
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

    fn of(request: &Request, pairs: &[u8]) -> poem::Result<Self> {
        let cookies = request.headers().get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let arrival = Arrival::of(request)?;
        Ok(Self {
            pairs: url::form_urlencoded::parse(pairs).into_owned().collect(),
            cookies: cookies.collect::<Vec<_>>().join("; "),
            wants_page: request.header(header::ACCEPT).is_some_and(|accepted| accepted.contains("text/html")),
            from_here: request.header("sec-fetch-site").is_none_or(|site| site == "same-origin"),
            path: arrival.path.clone(),
            request_id: arrival.label.clone(),
            marker: PhantomData,
        })
    }

    /// The cookie of this authorization.
    pub fn cookie(&self, flow: OauthFlowId) -> Option<String> {
        self.named(&name(flow))
    }

    fn named(&self, name: &str) -> Option<String> {
        let mut pairs = self.cookies.split(';').filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
    }

    /// The page; of what went wrong one too, for a browser.
    pub fn leaf(self, result: Result<Leaf, Problem>) -> Result<Leaf, Problem> {
        match result {
            Err(problem) if self.wants_page && problem.status().is_client_error() => {
                Ok(Leaf { page: self.refusal(&problem), cookies: Vec::new() })
            }
            other => other,
        }
    }

    fn refusal(&self, problem: &Problem) -> Page {
        let mut page = Page::new(problem.status().as_u16(), "Not connected");
        page.say(&problem.message);
        page.line("Request", &self.request_id);
        page
    }

    /// A page for a browser, also of what went wrong; the usual forms for others.
    pub fn shown<T>(self, result: Result<T, Problem>) -> Result<Shown<T>, Problem> {
        match result {
            Ok(answer) => Ok(Shown { answer: Ok(answer), as_page: self.wants_page }),
            Err(problem) if self.wants_page && problem.status().is_client_error() => {
                Ok(Shown { answer: Err(self.refusal(&problem)), as_page: true })
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
        Self::of(request, request.uri().query().unwrap_or_default().as_bytes())
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

/// A page that leaves cookies.
pub struct Leaf {
    pub page: Page,
    pub cookies: Vec<String>,
}

impl IntoResponse for Leaf {
    fn into_response(self) -> Response {
        let page = self.page.into_response();
        self.cookies.iter().fold(page, |response, cookie| with_cookie(response, cookie))
    }
}

impl ApiResponse for Leaf {
    fn meta() -> MetaResponses {
        let schema = MetaSchemaRef::Inline(Box::new(MetaSchema::new("string")));
        let response = MetaResponse {
            description: "A page.",
            status: Some(200),
            status_range: None,
            content: vec![MetaMediaType { content_type: "text/html", schema }],
            headers: vec![],
        };
        MetaResponses { responses: vec![response] }
    }

    fn register(_: &mut Registry) {}
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
