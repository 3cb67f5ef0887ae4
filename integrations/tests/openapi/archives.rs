//! Archives of documents, good ones and others, made in memory.

use std::io::{Cursor, Write};

use flate2::{Compression, write::GzEncoder};
use zip::{ZipWriter, write::SimpleFileOptions};

pub fn zip<N: AsRef<str>, B: AsRef<[u8]>>(files: &[(N, B)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        zip.start_file(name.as_ref(), SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes.as_ref()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A zip with a symbolic link.
pub fn zip_with_link(name: &str, target: &str) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.add_symlink(name, target, SimpleFileOptions::default()).unwrap();
    zip.finish().unwrap().into_inner()
}

pub fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut gz = GzEncoder::new(Vec::new(), Compression::best());
    gz.write_all(bytes).unwrap();
    gz.finish().unwrap()
}

pub fn tar_gz<N: AsRef<str>, B: AsRef<[u8]>>(files: &[(N, B)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        entry(&mut tar, name.as_ref(), tar::EntryType::Regular, bytes.as_ref(), None);
    }
    gz(&tar.into_inner().unwrap())
}

/// A tar with one entry of another kind than a file.
pub fn tar_with(kind: tar::EntryType, name: &str, target: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    entry(&mut tar, name, kind, b"", Some(target));
    gz(&tar.into_inner().unwrap())
}

/// The name is written as it is: the library's own way to set one refuses bad ones.
fn entry(tar: &mut tar::Builder<Vec<u8>>, name: &str, kind: tar::EntryType, bytes: &[u8], link: Option<&str>) {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    if let Some(target) = link {
        header.set_link_name_literal(target).unwrap();
    }
    match name.len() {
        0..=100 => {
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            tar.append(&header, bytes).unwrap();
        }
        // Behind an entry that holds the long name.
        _ => tar.append_data(&mut header, name, bytes).unwrap(),
    }
}
