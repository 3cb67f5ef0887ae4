//! A person with a browser: follows redirects by hand, keeps cookies, fills in what `oidc-provider` asks in its dev
//! interactions.

use std::collections::BTreeMap;

use reqwest::{
    Method,
    header::{COOKIE, LOCATION, SET_COOKIE},
};

use super::client::http;

/// Where a way through a provider leads at most.
const MOST_STEPS: usize = 20;

/// Cookies by origin and name.
#[derive(Default)]
pub struct Person {
    cookies: BTreeMap<(String, String), String>,
}

/// What a browser shows.
#[derive(Debug)]
pub struct Seen {
    pub status: u16,
    pub url: String,
    pub location: Option<String>,
    pub text: String,
    pub headers: reqwest::header::HeaderMap,
}

fn origin(url: &str) -> String {
    reqwest::Url::parse(url).unwrap().origin().ascii_serialization()
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    text.split_once(before)?.1.split_once(after).map(|(found, _)| found)
}

impl Seen {
    /// Where the page goes on to by itself.
    pub fn next(&self) -> Option<String> {
        between(&self.text, "http-equiv=\"refresh\" content=\"0;url=", "\"").map(|url| url.replace("&amp;", "&"))
    }
}

impl Person {
    /// One request, without following.
    pub async fn ask(&mut self, method: Method, url: &str, form: Option<&str>) -> Seen {
        let own =
            |((at, name), value): (&(String, String), &String)| (*at == origin(url)).then(|| format!("{name}={value}"));
        let cookies: Vec<String> = self.cookies.iter().filter_map(own).collect();
        let mut request = http().request(method, url).header("accept", "text/html,*/*");
        if !cookies.is_empty() {
            request = request.header(COOKIE, cookies.join("; "));
        }
        if let Some(form) = form {
            request = request.header("content-type", "application/x-www-form-urlencoded").body(form.to_owned());
        }
        let answer = request.send().await.unwrap();
        for set in answer.headers().get_all(SET_COOKIE) {
            self.keep(url, set.to_str().unwrap());
        }
        let status = answer.status().as_u16();
        let location = answer.headers().get(LOCATION).map(|to| to.to_str().unwrap().to_owned());
        let base = reqwest::Url::parse(url).unwrap();
        let location = location.map(|to| base.join(&to).unwrap().to_string());
        let headers = answer.headers().clone();
        Seen { status, url: url.to_owned(), location, text: answer.text().await.unwrap(), headers }
    }

    /// `Set-Cookie` of an answer from there.
    pub fn keep(&mut self, url: &str, set: &str) {
        let (name, value) = set.split(';').next().unwrap().split_once('=').unwrap();
        let key = (origin(url), name.to_owned());
        match value.is_empty() {
            true => drop(self.cookies.remove(&key)),
            false => drop(self.cookies.insert(key, value.to_owned())),
        }
    }

    pub async fn get(&mut self, url: &str) -> Seen {
        self.ask(Method::GET, url, None).await
    }

    /// Presses the button of our own page, and gives what comes of it.
    pub async fn go_on(&mut self, page: &Seen) -> Seen {
        let action = between(&page.text, "action=\"", "\"").expect("a form");
        let action = reqwest::Url::parse(&page.url).unwrap().join(action).unwrap();
        let mut form = reqwest::Url::parse("http://x").unwrap();
        for field in page.text.split("<input type=\"hidden\" ").skip(1) {
            let (name, value) = (between(field, "name=\"", "\""), between(field, "value=\"", "\""));
            form.query_pairs_mut().append_pair(name.unwrap(), value.unwrap());
        }
        self.ask(Method::POST, action.as_str(), form.query()).await
    }

    /// Follows until a page of the provider, logs in and agrees, and stops before `stop` (the callback) is called.
    pub async fn agree(&mut self, url: &str, stop: &str) -> String {
        let mut seen = self.get(url).await;
        for _ in 0..MOST_STEPS {
            let next = match &seen.location {
                Some(to) if to.starts_with(stop) => return to.clone(),
                Some(to) => self.get(&to.clone()).await,
                None if seen.next().is_some() => self.get(&seen.next().unwrap()).await,
                None if seen.text.contains("name=\"link\"") => self.go_on(&seen).await,
                None => {
                    let login = seen.text.contains("name=\"login\"");
                    let form = if login { "prompt=login&login=maria&password=any" } else { "prompt=consent" };
                    assert!(seen.text.contains("<form"), "no form: {} {}", seen.url, seen.text);
                    let action = seen.text.split("action=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
                    let action = reqwest::Url::parse(&seen.url).unwrap().join(&action).unwrap();
                    self.ask(Method::POST, action.as_str(), Some(form)).await
                }
            };
            seen = next;
        }
        panic!("the way does not end: {}", seen.url);
    }
}
