//! The aggregate of the guide (`docs/event-log.md`), kept where it compiles and runs. No part of the product: it is in no
//! catalogue.

use cqrs_es::test::TestFramework;
use serde::{Deserialize, Serialize};

use crate::{
    aggregate::aggregate,
    error::{Code, Faults, Rejection},
    event::events,
};

events! {
    pub enum BookmarkEvent {
        "bookmark.added" v "1" = Added { title: String, url: String },
        "bookmark.renamed" v "1" = Renamed { title: String },
        "bookmark.removed" v "1" = Removed {},
    }
}

#[derive(Debug)]
pub enum BookmarkCommand {
    Add { title: String, url: String },
    Rename { title: String },
    Remove,
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Bookmark {
    pub title: String,
    pub exists: bool,
}

impl Bookmark {
    fn evolve(&mut self, event: BookmarkEvent) {
        match event {
            BookmarkEvent::Added { title, .. } => *self = Bookmark { title, exists: true },
            BookmarkEvent::Renamed { title } => self.title = title,
            BookmarkEvent::Removed {} => self.exists = false,
        }
    }
}

fn decide(state: &Bookmark, command: BookmarkCommand) -> Result<Vec<BookmarkEvent>, Rejection> {
    match command {
        BookmarkCommand::Add { .. } if state.exists => {
            Err(Rejection::new(Code::Conflict, "This bookmark exists already."))
        }
        BookmarkCommand::Add { title, url } => {
            let mut faults = Faults::default();
            faults.length("title", &title, 1, 100);
            if !url.starts_with("https://") {
                faults.add("url", "must begin with https://");
            }
            faults.into_result()?;
            Ok(vec![BookmarkEvent::Added { title, url }])
        }
        _ if !state.exists => Err(Rejection::not_found(Code::ResourceNotFound, "bookmark")),
        // Nothing changes: nothing is appended.
        BookmarkCommand::Rename { title } if title == state.title => Ok(vec![]),
        BookmarkCommand::Rename { title } => {
            let mut faults = Faults::default();
            faults.length("title", &title, 1, 100);
            faults.into_result()?;
            Ok(vec![BookmarkEvent::Renamed { title }])
        }
        BookmarkCommand::Remove => Ok(vec![BookmarkEvent::Removed {}]),
    }
}

aggregate!(Bookmark, "bookmark", BookmarkCommand, BookmarkEvent, decide);

type Bookmarks = TestFramework<Bookmark>;

fn added() -> BookmarkEvent {
    BookmarkEvent::Added { title: "Rust".into(), url: "https://www.rust-lang.org".into() }
}

#[test]
fn a_bookmark_is_renamed_until_it_is_removed() {
    Bookmarks::with(())
        .given(vec![added()])
        .when(BookmarkCommand::Rename { title: "The language".into() })
        .then_expect_events(vec![BookmarkEvent::Renamed { title: "The language".into() }]);
    Bookmarks::with(())
        .given(vec![added()])
        .when(BookmarkCommand::Rename { title: "Rust".into() })
        .then_expect_events(vec![]);
    Bookmarks::with(())
        .given(vec![added()])
        .when(BookmarkCommand::Remove)
        .then_expect_events(vec![BookmarkEvent::Removed {}]);
    Bookmarks::with(())
        .given(vec![added(), BookmarkEvent::Removed {}])
        .when(BookmarkCommand::Rename { title: "Again".into() })
        .then_expect_error_message("There is no bookmark with this id in the workspace.");
}

#[test]
fn every_fault_is_named() {
    let add = BookmarkCommand::Add { title: " ".into(), url: "ftp://example.com".into() };
    let refused = Bookmarks::with(()).given_no_previous_events().when(add).inspect_result().unwrap_err();
    let fields: Vec<_> = refused.details.iter().map(|d| d.field.as_str()).collect();
    assert_eq!(fields, ["title", "url"]);
}
