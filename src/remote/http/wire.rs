//! Reading JSON from services that are careless about types.
//!
//! Numbers arrive as strings, strings as numbers, flags as 0 and 1. What cannot be read at all is an
//! error, never a default.

use std::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

/// A whole number that may arrive as a string or as a float without fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize)]
#[serde(transparent)]
pub struct Int(pub i64);

impl Int {
    /// `None` if it is negative.
    pub fn unsigned(self) -> Option<u64> {
        u64::try_from(self.0).ok()
    }
}

/// A text that may arrive as a number.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
#[serde(transparent)]
pub struct Text(pub String);

/// A flag that may arrive as 0, 1, "true" or "false".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize)]
#[serde(transparent)]
pub struct Flag(pub bool);

/// An error code: some services use numbers, some words, some both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Code {
    Number(i64),
    Word(String),
}

impl Code {
    pub fn is_zero(&self) -> bool {
        *self == Code::Number(0)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Code::Number(number) => write!(f, "{number}"),
            Code::Word(word) => f.write_str(word),
        }
    }
}

/// What a scalar was, before anybody decided what it should be.
enum Scalar {
    Number(i64),
    Text(String),
    Flag(bool),
}

struct ScalarVisitor;

impl Visitor<'_> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, a text or a flag")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar::Flag(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Scalar, E> {
        Ok(Scalar::Number(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Scalar, E> {
        let number = i64::try_from(value).map_err(|_| E::custom("the number is too large"))?;
        Ok(Scalar::Number(number))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Scalar, E> {
        whole(value).map(Scalar::Number).ok_or_else(|| E::custom("not a whole number"))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(value.to_owned()))
    }
}

/// The exact integer that a float stands for; beyond 2^53 a float no longer tells.
fn whole(value: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    (value.fract() == 0.0 && value.abs() <= EXACT).then_some(value as i64)
}

fn number_of(text: &str) -> Option<i64> {
    let text = text.trim();
    text.parse().ok().or_else(|| whole(text.parse().ok()?))
}

impl<'de> Deserialize<'de> for Int {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Int, D::Error> {
        match from.deserialize_any(ScalarVisitor)? {
            Scalar::Number(number) => Ok(Int(number)),
            Scalar::Text(text) => {
                number_of(&text).map(Int).ok_or_else(|| de::Error::custom("not a whole number"))
            }
            Scalar::Flag(_) => Err(de::Error::custom("a flag where a number should be")),
        }
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Text, D::Error> {
        match from.deserialize_any(ScalarVisitor)? {
            Scalar::Number(number) => Ok(Text(number.to_string())),
            Scalar::Text(text) => Ok(Text(text)),
            Scalar::Flag(_) => Err(de::Error::custom("a flag where a text should be")),
        }
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Flag, D::Error> {
        let flag = match from.deserialize_any(ScalarVisitor)? {
            Scalar::Flag(flag) => Some(flag),
            Scalar::Number(number) => flag_of(&number.to_string()),
            Scalar::Text(text) => flag_of(&text),
        };
        flag.map(Flag).ok_or_else(|| de::Error::custom("neither true nor false"))
    }
}

fn flag_of(text: &str) -> Option<bool> {
    match text {
        "1" | "true" => Some(true),
        "0" | "false" | "" => Some(false),
        _ => None,
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Code, D::Error> {
        match from.deserialize_any(ScalarVisitor)? {
            Scalar::Number(number) => Ok(Code::Number(number)),
            Scalar::Text(text) => Ok(number_of(&text).map_or(Code::Word(text), Code::Number)),
            Scalar::Flag(_) => Err(de::Error::custom("a flag where a code should be")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: for<'de> Deserialize<'de>>(json: &str) -> Option<T> {
        serde_json::from_str(json).ok()
    }

    // RM-21
    #[test]
    fn numbers_are_read_whatever_type_they_arrive_as() {
        for json in ["1024", "\"1024\"", "1024.0", "1.024e3", "\" 1024 \"", "\"1.024e3\""] {
            assert_eq!(read(json), Some(Int(1024)), "{json}");
        }
        assert_eq!(read("17569901563698"), Some(Int(17_569_901_563_698)));
    }

    // RM-21
    #[test]
    fn what_is_no_number_is_an_error_and_not_zero() {
        for json in
            ["null", "\"\"", "\"abc\"", "1.5", "true", "[]", "{}", "1e300", "18446744073709551615"]
        {
            assert_eq!(read::<Int>(json), None, "{json}");
        }
    }

    #[test]
    fn codes_are_numbers_or_words() {
        assert!(read::<Code>("\"0\"").unwrap().is_zero());
        assert_eq!(read("\"200\""), Some(Code::Number(200)));
        assert_eq!(read("\"invalid_surl\""), Some(Code::Word("invalid_surl".into())));
        assert_eq!(read::<Code>("null"), None);
    }

    #[test]
    fn flags_and_texts_are_tolerant_too() {
        assert_eq!(read("1"), Some(Flag(true)));
        assert_eq!(read("\"false\""), Some(Flag(false)));
        assert_eq!(read::<Flag>("\"maybe\""), None);
        assert_eq!(read("17"), Some(Text("17".into())));
    }

    // SE-19
    #[test]
    fn deep_nesting_is_an_error_and_no_stack_overflow() {
        let deep = "[".repeat(1_000_000);
        assert!(serde_json::from_str::<serde_json::Value>(&deep).is_err());
    }
}
