//! Rows of results, one column per contender: what is claimed with its verdict, and what was measured besides.

use crate::report::Table;

/// The verdicts.
const MET: &str = "MET";
const MISSED: &str = "**MISSED**";

/// One line of a table.
pub struct Row {
    pub case: String,
    pub measure: String,
    /// One for each contender.
    pub cells: Vec<String>,
    pub target: String,
    /// `None` when nothing is claimed.
    pub met: Option<bool>,
}

/// All rows of a run.
pub struct Rows {
    /// The names of contenders, in the order of cells.
    pub contenders: Vec<&'static str>,
    pub rows: Vec<Row>,
}

impl Rows {
    fn claims(&self) -> Table {
        let mut table = Table::new(self.head(&["target", "verdict"]));
        for row in &self.rows {
            if let Some(met) = row.met {
                let verdict = if met { MET } else { MISSED };
                table.row(row.numbers().chain([row.target.as_str(), verdict]));
            }
        }
        table
    }

    fn others(&self) -> Table {
        let mut table = Table::new(self.head(&[]));
        for row in self.rows.iter().filter(|row| row.met.is_none()) {
            table.row(row.numbers());
        }
        table
    }

    fn head(&self, last: &[&'static str]) -> Vec<&'static str> {
        ["case", "measure"].iter().chain(&self.contenders).chain(last).copied().collect()
    }

    /// How many claims do not hold.
    pub fn missed(&self) -> usize {
        self.rows.iter().filter(|row| row.met == Some(false)).count()
    }

    /// For the terminal.
    pub fn text(&self) -> String {
        let claims = self.claims().text().replace("**", "");
        match self.rows.iter().any(|row| row.met.is_none()) {
            true => format!("{claims}\nalso measured:\n{}", self.others().text()),
            false => claims,
        }
    }

    /// For a page: a missed target is marked, not left out.
    pub fn markdown(&self) -> String {
        let mut page = self.claims().markdown();
        let missed = self.missed();
        if missed > 0 {
            page.push_str(&format!("\n{missed} targets are missed in this run; they are marked.\n"));
        }
        page.push_str("\n## Also measured\n\n");
        page.push_str(&self.others().markdown());
        page
    }
}

impl Row {
    fn numbers(&self) -> impl Iterator<Item = &str> {
        [&self.case, &self.measure].into_iter().chain(&self.cells).map(String::as_str)
    }
}
