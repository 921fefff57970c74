//! Entrants of a comparison, and their identity.

use crate::config::Kernel;
use crate::harness::Candidate;
use crate::record::journal::EntryRole;

/// An entrant of a comparison.
#[derive(Debug, Clone)]
pub enum Entrant {
    /// A candidate.
    Candidate(Candidate),
    /// The second measurement of a candidate, whose difference from the first is noise.
    Again(Candidate),
    /// A baseline: an index into [`Kernel::baselines`].
    Baseline(usize),
}

/// Identity of an entrant: two are equal if they are the same variant of the same source, or the same baseline. Names
/// do not count, so a baseline with the name of a variant is another entrant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntrantId {
    /// A candidate, at its first or second measurement.
    Candidate(Candidate),
    /// A baseline: an index into [`Kernel::baselines`].
    Baseline(usize),
}

impl Entrant {
    /// Identity.
    pub fn id(&self) -> EntrantId {
        match self {
            Entrant::Candidate(candidate) | Entrant::Again(candidate) => EntrantId::Candidate(candidate.clone()),
            Entrant::Baseline(index) => EntrantId::Baseline(*index),
        }
    }

    pub(super) fn role(&self) -> EntryRole {
        match self {
            Entrant::Candidate(_) => EntryRole::Variant,
            Entrant::Again(_) => EntryRole::Again,
            Entrant::Baseline(_) => EntryRole::Baseline,
        }
    }
}

impl EntrantId {
    /// Name in messages and files.
    pub fn name(&self, kernel: &Kernel) -> String {
        match self {
            EntrantId::Candidate(candidate) => candidate.label(kernel),
            EntrantId::Baseline(index) => kernel.baselines[*index].name.clone(),
        }
    }
}

impl<C: Into<Candidate>> From<C> for EntrantId {
    fn from(candidate: C) -> Self {
        EntrantId::Candidate(candidate.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::fixture;
    use crate::space::Variant;

    #[test]
    fn an_entrant_has_a_name_a_role_and_the_identity_of_its_variant() {
        let project = fixture::project("baselines.naive = { source = \"k.c\", entry = \"k\" }");
        let candidate = Candidate::from(&Variant(vec![2]));
        let entrants = [Entrant::Candidate(candidate.clone()), Entrant::Again(candidate), Entrant::Baseline(0)];
        let names = entrants.each_ref().map(|entrant| entrant.id().name(&project.packages[0].kernels[0]));
        assert_eq!(names, ["T=3", "T=3", "naive"]);
        let roles = entrants.each_ref().map(Entrant::role);
        assert_eq!(roles, [EntryRole::Variant, EntryRole::Again, EntryRole::Baseline]);
        assert!(entrants[0].id() == entrants[1].id() && entrants[0].id() != entrants[2].id());
    }
}
