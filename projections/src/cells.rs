//! Rows as columns: each column of many rows is one text array, which Postgres casts to the column's own type.
//!
//! Half the work of `json_populate_recordset` and no macro for each type: a row says by `Serialize` what it holds.

use std::{collections::HashMap, sync::Arc};

use serde::{Serialize, ser};
use sqlx::{
    Encode, PgConnection, Postgres, Type,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgTypeInfo},
};
use uuid::Uuid;

/// What must be told apart before a value can be a text that Postgres casts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Keeps JSON as it is, strings with their quotes.
    Json,
    /// A JSON list of strings becomes an array literal.
    Texts,
    /// Sent as it is stored: half of a row's columns are ids, and reading them as text costs a tenth of a rebuild.
    Uuid,
    Plain,
}

#[derive(Debug, Clone)]
struct ColumnType {
    sql: Arc<str>,
    kind: Kind,
}

/// The types of the read models' columns, by table and column, as the database has them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Types(HashMap<String, HashMap<String, ColumnType>>);

impl Types {
    pub async fn read(db: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let found: Vec<(String, String, String)> = sqlx::query_as(
            "select c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod) from pg_class c
               join pg_namespace n on n.oid = c.relnamespace and n.nspname = 'read_models'
               join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
              where c.relkind = 'r'",
        )
        .fetch_all(db)
        .await?;
        let kind = |sql: &str| match sql {
            "json" | "jsonb" => Kind::Json,
            "text[]" => Kind::Texts,
            "uuid" => Kind::Uuid,
            _ => Kind::Plain,
        };
        let mut types = Self::default();
        for (table, column, sql) in found {
            types.0.entry(table).or_default().insert(column, ColumnType { kind: kind(&sql), sql: sql.into() });
        }
        Ok(types)
    }

    /// The column's type as SQL writes it.
    pub fn sql_of(&self, table: &str, column: &str) -> Arc<str> {
        self.of(table, column).sql
    }

    fn of(&self, table: &str, column: &str) -> ColumnType {
        let missing = || ColumnType { sql: "text".into(), kind: Kind::Plain };
        // A column that the database lacks makes the statement fail, by name.
        self.0.get(table).and_then(|columns| columns.get(column)).cloned().unwrap_or_else(missing)
    }
}

/// One column of many rows: the body of a binary `text[]` (`uuid[]` for ids).
#[derive(Debug)]
pub(crate) struct Column {
    pub name: &'static str,
    ty: ColumnType,
    body: Vec<u8>,
    rows: i32,
    nulls: bool,
}

impl Column {
    /// The SQL type that the texts are cast to.
    pub fn sql_type(&self) -> &str {
        &self.ty.sql
    }

    fn push(&mut self, text: Option<&[u8]>) {
        self.rows += 1;
        match text {
            Some(text) => {
                self.body.extend_from_slice(&i32::try_from(text.len()).unwrap_or(i32::MAX).to_be_bytes());
                self.body.extend_from_slice(text);
            }
            None => {
                self.nulls = true;
                self.body.extend_from_slice(&(-1i32).to_be_bytes());
            }
        }
    }

    /// A value as `serde_json` writes it.
    fn push_json(&mut self, json: &[u8]) -> Result<(), serde_json::Error> {
        match (self.ty.kind, json) {
            (_, b"null") => self.push(None),
            (Kind::Texts, [b'[', ..]) => {
                let texts: Vec<String> = serde_json::from_slice(json)?;
                let quoted: Vec<String> =
                    texts.iter().map(|t| format!("\"{}\"", t.replace('\\', "\\\\").replace('"', "\\\""))).collect();
                self.push(Some(format!("{{{}}}", quoted.join(",")).as_bytes()));
            }
            (Kind::Uuid, [b'"', inner @ .., b'"']) => {
                let id = Uuid::try_parse_ascii(inner).map_err(ser::Error::custom)?;
                self.push(Some(id.as_bytes()));
            }
            (Kind::Plain | Kind::Texts, [b'"', inner @ .., b'"']) => {
                if inner.contains(&b'\\') {
                    let text: String = serde_json::from_slice(json)?;
                    self.push(Some(text.as_bytes()));
                } else {
                    self.push(Some(inner));
                }
            }
            (_, other) => self.push(Some(other)),
        }
        Ok(())
    }
}

impl Type<Postgres> for Column {
    fn type_info() -> PgTypeInfo {
        <Vec<String> as Type<Postgres>>::type_info()
    }
}

impl<'q> Encode<'q, Postgres> for &Column {
    fn produces(&self) -> Option<PgTypeInfo> {
        (self.ty.kind == Kind::Uuid).then(<Vec<Uuid> as Type<Postgres>>::type_info)
    }

    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        const TEXT: i32 = 25;
        const UUID: i32 = 2950;
        let element = if self.ty.kind == Kind::Uuid { UUID } else { TEXT };
        for number in [1, i32::from(self.nulls), element, self.rows, 1] {
            buffer.extend_from_slice(&number.to_be_bytes());
        }
        buffer.extend_from_slice(&self.body);
        Ok(IsNull::No)
    }
}

/// Rows of one table, column by column.
pub(crate) struct Columns {
    pub all: Vec<Column>,
    scratch: Vec<u8>,
}

impl Columns {
    pub fn new(types: &Types, table: &str, names: &'static [&'static str]) -> Self {
        let column =
            |name: &&'static str| Column { name, ty: types.of(table, name), body: Vec::new(), rows: 0, nulls: false };
        Self { all: names.iter().map(column).collect(), scratch: Vec::new() }
    }

    /// Adds a row; gives its size in bytes. The fields stand in the columns' order.
    pub fn push(&mut self, row: &impl Serialize) -> Result<usize, serde_json::Error> {
        let before: usize = self.all.iter().map(|c| c.body.len()).sum();
        row.serialize(Fields { columns: self, next: 0 })?;
        Ok(self.all.iter().map(|c| c.body.len()).sum::<usize>() - before)
    }
}

/// Takes a struct apart into its fields; refuses everything else.
struct Fields<'a> {
    columns: &'a mut Columns,
    next: usize,
}

impl ser::SerializeStruct for Fields<'_> {
    type Ok = ();
    type Error = serde_json::Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Self::Error> {
        let columns = &mut *self.columns;
        columns.scratch.clear();
        serde_json::to_writer(&mut columns.scratch, value)?;
        let column = columns.all.get_mut(self.next).filter(|c| c.name == name);
        let column = column.ok_or_else(|| ser::Error::custom(format!("there is no column {name} here")))?;
        self.next += 1;
        column.push_json(&columns.scratch)
    }

    fn end(self) -> Result<(), Self::Error> {
        match self.next == self.columns.all.len() {
            true => Ok(()),
            false => Err(ser::Error::custom("a row lacks a column")),
        }
    }
}

macro_rules! refuse {
    ($($name:ident($($ty:ty),*) $(<$t:ident>)? -> $ok:ty),* $(,)?) => {
        $( fn $name $(<$t: Serialize + ?Sized>)? (self, $(_: $ty),*) -> Result<$ok, Self::Error> {
            Err(ser::Error::custom("a row is a struct"))
        } )*
    };
}

type Never = ser::Impossible<(), serde_json::Error>;

impl<'a> ser::Serializer for Fields<'a> {
    type Ok = ();
    type Error = serde_json::Error;
    type SerializeSeq = Never;
    type SerializeTuple = Never;
    type SerializeTupleStruct = Never;
    type SerializeTupleVariant = Never;
    type SerializeMap = Never;
    type SerializeStruct = Fields<'a>;
    type SerializeStructVariant = Never;

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct, Self::Error> {
        Ok(self)
    }

    refuse! {
        serialize_bool(bool) -> (),
        serialize_i8(i8) -> (),
        serialize_i16(i16) -> (),
        serialize_i32(i32) -> (),
        serialize_i64(i64) -> (),
        serialize_u8(u8) -> (),
        serialize_u16(u16) -> (),
        serialize_u32(u32) -> (),
        serialize_u64(u64) -> (),
        serialize_f32(f32) -> (),
        serialize_f64(f64) -> (),
        serialize_char(char) -> (),
        serialize_str(&str) -> (),
        serialize_bytes(&[u8]) -> (),
        serialize_none() -> (),
        serialize_some(&T) <T> -> (),
        serialize_unit() -> (),
        serialize_unit_struct(&'static str) -> (),
        serialize_unit_variant(&'static str, u32, &'static str) -> (),
        serialize_newtype_struct(&'static str, &T) <T> -> (),
        serialize_newtype_variant(&'static str, u32, &'static str, &T) <T> -> (),
        serialize_seq(Option<usize>) -> Never,
        serialize_tuple(usize) -> Never,
        serialize_tuple_struct(&'static str, usize) -> Never,
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Never,
        serialize_map(Option<usize>) -> Never,
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Never,
    }
}
