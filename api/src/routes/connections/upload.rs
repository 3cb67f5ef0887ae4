//! A document that comes with the request: as text, as JSON, or as an archive in base64.

use base64::{Engine, engine::general_purpose::STANDARD};
use commands::connection::Upload;
use domain::error::Faults;
use serde_json::Value;

/// Longest name of a file in an archive.
const LONGEST_ROOT: usize = 1_000;

/// How archives begin: zip (also an empty one), gzip.
const MAGICS: [&[u8]; 3] = [b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b"];

/// Whichever of the fields holds the document; what does not fit together is named.
pub fn of(spec: Option<Value>, archive: Option<String>, root: Option<String>, faults: &mut Faults) -> Option<Upload> {
    if spec.is_some() && archive.is_some() {
        faults.add("specArchive", "give spec or specArchive, not both");
    }
    match &root {
        Some(_) if archive.is_none() => faults.add("specRoot", "names a file of specArchive, which is not given"),
        Some(root) if root.trim().is_empty() || root.len() > LONGEST_ROOT => {
            faults.add("specRoot", format!("must be the path of a file, of 1 to {LONGEST_ROOT} bytes"));
        }
        _ => {}
    }
    let bytes = match (spec, archive) {
        (_, Some(archive)) => unpacked(archive, faults),
        (Some(Value::String(text)), None) => Some(text.into_bytes()),
        (Some(object @ Value::Object(_)), None) => Some(object.to_string().into_bytes()),
        (Some(_), None) => {
            faults.add("spec", "must be the document as a text (JSON or YAML) or as a JSON object");
            None
        }
        (None, None) => None,
    };
    bytes.map(|bytes| Upload { bytes, root })
}

/// The bytes of an archive. Clients break base64 into lines.
fn unpacked(mut archive: String, faults: &mut Faults) -> Option<Vec<u8>> {
    archive.retain(|letter| !letter.is_ascii_whitespace());
    match STANDARD.decode(archive) {
        Ok(bytes) if MAGICS.iter().any(|magic| bytes.starts_with(magic)) => Some(bytes),
        Ok(_) => {
            faults.add("specArchive", "is neither a zip nor a gzipped tar archive");
            None
        }
        Err(_) => {
            faults.add("specArchive", "must be the archive's bytes in base64");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(spec: Option<Value>, archive: Option<&str>, root: Option<&str>) -> Vec<String> {
        let mut faults = Faults::default();
        of(spec, archive.map(str::to_owned), root.map(str::to_owned), &mut faults);
        faults.0.into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn what_does_not_fit_is_named_at_once() {
        let text = || Some(Value::String("openapi: 3.0.0".into()));
        assert_eq!(named(text(), Some("%"), Some(" ")), ["specArchive", "specRoot", "specArchive"]);
        assert_eq!(named(text(), None, Some("a.yaml")), ["specRoot"]);
        assert_eq!(named(None, Some("aGVsbG8="), None), ["specArchive"], "no archive at all");
        assert_eq!(named(Some(Value::from(7)), None, None), ["spec"]);
        assert_eq!(named(text(), None, None), [""; 0]);
    }

    #[test]
    fn an_archive_keeps_its_bytes_and_root() {
        let mut faults = Faults::default();
        let upload = of(None, Some("UEsD\r\nBAA=".into()), Some("a.yaml".into()), &mut faults).unwrap();
        assert_eq!((upload.bytes, upload.root.as_deref()), (b"PK\x03\x04\x00".to_vec(), Some("a.yaml")));
    }
}
