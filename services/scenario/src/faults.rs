//! What went wrong, counted by text. Bounded: whatever a server writes, the table stays small.

use std::collections::BTreeMap;

/// Different texts that are kept; the rest counts as `_other`.
const TEXTS: usize = 64;
/// Longest text kept, bytes.
const TEXT_MAX: usize = 200;

/// Counts by text.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    counts: BTreeMap<String, u64>,
}

impl Faults {
    /// Counts `times` of a known text.
    pub fn note(&mut self, text: &str, times: u64) {
        if times == 0 {
            return;
        }
        if let Some(count) = self.counts.get_mut(text) {
            *count += times;
            return;
        }
        let text = if self.counts.len() < TEXTS { text } else { "_other" };
        *self.counts.entry(text.to_owned()).or_default() += times;
    }

    /// Counts an error line of the server. Runs of digits become `N`, so that "17324 operations asked" and "19876
    /// operations asked" are one text.
    pub fn note_line(&mut self, line: &[u8]) {
        let mut text = String::new();
        let mut in_digits = false;
        for byte in line.iter().take(TEXT_MAX) {
            let digit = byte.is_ascii_digit();
            match byte {
                _ if digit && in_digits => {}
                _ if digit => text.push('N'),
                b' '..=b'~' => text.push(char::from(*byte)),
                _ => text.push('?'),
            }
            in_digits = digit;
        }
        self.note(&text, 1);
    }

    /// The counts.
    pub fn counts(&self) -> &BTreeMap<String, u64> {
        &self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_do_not_multiply_texts_and_the_table_is_bounded() {
        let mut faults = Faults::default();
        faults.note_line(b"SERVER_ERROR 17324 operations asked, 2000 allowed");
        faults.note_line(b"SERVER_ERROR 20000 operations asked, 2000 allowed");
        assert_eq!(faults.counts().get("SERVER_ERROR N operations asked, N allowed"), Some(&2));
        for n in 0..1_000u32 {
            let letters: String = (0..10).map(|b| if n >> b & 1 == 1 { 'x' } else { 'y' }).collect();
            faults.note(&letters, 1);
        }
        assert_eq!(faults.counts().len(), TEXTS + 1);
        assert_eq!(faults.counts().values().sum::<u64>(), 1_002);
        faults.note_line(b"\x1b[31m\n");
        assert!(faults.counts().keys().all(|text| text.chars().all(|c| (' '..='~').contains(&c))));
    }
}
