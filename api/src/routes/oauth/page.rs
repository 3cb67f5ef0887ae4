//! A page for a person who goes or comes back: text, and a form where there is something to agree to. What others wrote is escaped, and nothing on it is executed or loaded
//! (the shell's `Content-Security-Policy` says so too).

use poem::{Response, http::StatusCode};

/// A title and lines.
#[derive(Debug)]
pub struct Page {
    status: StatusCode,
    title: String,
    body: String,
    /// Where the browser goes on by itself.
    next: Option<String>,
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // Marks that turn the direction of what is read.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            other if other.is_control() => safe.push(' '),
            other => safe.push(other),
        }
    }
    safe
}

impl Page {
    pub fn new(status: u16, title: &str) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
        Self { status, title: escaped(title), body: String::new(), next: None }
    }

    pub fn line(&mut self, name: &str, value: &str) {
        self.body.push_str(&format!("<p><b>{}</b>: {}</p>\n", escaped(name), escaped(value)));
    }

    pub fn say(&mut self, sentence: &str) {
        self.body.push_str(&format!("<p>{}</p>\n", escaped(sentence)));
    }

    /// A button that posts these to the page's own address.
    pub fn form(&mut self, action: &str, fields: &[(&str, &str)], button: &str) {
        self.body.push_str(&format!("<form method=\"post\" action=\"{}\">\n", escaped(action)));
        for (name, value) in fields {
            let (name, value) = (escaped(name), escaped(value));
            self.body.push_str(&format!("<input type=\"hidden\" name=\"{name}\" value=\"{value}\">\n"));
        }
        self.body.push_str(&format!("<button type=\"submit\">{}</button>\n</form>\n", escaped(button)));
    }

    /// The browser goes on to this URL. No redirect: browsers hold a form's policy against every one that follows it, and
    /// nobody knows where a provider's lead.
    pub fn go_on(&mut self, url: &str, text: &str) {
        self.next = Some(escaped(url));
        self.body.push_str(&format!("<p><a href=\"{}\">{}</a></p>\n", escaped(url), escaped(text)));
    }

    pub fn into_response(self) -> Response {
        let Self { status, title, body, next } = self;
        let next = next.map(|url| format!("<meta http-equiv=\"refresh\" content=\"0;url={url}\">")).unwrap_or_default();
        let page = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
             content=\"width=device-width\">{next}<title>APIQ: {title}</title></head>\n<body><h1>{title}</h1>\n{body}</body></html>\n"
        );
        Response::builder().status(status).content_type("text/html; charset=utf-8").body(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_others_wrote_is_text() {
        let mut page = Page::new(200, "A & B");
        page.line("Connection", "<script>alert('x')</script>\u{202e}\"");
        let text = page.into_response().into_body().into_string().await.unwrap();
        assert!(text.contains("A &amp; B") && text.contains("&lt;script&gt;alert(&#39;x&#39;)"), "{text}");
        assert!(!text.contains("<script") && !text.contains('\u{202e}'), "{text}");
    }

    #[tokio::test]
    async fn forms_and_links_hold_what_they_are_given() {
        let mut page = Page::new(200, "A");
        page.form("connect", &[("link", "\"><script>")], "Go on");
        page.go_on("https://id.test/?a=1&b=\"><script>", "On");
        let text = page.into_response().into_body().into_string().await.unwrap();
        assert!(text.contains("value=\"&quot;&gt;&lt;script&gt;\""), "{text}");
        assert!(text.contains("content=\"0;url=https://id.test/?a=1&amp;b=&quot;&gt;"), "{text}");
        assert!(!text.contains("<script"), "{text}");
    }
}
