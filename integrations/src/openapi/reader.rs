//! Gathers the files of a document: the first, those of its archive, and what they refer to.
//!
//! Still pure: what has to be fetched is asked for ([`Reader::wanted`]) and handed in ([`Reader::give`]). A file that
//! cannot be had is a warning at each reference to it; only a broken cap ends the reading.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::operation::SpecProblem;
use url::Url;

use super::archive::{self, Packed};
use super::builder::Builder;
use super::index::Index;
use super::refs::Files;
use super::tape::{Doc, ROOT, Text};
use super::{Format, IngestError, Ingested, Limits, document, json, yaml};

/// Where a document came from.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// The URL it was fetched from: what relative references are relative to.
    pub url: Option<String>,
    /// Which file of an archive is the document.
    pub root: Option<String>,
}

/// A document that a reference leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub bytes: Vec<u8>,
    /// Where it came from in the end, after redirects: what its own relative references are relative to. Absent: from where
    /// it was asked for.
    pub url: Option<String>,
}

impl From<Vec<u8>> for Part {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, url: None }
    }
}

pub struct Reader<'a> {
    builder: Builder<'a>,
    index: Index,
    files: Files,
    limits: Limits,
    /// Files of the archive that nothing has referred to yet, by URL.
    packed: HashMap<String, Packed>,
    /// URLs asked for and not given yet.
    open: HashSet<String>,
    asked: usize,
    bytes: usize,
    format: Format,
    /// What of the time is left; only work counts, not waiting for files.
    left: Duration,
}

impl<'a> Reader<'a> {
    /// Reads a document's first file, or the archive that holds it.
    ///
    /// # Errors
    /// `TooLarge` when the bytes exceed the cap; `Invalid` for what is no OpenAPI document or breaks another cap.
    pub fn new(bytes: Vec<u8>, origin: &Origin, limits: &Limits) -> Result<Self, IngestError> {
        check_size(bytes.len(), limits)?;
        let url = origin.url.as_deref().and_then(|url| Url::parse(url).ok());
        match archive::unpack(bytes, limits)? {
            archive::Content::Plain(bytes) => {
                let mut reader = Self::empty(limits);
                reader.start(owned(bytes)?, url)?;
                Ok(reader)
            }
            archive::Content::Files(files) => {
                let root = archive::root(&files, origin.root.as_deref(), limits)?;
                let mut reader = Self::empty(limits);
                let mut first = None;
                for file in files {
                    let url = archive::url_of(&file.name);
                    match file.name == root {
                        true => first = Some((file.bytes, url)),
                        false => drop(url.map(|url| reader.packed.insert(url.into(), file))),
                    }
                }
                let Some((bytes, url)) = first else {
                    return Err(IngestError::invalid("", format!("the archive has no file `{root}`")));
                };
                reader.start(owned(bytes)?, url)?;
                Ok(reader)
            }
        }
    }

    /// Reads a document from a text that is kept by the caller.
    pub(super) fn of_text(text: &'a str, limits: &Limits) -> Result<Self, IngestError> {
        let mut reader = Self::empty(limits);
        reader.start(Text::Borrowed(text), None)?;
        Ok(reader)
    }

    fn empty(limits: &Limits) -> Self {
        Reader {
            builder: Builder::new(limits),
            index: Index::default(),
            files: Files::default(),
            limits: limits.clone(),
            packed: HashMap::new(),
            open: HashSet::new(),
            asked: 0,
            bytes: 0,
            format: Format::Json,
            left: limits.max_time,
        }
    }

    fn start(&mut self, text: Text<'a>, url: Option<Url>) -> Result<(), IngestError> {
        let began = self.begin();
        self.bytes = text.as_str().len();
        self.format = sniff(text.as_str())?;
        let (limits, format) = (&self.limits, self.format);
        let parsed = self.builder.file("", text, |builder, text| match format {
            Format::Json => json::parse(builder, text, limits),
            Format::Yaml => yaml::parse(builder, text, limits),
        });
        parsed.map_err(|message| IngestError::invalid("", message))?;
        document::version(self.builder.doc())?;
        if let Some(url) = &url {
            let mut url = url.clone();
            url.set_fragment(None);
            self.files.known.insert(url.into(), ROOT);
        }
        self.index.scan(self.builder.doc(), ROOT, url);
        self.note(0)?;
        self.end(began);
        Ok(())
    }

    fn begin(&mut self) -> Instant {
        let now = Instant::now();
        self.builder.ends_at(now + self.left);
        now
    }

    fn end(&mut self, began: Instant) {
        self.left = self.left.saturating_sub(began.elapsed());
    }

    /// Looks through the references from `first` on, takes what the archive has, and remembers what it has not.
    fn note(&mut self, first: usize) -> Result<(), IngestError> {
        let mut at = first;
        while at < self.index.sites.len() {
            if self.index.sites.len() > self.limits.max_refs {
                return Err(refuse(format!("the document has more than {} references", self.limits.max_refs)));
            }
            let Some(url) = self.leaves(at) else {
                at += 1;
                continue;
            };
            at += 1;
            let key = String::from(url);
            if let Some(packed) = self.packed.remove(&key) {
                self.take(&key, &packed.name, packed.bytes.into())?;
            } else if key.starts_with("http://") || key.starts_with("https://") {
                self.asked += 1;
                if self.asked > self.limits.max_fetches {
                    let most = self.limits.max_fetches;
                    return Err(refuse(format!("the document refers to more than {most} other documents")));
                }
                self.open.insert(key);
            } else {
                let reason = match key.starts_with(archive::SCHEME) {
                    true => "leads to a file that the archive does not hold",
                    false => "is neither a file of an archive nor an http or https URL",
                };
                self.files.missing.insert(key, reason.to_string());
            }
        }
        Ok(())
    }

    /// The URL of a file that the reference needs and nobody has looked at yet.
    fn leaves(&self, site: usize) -> Option<Url> {
        let doc = self.builder.doc();
        let place = *self.index.sites.get(site)?;
        let address = doc.string(place)?.split('#').next().filter(|address| !address.is_empty())?;
        if self.index.by_id(address).is_some() {
            return None;
        }
        let url = self.index.absolute(self.index.base_of(place), address).ok()?;
        let key = url.as_str();
        let seen = self.files.known.contains_key(key)
            || self.files.missing.contains_key(key)
            || self.open.contains(key)
            || self.index.by_id(key).is_some();
        (!seen).then_some(url)
    }

    /// Adds a file to the table; what is wrong with it becomes the reason why it is missing.
    fn take(&mut self, key: &str, name: &str, Part { bytes, url }: Part) -> Result<(), IngestError> {
        self.bytes = self.bytes.saturating_add(bytes.len());
        check_size(self.bytes, &self.limits)?;
        self.builder.has_time().map_err(refuse)?;
        let limits = &self.limits;
        let text = match text_of(bytes) {
            Ok(text) => Text::Owned(Arc::new(text)),
            Err(reason) => return self.miss(key, reason),
        };
        // A file of its own may be a bare text or list: only its syntax is told.
        let start = text.as_str().trim_start();
        let format = if start.starts_with(['{', '[']) { sniff_braces(start) } else { Format::Yaml };
        let taken = self.builder.file(name, text, |builder, text| match format {
            Format::Json => json::parse(builder, text, limits),
            Format::Yaml => yaml::parse(builder, text, limits),
        });
        match taken {
            Ok(start) => {
                self.files.known.insert(key.to_string(), start);
                let mut base = url.and_then(|url| Url::parse(&url).ok()).or_else(|| Url::parse(key).ok());
                if let Some(base) = &mut base {
                    base.set_fragment(None);
                    // Who refers to where it was in the end means the same file.
                    if !self.files.missing.contains_key(base.as_str()) && !self.open.contains(base.as_str()) {
                        self.files.known.entry(base.to_string()).or_insert(start);
                    }
                }
                self.index.scan(self.builder.doc(), start, base);
                Ok(())
            }
            Err(reason) => self.miss(key, format!("leads to a file that cannot be read: {reason}")),
        }
    }

    fn miss(&mut self, key: &str, reason: String) -> Result<(), IngestError> {
        self.files.missing.insert(key.to_string(), reason);
        Ok(())
    }

    /// The URLs to fetch before the document is complete; each is told once.
    pub fn wanted(&mut self) -> Vec<String> {
        let mut wanted: Vec<String> = self.open.drain().collect();
        wanted.sort();
        for url in &wanted {
            // Until it is given: whoever gives nothing leaves this behind.
            self.files.missing.insert(url.clone(), "leads to a document that was not fetched".to_string());
        }
        wanted
    }

    /// How many bytes further files may have together.
    pub fn room(&self) -> usize {
        self.limits.max_bytes.saturating_sub(self.bytes)
    }

    /// Hands in a wanted document, or the reason why it cannot be had, which becomes a warning at each reference.
    ///
    /// # Errors
    /// A cap is broken.
    pub fn give(&mut self, url: &str, part: Result<Part, String>) -> Result<(), IngestError> {
        let began = self.begin();
        self.files.missing.remove(url);
        let first = self.index.sites.len();
        match part {
            Ok(part) => self.take(url, &shown(url), part)?,
            Err(reason) => self.miss(url, format!("cannot be followed: {reason}"))?,
        }
        self.note(first)?;
        self.end(began);
        Ok(())
    }

    /// Reads the whole, with the text of the document's first file beside it where the reader owns it.
    ///
    /// # Errors
    /// The document breaks a cap.
    pub fn finish(mut self) -> Result<(Ingested, Option<String>), IngestError> {
        self.begin();
        let until = Instant::now() + self.left;
        let Reader { builder, index, files, limits, format, .. } = self;
        let (doc, nul) = builder.finish();
        let mut summary = document::read(&doc, &index, &files, &limits, until)?;
        if nul {
            let message = "the document holds NUL characters (\\u0000): they are read as blanks".to_string();
            summary.warnings.push(SpecProblem { pointer: String::new(), message });
        }
        let count = doc.files.len();
        Ok((Ingested { summary, format, files: count }, first_text(doc)))
    }
}

fn first_text(doc: Doc<'_>) -> Option<String> {
    match doc.files.into_iter().next()?.text {
        Text::Owned(text) => Arc::into_inner(text),
        Text::Borrowed(_) => None,
    }
}

pub(super) fn check_size(bytes: usize, limits: &Limits) -> Result<(), IngestError> {
    if bytes <= limits.max_bytes && u32::try_from(bytes).is_ok() {
        return Ok(());
    }
    Err(IngestError::too_large(format!(
        "the document has {bytes} bytes, with all its files, more than the {} allowed",
        limits.max_bytes
    )))
}

fn refuse(message: String) -> IngestError {
    IngestError::invalid("", message)
}

fn owned(bytes: Vec<u8>) -> Result<Text<'static>, IngestError> {
    text_of(bytes).map(|text| Text::Owned(Arc::new(text))).map_err(refuse)
}

/// UTF-8; or UTF-16 where its byte order mark says so.
pub(super) fn text_of(bytes: Vec<u8>) -> Result<String, String> {
    let pairs = |order: fn([u8; 2]) -> u16| bytes[2..].chunks_exact(2).map(move |pair| order([pair[0], pair[1]]));
    let wide = match bytes.get(..2) {
        Some([0xff, 0xfe]) => char::decode_utf16(pairs(u16::from_le_bytes)).collect::<Result<String, _>>().ok(),
        Some([0xfe, 0xff]) => char::decode_utf16(pairs(u16::from_be_bytes)).collect::<Result<String, _>>().ok(),
        _ => None,
    };
    if let Some(text) = wide {
        return Ok(text);
    }
    if memchr::memchr(0, &bytes).is_some() {
        return Err("the document holds a NUL byte, which no text can hold".to_string());
    }
    String::from_utf8(bytes).map_err(|error| {
        format!("the document is not UTF-8 text: bad byte at offset {}", error.utf8_error().valid_up_to())
    })
}

/// A document's address for people: without its query, which may hold a secret.
fn shown(url: &str) -> String {
    url.split('?').next().unwrap_or_default().to_string()
}

/// Tells JSON from YAML by the first characters, and refuses what is plainly something else.
fn sniff(text: &str) -> Result<Format, IngestError> {
    let start = text.trim_start_matches('\u{feff}').trim_start();
    if start.is_empty() {
        return Err(refuse("the document is empty".to_string()));
    }
    if start.starts_with('<') {
        let head: String = start.chars().take(1024).collect::<String>().to_ascii_lowercase();
        let html = head.contains("<!doctype html") || head.contains("<html") || head.contains("<head");
        let what = if html { "an HTML page" } else { "an XML document" };
        return Err(refuse(format!("this is {what}, not an OpenAPI document")));
    }
    Ok(sniff_braces(start))
}

/// A YAML document may begin with a flow mapping too, but then its keys are rarely quoted.
pub(super) fn sniff_braces(start: &str) -> Format {
    let json = match start.strip_prefix('{') {
        Some(rest) => rest.trim_start().starts_with(['"', '}']) || rest.trim_start().is_empty(),
        None => start.starts_with('['),
    };
    if json { Format::Json } else { Format::Yaml }
}
