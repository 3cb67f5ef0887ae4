//! Documents of several files in one archive: zip, gzipped tar. A single gzipped document is opened, too.
//!
//! Nothing touches a disk, and nothing is trusted: names that lead out, links, encrypted files, too many files and
//! archives that unpack to more than a document may have are refused, the last while unpacking.

use std::io::{Cursor, Read};
use std::time::Instant;

use flate2::read::GzDecoder;
use memchr::memmem;
use url::Url;

use super::builder::Builder;
use super::reader::sniff_braces;
use super::tape::{ROOT, Text};
use super::{Format, IngestError, Limits, json, yaml};

/// How the URLs of files in an archive begin: what relative references between them are resolved by.
pub const SCHEME: &str = "archive:";
/// Bytes of a tar archive beside its files' contents, for each file: header and padding.
const TAR_OVERHEAD: usize = 4_096;
/// File names by which a root is told from others, without their ending.
const ROOT_NAMES: [&str; 3] = ["openapi", "swagger", "api"];
const LONGEST_NAME: usize = 1_000;

pub struct Packed {
    pub name: String,
    pub bytes: Vec<u8>,
}

pub enum Content {
    /// No archive: the bytes as they came, or the one gzipped document.
    Plain(Vec<u8>),
    Files(Vec<Packed>),
}

/// Opens what is an archive, and hands through what is none.
pub fn unpack(bytes: Vec<u8>, limits: &Limits) -> Result<Content, IngestError> {
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") {
        return unzip(&bytes, limits).map(Content::Files);
    }
    if !bytes.starts_with(b"\x1f\x8b") {
        return Ok(Content::Plain(bytes));
    }
    let mut head = Vec::with_capacity(512);
    let opened = GzDecoder::new(&bytes[..]).take(512).read_to_end(&mut head);
    opened.map_err(|e| damaged("gzip", &e))?;
    // A tar archive has its mark in the first header.
    if head.get(257..262) == Some(b"ustar") {
        return untar(&bytes, limits).map(Content::Files);
    }
    let mut plain = Vec::new();
    let most = limits.max_bytes as u64 + 1;
    GzDecoder::new(&bytes[..]).take(most).read_to_end(&mut plain).map_err(|e| damaged("gzip", &e))?;
    if plain.len() > limits.max_bytes {
        return Err(unpacks_too_far(limits));
    }
    Ok(Content::Plain(plain))
}

fn unzip(bytes: &[u8], limits: &Limits) -> Result<Vec<Packed>, IngestError> {
    // The directory is read as a whole, so its entries are counted first, by their marks.
    if memmem::find_iter(bytes, b"PK\x01\x02").count() > limits.max_files {
        return Err(too_many(limits));
    }
    let mut zip = zip::ZipArchive::new(Cursor::new(bytes)).map_err(|e| damaged("zip", &e))?;
    let mut unpacked = Unpacked::new(limits);
    for at in 0..zip.len() {
        let (encrypted, directory, name, mode) = {
            let raw = zip.by_index_raw(at).map_err(|e| damaged("zip", &e))?;
            let name = raw.name().map_err(|e| damaged("zip", &e))?.into_owned();
            (raw.encrypted(), raw.is_dir(), name, raw.unix_mode())
        };
        unpacked.count()?;
        let name = checked(&name)?;
        // The kind of file in the upper bits of a Unix mode: only plain ones, and archives that do not say.
        let kind = mode.map_or(0, |mode| mode & 0o170_000);
        if directory {
            continue;
        }
        if encrypted {
            return Err(refuse(&name, "is encrypted"));
        }
        if !matches!(kind, 0 | 0o100_000) {
            return Err(refuse(&name, "is a link or a device, and no plain file"));
        }
        let file = zip.by_index(at).map_err(|e| damaged("zip", &e))?;
        unpacked.take(name, file)?;
    }
    Ok(unpacked.files)
}

fn untar(bytes: &[u8], limits: &Limits) -> Result<Vec<Packed>, IngestError> {
    // Long names are read as a whole by the tar reader: it sees no more than a full archive may have.
    let most = limits.max_bytes + limits.max_files.saturating_mul(TAR_OVERHEAD);
    let mut tar = tar::Archive::new(GzDecoder::new(bytes).take(most as u64));
    let mut unpacked = Unpacked::new(limits);
    for entry in tar.entries().map_err(|e| damaged("tar", &e))? {
        let entry = entry.map_err(|e| damaged("tar", &e))?;
        unpacked.count()?;
        let kind = entry.header().entry_type();
        if kind.is_dir() || kind.is_pax_global_extensions() {
            continue;
        }
        let name = String::from_utf8(entry.path_bytes().into_owned());
        let name = name.map_err(|_| refuse("", "a file's name is no UTF-8 text"))?;
        let name = checked(&name)?;
        if !kind.is_file() && !kind.is_contiguous() {
            return Err(refuse(&name, "is a link or a device, and no plain file"));
        }
        unpacked.take(name, entry)?;
    }
    Ok(unpacked.files)
}

/// What has been taken out of an archive so far, and what may still be.
struct Unpacked<'l> {
    limits: &'l Limits,
    files: Vec<Packed>,
    names: std::collections::HashSet<String>,
    entries: usize,
    room: usize,
}

impl<'l> Unpacked<'l> {
    fn new(limits: &'l Limits) -> Self {
        let (files, names) = (Vec::new(), std::collections::HashSet::new());
        Unpacked { limits, files, names, entries: 0, room: limits.max_bytes }
    }

    fn count(&mut self) -> Result<(), IngestError> {
        self.entries += 1;
        if self.entries > self.limits.max_files { Err(too_many(self.limits)) } else { Ok(()) }
    }

    fn take(&mut self, name: String, content: impl Read) -> Result<(), IngestError> {
        if !self.names.insert(name.clone()) {
            return Err(refuse(&name, "is in the archive twice"));
        }
        let mut bytes = Vec::new();
        let read = content.take(self.room as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|e| refuse(&name, &format!("is damaged: {e}")))?;
        self.room = self.room.checked_sub(bytes.len()).ok_or_else(|| unpacks_too_far(self.limits))?;
        bytes.shrink_to_fit();
        self.files.push(Packed { name, bytes });
        Ok(())
    }
}

/// A name that stays in the archive, with `/` between its parts and without `./` before it.
fn checked(name: &str) -> Result<String, IngestError> {
    let plain = name.replace('\\', "/");
    let drive = plain.as_bytes().get(1) == Some(&b':');
    let parts: Vec<&str> = plain.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if plain.starts_with('/') || drive || parts.contains(&"..") {
        return Err(refuse(&clipped(name), "leads out of the archive"));
    }
    if plain.contains(|c: char| c.is_control()) || plain.len() > LONGEST_NAME {
        return Err(refuse(&clipped(name), "has control characters in its name, or too long a name"));
    }
    Ok(parts.join("/"))
}

fn clipped(name: &str) -> String {
    super::context::clip(name, 100)
}

/// Where a file of an archive is for those that refer to it.
pub fn url_of(name: &str) -> Option<Url> {
    // What means something in a URL is part of a name here.
    let escaped = name.replace('%', "%25").replace('?', "%3F").replace('#', "%23");
    Url::parse("archive:///").ok()?.join(&escaped).ok()
}

/// The file that is the document: the one given, else the only one with a version of OpenAPI, else the one among
/// several that is named like a root and lies above the others.
pub fn root(files: &[Packed], given: Option<&str>, limits: &Limits) -> Result<String, IngestError> {
    if let Some(given) = given {
        let name = checked(given)?;
        return match files.iter().any(|file| file.name == name) {
            true => Ok(name),
            false => Err(refuse("", &format!("the archive has no file `{name}`, which specRoot names"))),
        };
    }
    let until = Instant::now() + limits.max_time;
    let mut found: Vec<&str> = Vec::new();
    for file in files {
        if Instant::now() > until {
            let seconds = limits.max_time.as_secs();
            return Err(refuse(
                "",
                &format!("looking for the document takes longer than {seconds} s: name it as specRoot"),
            ));
        }
        if is_openapi(file, limits, until) {
            found.push(&file.name);
        }
    }
    match found[..] {
        [] => {
            let message = format!("none of the archive's {} files is an OpenAPI document", files.len());
            return Err(refuse("", &message));
        }
        [only] => return Ok(only.to_string()),
        _ => {}
    }
    let depth = |name: &str| name.matches('/').count();
    let named = found.iter().copied().filter(|name| is_root_name(name));
    let top = named.clone().map(depth).min();
    match named.filter(|name| Some(depth(name)) == top).collect::<Vec<_>>()[..] {
        [one] => Ok(one.to_string()),
        _ => {
            let names: Vec<&str> = found.iter().copied().take(5).collect();
            let message = format!(
                "the archive holds {} OpenAPI documents ({}{}): name one of them as specRoot",
                found.len(),
                names.join(", "),
                if found.len() > names.len() { ", …" } else { "" }
            );
            Err(refuse("", &message))
        }
    }
}

fn is_root_name(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    let stem = [".json", ".yaml", ".yml"].iter().find_map(|ending| file.strip_suffix(ending));
    stem.is_some_and(|stem| ROOT_NAMES.contains(&stem))
}

/// The file's top level has a version of OpenAPI.
fn is_openapi(file: &Packed, limits: &Limits, until: Instant) -> bool {
    let has = |word: &str| memmem::find(&file.bytes, word.as_bytes()).is_some();
    if !has("openapi") && !has("swagger") {
        return false;
    }
    let Ok(text) = std::str::from_utf8(&file.bytes) else {
        // UTF-16 says nothing to the search above, so this is no text at all.
        return false;
    };
    let mut builder = Builder::new(limits);
    builder.ends_at(until);
    let format = sniff_braces(text.trim_start_matches('\u{feff}').trim_start());
    let parsed = builder.file("", Text::Borrowed(text), |builder, text| match format {
        Format::Json => json::parse(builder, text, limits),
        Format::Yaml => yaml::parse(builder, text, limits),
    });
    let doc = builder.doc();
    parsed.is_ok() && ["openapi", "swagger"].iter().any(|key| doc.get(ROOT, key).and_then(|v| doc.scalar(v)).is_some())
}

fn refuse(name: &str, what: &str) -> IngestError {
    let message = if name.is_empty() { what.to_string() } else { format!("the archive's file `{name}` {what}") };
    IngestError::invalid("", message)
}

fn too_many(limits: &Limits) -> IngestError {
    refuse("", &format!("the archive has more than {} files", limits.max_files))
}

fn unpacks_too_far(limits: &Limits) -> IngestError {
    IngestError::too_large(format!("the archive unpacks to more than the {} bytes allowed", limits.max_bytes))
}

fn damaged(kind: &str, error: &dyn std::fmt::Display) -> IngestError {
    refuse("", &format!("the {kind} archive is damaged: {error}"))
}
