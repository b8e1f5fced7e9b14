//! What a command prints: headings, tables that line up, and the time of each step.

use std::time::{Duration, Instant};

/// A table of text cells: the first row is the head.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column heads.
    pub fn new<I: IntoIterator<Item = S>, S: Into<String>>(head: I) -> Self {
        Self { rows: vec![head.into_iter().map(Into::into).collect()] }
    }

    /// Adds a row; missing cells are empty.
    pub fn row<I: IntoIterator<Item = S>, S: Into<String>>(&mut self, cells: I) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    fn widths(&self) -> Vec<usize> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        (0..columns).map(width).collect()
    }

    /// For a terminal: columns padded with spaces, a rule below the head.
    pub fn text(&self) -> String {
        let widths = self.widths();
        let mut out = String::new();
        for (index, row) in self.rows.iter().enumerate() {
            let cells = widths.iter().enumerate().map(|(column, width)| {
                let cell = row.get(column).map_or("", String::as_str);
                format!("{cell:width$}")
            });
            out.push_str(format!("  {}", cells.collect::<Vec<_>>().join("  ")).trim_end());
            out.push('\n');
            if index == 0 {
                let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
                out.push_str(format!("  {}", rule.join("  ")).trim_end());
                out.push('\n');
            }
        }
        out
    }

    /// For a page: Markdown, with `|` escaped.
    pub fn markdown(&self) -> String {
        let columns = self.widths().len();
        let mut out = String::new();
        for (index, row) in self.rows.iter().enumerate() {
            let cell =
                |column| row.get(column).map_or(String::new(), |cell: &String| cell.replace('|', "\\|"));
            out.push_str(&format!("| {} |\n", (0..columns).map(cell).collect::<Vec<_>>().join(" | ")));
            if index == 0 {
                out.push_str(&format!("|{}\n", "---|".repeat(columns)));
            }
        }
        out
    }
}

/// A step of a command, with the time it took.
#[derive(Debug)]
pub struct Steps {
    begun: Instant,
    done: Vec<(String, Duration)>,
}

impl Steps {
    /// No step yet.
    pub fn new() -> Self {
        Self { begun: Instant::now(), done: Vec::new() }
    }

    /// Runs one step under a heading and keeps its time, also when it fails.
    pub fn step<T>(&mut self, name: &str, run: impl FnOnce() -> T) -> T {
        heading(name);
        let begun = Instant::now();
        let result = run();
        self.done.push((name.to_owned(), begun.elapsed()));
        result
    }

    /// The time of each step and of all.
    pub fn print(&self) {
        let mut table = Table::new(["step", "time"]);
        for (name, took) in &self.done {
            table.row([name.clone(), seconds(*took)]);
        }
        table.row(["all".to_owned(), seconds(self.begun.elapsed())]);
        println!("\n{}", table.text());
    }
}

/// A line that a reader's eye finds again.
pub fn heading(name: &str) {
    println!("\n==> {name}");
}

/// A time as people read it: `0.4 s`, `12.3 s`, `3 min 05 s`.
pub fn seconds(time: Duration) -> String {
    let total = time.as_secs_f64();
    if total < 100.0 {
        return format!("{total:.1} s");
    }
    let whole = total.round() as u64;
    format!("{} min {:02} s", whole / 60, whole % 60)
}

/// A whole number with its thousands apart: `15,000`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_line_up() {
        let mut table = Table::new(["suite", "time"]);
        table.row(["fmt", "0.1 s"]);
        table.row(["clippy"]);
        assert_eq!(table.text(), "  suite   time\n  ------  -----\n  fmt     0.1 s\n  clippy\n");
        assert_eq!(table.markdown(), "| suite | time |\n|---|---|\n| fmt | 0.1 s |\n| clippy |  |\n");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(15_000), "15,000");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(seconds(Duration::from_millis(1_240)), "1.2 s");
        assert_eq!(seconds(Duration::from_secs(185)), "3 min 05 s");
    }
}
