//! What happened in a run, and what must have happened often for it to mean anything.

/// What happened.
#[derive(Debug, Default)]
pub struct Tally {
    /// Requests that read.
    pub reads: u64,
    /// Those that gave rows.
    pub with_rows: u64,
    /// Those that ended with an error.
    pub errors: u64,
    /// Requests that wrote.
    pub writes: u64,
    /// Those that ended with an error.
    pub write_errors: u64,
    /// By weir's own counts: requests that were split.
    pub splits: f64,
    /// Reads that joined others.
    pub joined: f64,
    /// Answers that were given again.
    pub kept: f64,
    /// Answers that a write ended.
    pub outdated: f64,
}

impl Tally {
    /// Adds those of another run.
    pub fn add(&mut self, other: &Tally) {
        self.reads += other.reads;
        self.with_rows += other.with_rows;
        self.errors += other.errors;
        self.writes += other.writes;
        self.write_errors += other.write_errors;
        self.splits += other.splits;
        self.joined += other.joined;
        self.kept += other.kept;
        self.outdated += other.outdated;
    }

    /// In a run of the usual length each of what is tested must have happened often.
    pub fn assert_usual(&self) {
        assert!(self.reads >= 2_200 && self.with_rows * 2 > self.reads, "reads with rows: {self:?}");
        assert!(self.errors * 4 < self.reads && self.errors >= 120, "some errors, not many: {self:?}");
        assert!(self.writes >= 200 && self.write_errors * 4 < self.writes, "writes: {self:?}");
        assert!(self.splits >= 280.0, "requests were split: {self:?}");
        assert!(self.joined >= 2_000.0, "reads joined others: {self:?}");
        assert!(self.kept >= 1_500.0, "answers were given again: {self:?}");
        assert!(self.outdated >= 350.0, "writes ended answers that were kept: {self:?}");
    }
}
