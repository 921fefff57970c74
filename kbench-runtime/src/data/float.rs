//! Floating-point numbers in JSON, which has no infinity and no NaN.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

// Without `with = "Float"` serde writes `null`, and does not read it as a number.
/// A number, or the name of a value that JSON lacks.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Float {
    /// A finite number.
    Number(f64),
    /// An infinity or NaN.
    Name(Name),
}

/// Values that JSON has no number for.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub enum Name {
    /// Positive infinity.
    #[serde(rename = "inf")]
    Infinity,
    /// Negative infinity.
    #[serde(rename = "-inf")]
    NegativeInfinity,
    /// NaN.
    #[serde(rename = "nan")]
    Nan,
}

impl Float {
    /// Serialises a number, for `#[serde(with = "Float")]`.
    pub fn serialize<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        let float = match *number {
            number if number.is_finite() => Float::Number(number),
            number if number.is_nan() => Float::Name(Name::Nan),
            number if number > 0.0 => Float::Name(Name::Infinity),
            _ => Float::Name(Name::NegativeInfinity),
        };
        Serialize::serialize(&float, serializer)
    }

    /// Reads a number, or the name `inf`, `-inf` or `nan`, for `#[serde(with = "Float")]`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(match Deserialize::deserialize(deserializer)? {
            Float::Number(number) => number,
            Float::Name(Name::Infinity) => f64::INFINITY,
            Float::Name(Name::NegativeInfinity) => f64::NEG_INFINITY,
            Float::Name(Name::Nan) => f64::NAN,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_can_be_read_again() {
        #[derive(Serialize, Deserialize)]
        struct Record(#[serde(with = "Float")] f64);
        for number in [0.0, -0.0, 1.5, f64::MAX, 5e-324, 0.1 + 0.2, f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
            let text = serde_json::to_string(&Record(number)).unwrap();
            let Record(read) = serde_json::from_str(&text).unwrap();
            assert!(read.to_bits() == number.to_bits() || read.is_nan() && number.is_nan(), "{number}: {text}");
        }
        assert_eq!(serde_json::from_str::<Record>("3").unwrap().0.to_bits(), 3f64.to_bits(), "an integer");
        assert!(serde_json::from_str::<Record>("\"x\"").is_err());
    }
}
