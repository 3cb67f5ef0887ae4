//! Swagger UI in one page, with the document inside: works without internet.

use poem::{
    Endpoint, IntoResponse, Response,
    endpoint::make_sync,
    http::{StatusCode, header},
};

/// The page, with our completed document in place of the one poem-openapi knows. In a script, `</script>` ends it even
/// inside of a text: `<` is written as an escape.
pub fn page(template: &str, known: &str, completed: &str) -> String {
    let safe = completed.replace('<', "\\u003c");
    template.replacen(known, &safe, 1).replacen("<title>Swagger UI</title>", "<title>APIQ</title>", 1)
}

pub fn page_endpoint(page: String) -> impl Endpoint<Output = Response> {
    let page = bytes::Bytes::from(page);
    make_sync(move |_| {
        Response::builder()
            .content_type("text/html; charset=utf-8")
            .header(header::CACHE_CONTROL, "no-cache")
            .body(page.clone())
            .into_response()
    })
}

pub fn document_endpoint(document: String) -> impl Endpoint<Output = Response> {
    let document = bytes::Bytes::from(document);
    make_sync(move |_| Response::builder().content_type("application/json; charset=utf-8").body(document.clone()))
}

pub fn redirect(to: &'static str) -> impl Endpoint<Output = Response> {
    make_sync(move |_| Response::builder().status(StatusCode::TEMPORARY_REDIRECT).header(header::LOCATION, to).finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_cannot_end_the_script() {
        let page = page("<script>let spec = {\"a\":1};</script>", "{\"a\":1}", "{\"a\":\"</script><b>\"}");
        assert_eq!(page, "<script>let spec = {\"a\":\"\\u003c/script>\\u003cb>\"};</script>");
    }
}
