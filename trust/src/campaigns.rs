//! The campaigns. Each tries many cases and reports how many, and the first violation.

pub mod exhaustive;
pub mod faults;
pub mod fills;
pub mod flips;
pub mod linear;
pub mod protocol;
pub mod random;
pub mod rates;
pub mod space;

/// What a campaign found.
#[derive(Debug, Default)]
pub struct Report {
    pub cases: u64,
    pub violations: u64,
    /// The first violation, and how to repeat it.
    pub first: Option<String>,
    /// Further counts, in words.
    pub notes: Vec<String>,
}

impl Report {
    pub fn violate(&mut self, what: String) {
        self.violations += 1;
        self.first.get_or_insert(what);
    }

    pub fn add(&mut self, other: Report) {
        self.cases += other.cases;
        self.violations += other.violations;
        if self.first.is_none() {
            self.first = other.first;
        }
        self.notes.extend(other.notes);
    }
}

/// How much a campaign does, and from where it starts.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    pub seed: u64,
    /// How many cases at least, where that is a choice.
    pub cases: u64,
    /// Stop at the first violation.
    pub first_only: bool,
}

impl Effort {
    /// Whether a campaign with this report has done enough.
    pub fn is_done(&self, report: &Report) -> bool {
        report.cases >= self.cases || (self.first_only && report.violations > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small part of what `.ci/campaigns` does, for `.ci/mutants`.
    #[test]
    fn a_short_run_of_crashes_and_faults_finds_nothing() {
        let effort = Effort {
            seed: 1,
            cases: 1500,
            first_only: true,
        };
        for run in [random::run, faults::run] {
            let report = run(effort);
            assert!(report.cases > 0);
            assert_eq!(report.first, None);
        }
    }
}
