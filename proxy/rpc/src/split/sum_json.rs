//! Adding up a number of several replies in JSON: 64 bits stand in quotes there, and either may.

use super::sum::{Number, Sum};

/// Above it a number with a point or an exponent is no exact integer.
const EXACT: f64 = 9_007_199_254_740_992.0;

impl Number {
    /// Adds a value, as it stands in JSON. `None` if it is no number.
    pub(super) fn add_json(self, sum: &mut Sum, value: &str) -> Option<()> {
        let text = value.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(value);
        match sum {
            Sum::Integer(sum) => *sum = sum.saturating_add(integer(text)?),
            Sum::Real(sum) => {
                *sum += match text {
                    "Infinity" => f64::INFINITY,
                    "-Infinity" => f64::NEG_INFINITY,
                    "NaN" => f64::NAN,
                    _ => text.parse().ok().filter(|number: &f64| number.is_finite())?,
                }
            }
        }
        Some(())
    }

    /// The sum as JSON. `None` if it is no number of this type.
    pub(super) fn json(self, sum: Sum) -> Option<String> {
        Some(match (self, sum) {
            (Number::Int32 | Number::Sint32 | Number::Sfixed32, Sum::Integer(sum)) => {
                i32::try_from(sum).ok()?.to_string()
            }
            (Number::Uint32 | Number::Fixed32, Sum::Integer(sum)) => u32::try_from(sum).ok()?.to_string(),
            (Number::Int64 | Number::Sint64 | Number::Sfixed64, Sum::Integer(sum)) => {
                format!("\"{}\"", i64::try_from(sum).ok()?)
            }
            (Number::Uint64 | Number::Fixed64, Sum::Integer(sum)) => {
                format!("\"{}\"", u64::try_from(sum).ok()?)
            }
            (Number::Float | Number::Double, Sum::Real(sum)) if sum.is_nan() => "\"NaN\"".to_owned(),
            (Number::Float, Sum::Real(sum)) => real(f64::from(sum as f32), format!("{:?}", sum as f32)),
            (Number::Double, Sum::Real(sum)) => real(sum, format!("{sum:?}")),
            _ => return None,
        })
    }
}

fn integer(text: &str) -> Option<i128> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    // `1.0` and `1e3` are integers, too.
    let number: f64 = text.parse().ok()?;
    (number.fract() == 0.0 && number.abs() < EXACT).then_some(number as i128)
}

/// What is written of a number that is one, or of one that has no end.
fn real(number: f64, text: String) -> String {
    match number {
        f64::INFINITY => "\"Infinity\"".to_owned(),
        f64::NEG_INFINITY => "\"-Infinity\"".to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(number: Number, values: &[&str]) -> Option<String> {
        let mut sum = number.zero();
        for value in values {
            number.add_json(&mut sum, value)?;
        }
        number.json(sum)
    }

    #[test]
    fn numbers_are_written_as_their_type_is() {
        assert_eq!(sum(Number::Int32, &["-5", "3", "\"1\"", "1e1"]).as_deref(), Some("9"));
        assert_eq!(sum(Number::Uint32, &["7", "8.0"]).as_deref(), Some("15"));
        assert_eq!(sum(Number::Int64, &["\"-7\"", "2"]).as_deref(), Some("\"-5\""));
        let large = u64::MAX - 1;
        assert_eq!(sum(Number::Uint64, &[&format!("\"{large}\""), "1"]), Some(format!("\"{}\"", u64::MAX)));
        assert_eq!(sum(Number::Double, &["1.5", "\"2\""]).as_deref(), Some("3.5"));
        assert_eq!(sum(Number::Float, &["0.1"]).as_deref(), Some("0.1"));
        assert_eq!(sum(Number::Double, &["\"Infinity\"", "1"]).as_deref(), Some("\"Infinity\""));
        assert_eq!(sum(Number::Double, &["\"Infinity\"", "\"-Infinity\""]).as_deref(), Some("\"NaN\""));
    }

    #[test]
    fn what_is_no_number_or_none_of_its_type_is_none() {
        for (number, values) in [
            (Number::Int32, &["2147483647", "1"][..]),
            (Number::Uint32, &["-1"]),
            (Number::Int64, &["\"9223372036854775807\"", "\"1\""]),
            (Number::Uint64, &["\"-1\""]),
            (Number::Int32, &["1.5"]),
            (Number::Int32, &["true"]),
            (Number::Int32, &["\"\""]),
            (Number::Double, &["{}"]),
            (Number::Double, &["\"inf\""]),
        ] {
            assert_eq!(sum(number, values), None, "{number:?} {values:?}");
        }
    }
}
