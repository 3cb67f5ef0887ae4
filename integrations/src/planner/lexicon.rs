//! The English that the planner knows: stop words, verbs and what they do to a resource, words of like meaning.
//!
//! General vocabulary of web APIs only. Nothing here names a particular API: what an API calls its things comes
//! from its document.

use std::{collections::HashMap, sync::OnceLock};

use super::text::stem;

/// What a verb asks an API to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    Read,
    Create,
    Update,
    Delete,
}

impl Intent {
    /// The methods that carry it out, as the index's method terms name them.
    pub fn methods(self) -> &'static [&'static str] {
        match self {
            Self::Read => &["GET"],
            Self::Create => &["POST", "PUT"],
            Self::Update => &["PUT", "PATCH", "POST"],
            Self::Delete => &["DELETE"],
        }
    }

    /// How well a method serves the intent: a factor on the score.
    pub fn fit(self, method: &str) -> f32 {
        match (self, method) {
            (Self::Read, "GET") | (Self::Create, "POST") | (Self::Delete, "DELETE") => 1.2,
            (Self::Update, "PUT" | "PATCH") => 1.2,
            (Self::Create, "PUT") | (Self::Update, "POST") => 0.95,
            (Self::Create, "PATCH") => 0.7,
            (Self::Read, "POST") => 0.35,
            (Self::Delete, "POST" | "PUT" | "PATCH") => 0.4,
            (_, "GET" | "HEAD" | "OPTIONS") => 0.35,
            // A request that doesn't say "delete" never gets a deletion by word overlap alone.
            (_, "DELETE") => 0.1,
            _ => 0.3,
        }
    }
}

/// Imperatives that begin a clause. `None`: a verb, but of no certain method.
const VERBS: &[(Option<Intent>, &str)] = &[
    (
        Some(Intent::Read),
        "get fetch find look lookup search show list retrieve read check view see give tell display query load count \
         download pull recommend describe export compare browse discover collect determine what who whose when where \
         which how",
    ),
    (
        Some(Intent::Create),
        "send create add post make register invite submit insert book order buy charge notify email mail text message \
         write draft publish schedule start launch open reply comment subscribe issue generate build upload sign raise \
         log file enroll assign attach share forward put refund",
    ),
    (
        Some(Intent::Update),
        "update change edit set modify rename replace mark move enable disable adjust configure switch turn increase \
         decrease lower reset close reopen resolve merge lock unlock approve reject activate deactivate promote patch",
    ),
    (Some(Intent::Delete), "delete remove cancel clear drop unfollow unsubscribe revoke erase purge uninstall unlink"),
    (
        None,
        "follow play pause resume skip stop archive restore save like star run trigger execute deploy scale transfer \
         convert translate summarize use confirm verify sync import copy clone fork tag label rate review ping warn \
         tell ask let compute calculate",
    ),
];

const STOP_WORDS: &str = "a an the and or but of to in on at for from by with about into onto over under as is are was \
    were be been being am do does did done has have had having i me my mine we us our you your it its this that these \
    those he she him her his they them their there here then than so if else when while can could would should will \
    shall may might must not no yes please just also too very some any all each every both either neither own same \
    such only via per up out off again once what which who whom whose how why where want wants need needs like let \
    s t d ll m re ve im using based whether saying says say titled entitled regarding";

/// Words that say little about which operation is meant: ranked low, and not missed when unmatched.
const WEAK_WORDS: &str = "data info information detail details record records result results thing things item items \
    currently right first second third more number name named called total api endpoint system service account one \
    two three";

/// Words of like meaning in API descriptions. Each group expands a query word to the others, at a lower weight.
const GROUPS: &[&str] = &[
    "customer client buyer shopper",
    "user member person people",
    "people person",
    "message mail email notification",
    "order purchase",
    "invoice bill",
    "payment charge",
    "product article goods sku",
    "song track music",
    "singer artist musician band",
    "film movie",
    "show series tv",
    "photo picture image poster logo cover thumbnail avatar icon",
    "image look",
    "actor actress cast credit star",
    "director directed crew credit",
    "author writer",
    "suggestion recommendation recommend similar related",
    "ticket issue bug incident",
    "repository repo",
    "pull merge",
    "file document attachment",
    "folder directory",
    "server machine droplet instance vm host",
    "channel room conversation chat",
    "meeting event appointment calendar",
    "task todo card",
    "comment note remark reply",
    "label tag",
    "company organization organisation firm business",
    "headquarter address location",
    "birthday birth born",
    "popular trending favorite top",
    "rating rated vote score",
    "release premiere published",
    "theater theatre cinema",
    "library saved collection",
    "playlist list",
    "volume loud sound",
    "price cost amount",
    "phone mobile sms text",
    "subscription plan",
    "webhook hook callback",
    "domain dns",
    "branch ref",
    "job run build pipeline",
    "employee staff worker",
    "lead prospect contact",
    "deal opportunity",
    "pet animal",
    "picture photo",
];

fn set(words: &'static str) -> std::collections::HashSet<&'static str> {
    words.split_whitespace().collect()
}

pub fn is_stop_word(word: &str) -> bool {
    static SET: OnceLock<std::collections::HashSet<&'static str>> = OnceLock::new();
    SET.get_or_init(|| set(STOP_WORDS)).contains(word)
}

pub fn is_weak(word: &str) -> bool {
    static SET: OnceLock<std::collections::HashSet<&'static str>> = OnceLock::new();
    SET.get_or_init(|| set(WEAK_WORDS)).contains(word)
}

/// `None`: no verb we know. `Some(None)`: a verb of no certain method.
pub fn verb(word: &str) -> Option<Option<Intent>> {
    static MAP: OnceLock<HashMap<&'static str, Option<Intent>>> = OnceLock::new();
    let map = MAP.get_or_init(|| {
        let mut map = HashMap::new();
        for (intent, words) in VERBS {
            for word in words.split_whitespace() {
                map.entry(word).or_insert(*intent);
            }
        }
        map
    });
    map.get(word).copied()
}

/// Stems of like meaning; without the stem itself.
pub fn synonyms(stemmed: &str) -> &'static [String] {
    static MAP: OnceLock<HashMap<String, Vec<String>>> = OnceLock::new();
    let map = MAP.get_or_init(|| {
        let mut map: HashMap<String, Vec<String>> = HashMap::new();
        for group in GROUPS {
            let stems: Vec<String> = group.split_whitespace().map(stem).collect();
            for one in &stems {
                let others = map.entry(one.clone()).or_default();
                for other in &stems {
                    if other != one && !others.contains(other) {
                        others.push(other.clone());
                    }
                }
            }
        }
        map
    });
    map.get(stemmed).map_or(&[], Vec::as_slice)
}
