//! Opaque places in a list: a direction, the order's key and the id beside it, as hex.

use std::fmt;

use uuid::Uuid;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// Towards the list's beginning.
    pub backwards: bool,
    pub key: i64,
    pub id: Uuid,
}

impl Cursor {
    pub fn parse(text: &str) -> Result<Cursor, ()> {
        let mut bytes = [0u8; 25];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| ())?;
        let backwards = match bytes[0] {
            0 => false,
            1 => true,
            _ => return Err(()),
        };
        let key = bytes[1..9].try_into().map(i64::from_be_bytes).map_err(|_| ())?;
        let id = Uuid::from_slice(&bytes[9..]).map_err(|_| ())?;
        Ok(Cursor { backwards, key, id })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}{:016x}{}", u8::from(self.backwards), self.key, self.id.simple())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_refuses() {
        let cursor = Cursor { backwards: true, key: -5, id: Uuid::from_u128(7) };
        assert_eq!(Cursor::parse(&cursor.to_string()), Ok(cursor));
        for bad in ["", "00", "02000000000000000500000000000000000000000000000007", "x"] {
            assert_eq!(Cursor::parse(bad), Err(()));
        }
    }
}
