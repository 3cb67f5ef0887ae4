//! Rows of the read models: plain structs that serialise as their table's columns.
//!
//! Rows are read as JSON (`row_to_json`) and written column by column (`cells`): one statement moves any number of rows of
//! any view, and `json` columns keep their text.

use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

/// A row's primary key: a UUID and, where the table has a second key column, its text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub Uuid, pub String);

impl Key {
    pub fn of(id: impl Into<Uuid>) -> Self {
        Key(id.into(), String::new())
    }

    pub fn pair(id: impl Into<Uuid>, name: impl Into<String>) -> Self {
        Key(id.into(), name.into())
    }
}

/// A row of one table. Made by the `row!` macro.
pub trait Row: Serialize + DeserializeOwned + Send + Sync {
    const TABLE: &'static str;
    const KEY: &'static [&'static str];
    /// In the order of the fields.
    const COLUMNS: &'static [&'static str];
    /// Written once and never again.
    const INSERT_ONLY: bool = false;

    fn key(&self) -> Key;
}

/// Declares a row: its table, its key columns and how to read the key, its columns.
macro_rules! row {
    ($(#[$meta:meta])* pub struct $name:ident in $table:literal by [$($key:literal),+] = $of:expr; $(once $once:literal;)? {
        $( $(#[$fmeta:meta])* pub $field:ident : $ty:ty ),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        pub struct $name { $( $(#[$fmeta])* pub $field: $ty ),* }

        impl $crate::row::Row for $name {
            const TABLE: &'static str = $table;
            const KEY: &'static [&'static str] = &[$($key),+];
            const COLUMNS: &'static [&'static str] = &[$( stringify!($field) ),*];
            $( const INSERT_ONLY: bool = $once; )?

            fn key(&self) -> $crate::row::Key {
                let of: fn(&Self) -> $crate::row::Key = $of;
                of(self)
            }
        }
    };
}
pub(crate) use row;

/// A typed id in a `uuid` column.
pub(crate) mod id {
    use domain::ids::TypedId;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use uuid::Uuid;

    pub fn serialize<I: TypedId, S: Serializer>(id: &I, to: S) -> Result<S::Ok, S::Error> {
        let uuid: Uuid = (*id).into();
        uuid.serialize(to)
    }

    pub fn deserialize<'de, I: TypedId, D: Deserializer<'de>>(from: D) -> Result<I, D::Error> {
        Uuid::deserialize(from).map(I::from)
    }
}

/// A typed id in a `uuid` column that may be null.
pub(crate) mod optional_id {
    use domain::ids::TypedId;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use uuid::Uuid;

    pub fn serialize<I: TypedId, S: Serializer>(id: &Option<I>, to: S) -> Result<S::Ok, S::Error> {
        let uuid: Option<Uuid> = id.map(Into::into);
        uuid.serialize(to)
    }

    pub fn deserialize<'de, I: TypedId, D: Deserializer<'de>>(from: D) -> Result<Option<I>, D::Error> {
        Ok(Option::<Uuid>::deserialize(from)?.map(I::from))
    }
}
