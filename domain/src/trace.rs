//! W3C trace context: who follows a request through the house and on to the called API sees one trace.

use uuid::Uuid;

/// The `traceparent` of a call: the trace of `parent` with a span of its own. Without a usable parent, the correlation
/// id is the trace, so that the called API's records lead back to ours; it is marked as not sampled.
pub fn traceparent(parent: Option<&str>, correlation: Uuid, span: u64) -> String {
    // A span of zeros is none.
    let span = span.max(1);
    match parent.and_then(parts) {
        Some((trace, flags)) => format!("00-{trace}-{span:016x}-{flags}"),
        None => format!("00-{}-{span:016x}-00", correlation.simple()),
    }
}

/// Trace id and flags of a valid `traceparent`.
fn parts(text: &str) -> Option<(&str, &str)> {
    let mut fields = text.split('-');
    let (version, trace, span, flags) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let zero = |text: &str| text.bytes().all(|b| b == b'0');
    let valid = hex(version, 2) && version != "ff" && hex(trace, 32) && hex(span, 16) && hex(flags, 2);
    // Version 00 has no further fields; what a later one adds is not ours to pass on.
    let complete = version != "00" || fields.next().is_none();
    (valid && complete && !zero(trace) && !zero(span)).then_some((trace, flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_call_is_a_new_span_of_the_same_trace() {
        let correlation = Uuid::from_u128(7);
        assert_eq!(
            traceparent(Some(PARENT), correlation, 0xabc),
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000abc-01"
        );
        let made = "00-00000000000000000000000000000007-0000000000000001-00";
        assert_eq!(traceparent(None, correlation, 0), made);
        for bad in
            ["", "00-x", &PARENT[..54], &PARENT.to_uppercase(), &PARENT.replace("00f067aa0ba902b7", "0000000000000000")]
        {
            assert_eq!(traceparent(Some(bad), correlation, 1), made, "{bad}");
        }
        assert_eq!(traceparent(Some(&format!("{PARENT}-x")), correlation, 1), made);
    }
}
