//! The variants of a search: a list if they are few, otherwise drawn from the solved space.

use std::collections::HashMap;
use std::sync::Arc;

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use crate::space::{Layer, Part, Partition, Settings, Solutions, Space, Toggle, Variant, VariantError};

/// Largest number of listed variants: about 10 MB, found in milliseconds.
const LISTED: u128 = 1 << 17;

/// Largest number of variants that are enumerated to list a part of them: some seconds.
const WALKED: u128 = 1 << 24;

/// Number of draws for a valid variant, after which a walk from the default is used. One suffices if the whole space
/// was solved.
const DRAWS: usize = 200;

/// The candidates of a search. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Candidates {
    space: Arc<Space>,
    valid: Valid,
    /// A part of a space that is too large to list.
    part: Option<Arc<Part>>,
    first: Arc<[Variant]>,
}

#[derive(Debug, Clone)]
enum Valid {
    List(Arc<List>),
    Solved(Arc<Solutions>),
}

#[derive(Debug)]
struct List {
    variants: Vec<Variant>,
    positions: HashMap<Variant, u32>,
}

impl Candidates {
    /// The valid variants of a space.
    pub fn new(space: &Space) -> Self {
        Self::of_part(space, None)
    }

    /// The valid variants of a part of a space, and the default.
    pub fn of_part(space: &Space, partition: Option<Partition>) -> Self {
        let solutions = space.solve();
        let most = partition.map_or(LISTED, |partition| (LISTED * u128::from(partition.of())).min(WALKED));
        let is_listed = solutions.count().is_some_and(|count| count <= most);
        let part = partition.map(|partition| partition.of_space(space));
        let valid = match &part {
            _ if !is_listed => Valid::Solved(Arc::new(solutions)),
            None => Valid::List(Arc::new(List::new(solutions.list()))),
            Some(part) => {
                let belongs = |variant: &Variant| part.contains(variant) || *variant == space.default;
                Valid::List(Arc::new(List::new(solutions.variants().filter(belongs).collect())))
            }
        };
        let part = part.filter(|_| !is_listed).map(Arc::new);
        Self { space: Arc::new(space.clone()), valid, part, first: [space.default.clone()].into() }
    }

    /// These variants of a space and no others, in this order; its constraints are ignored. The default has no meaning
    /// here: it is the first variant of the record.
    pub fn recorded(space: Space, variants: Vec<Variant>) -> Self {
        Self { space: Arc::new(space), valid: Valid::List(Arc::new(List::new(variants))), part: None, first: [].into() }
    }

    /// Adds variants that every search tries first; those that are no candidates, or already among the first, are left
    /// out.
    #[must_use]
    pub fn beginning_with(mut self, variants: impl IntoIterator<Item = Variant>) -> Self {
        let mut first = self.first.to_vec();
        for variant in variants {
            if self.contains(&variant) && !first.contains(&variant) {
                first.push(variant);
            }
        }
        self.first = first.into();
        self
    }

    /// Keeps at most `n` of the variants that every search tries first.
    #[must_use]
    pub fn beginning_with_at_most(mut self, n: usize) -> Self {
        self.first = self.first.iter().take(n).cloned().collect();
        self
    }

    /// The toggles.
    pub fn toggles(&self) -> &[Toggle] {
        &self.space.toggles
    }

    /// The default variant; for a record, some candidate.
    pub fn default(&self) -> &Variant {
        &self.space.default
    }

    /// The variants that every search tries first, in this order: the default, which all others are compared with, and
    /// variants of earlier elites.
    pub fn first(&self) -> &[Variant] {
        &self.first
    }

    /// Number of candidates; `None` if the constraints are too many to count.
    #[allow(clippy::len_without_is_empty)] // there is always one
    pub fn len(&self) -> Option<u128> {
        match &self.valid {
            Valid::List(list) => Some(list.variants.len() as u128),
            Valid::Solved(solutions) => solutions.count().filter(|_| self.part.is_none()),
        }
    }

    /// Whether a valid variant is in the part; the default is in every part.
    fn is_in_part(&self, variant: &Variant) -> bool {
        self.part.as_ref().is_none_or(|part| part.contains(variant) || *variant == self.space.default)
    }

    /// All candidates in a fixed order, if they are few.
    pub fn list(&self) -> Option<&[Variant]> {
        match &self.valid {
            Valid::List(list) => Some(&list.variants),
            Valid::Solved(_) => None,
        }
    }

    /// Index of a candidate in [`list`](Self::list).
    pub fn position(&self, variant: &Variant) -> Option<usize> {
        match &self.valid {
            Valid::List(list) => list.positions.get(variant).map(|&position| position as usize),
            Valid::Solved(_) => None,
        }
    }

    /// Whether a variant is a candidate.
    pub fn contains(&self, variant: &Variant) -> bool {
        match &self.valid {
            Valid::List(list) => list.positions.contains_key(variant),
            Valid::Solved(solutions) => solutions.is_valid(variant) && self.is_in_part(variant),
        }
    }

    /// A candidate's toggles with their values.
    pub fn settings(&self, variant: &Variant) -> Settings {
        self.space.settings(variant)
    }

    /// The variant with these values; see [`Space::variant`].
    pub fn variant(&self, settings: &Settings) -> Result<Variant, VariantError> {
        self.space.variant(settings)
    }

    /// All candidates in a fixed order, one at a time if they are many.
    pub fn each(&self) -> Box<dyn Iterator<Item = Variant> + Send> {
        match &self.valid {
            Valid::List(list) => {
                let list = Arc::clone(list);
                Box::new((0..list.variants.len()).map(move |at| list.variants[at].clone()))
            }
            Valid::Solved(solutions) => {
                let candidates = self.clone();
                Box::new((**solutions).clone().into_variants().filter(move |variant| candidates.is_in_part(variant)))
            }
        }
    }

    /// A random candidate, each with the same probability; `None` if there is none. If valid candidates are so rare
    /// that draws fail, a random walk from the default finds one, which is not uniform.
    pub fn sample(&self, rng: &mut ChaCha8Rng) -> Option<Variant> {
        let solutions = match &self.valid {
            Valid::List(list) => {
                let count = list.variants.len();
                return (count > 0).then(|| list.variants[rng.random_range(0..count)].clone());
            }
            Valid::Solved(solutions) => solutions,
        };
        // With several parts, more draws are needed, since most are of other parts.
        for _ in 0..self.part.as_ref().map_or(1, |part| DRAWS * part.partition().of() as usize) {
            match solutions.draw(rng, DRAWS) {
                Some(variant) if self.is_in_part(&variant) => return Some(variant),
                Some(_) => {}
                None => break,
            }
        }
        let mut variant = self.space.default.clone();
        for _ in 0..self.space.toggles.len() {
            let neighbours = self.neighbours(&variant);
            if neighbours.is_empty() {
                break;
            }
            variant = neighbours[rng.random_range(0..neighbours.len())].clone();
        }
        Some(variant)
    }

    /// The candidates that differ from `variant` in one toggle, by toggle.
    pub fn neighbours(&self, variant: &Variant) -> Vec<Variant> {
        let list = match &self.valid {
            Valid::List(list) => list,
            Valid::Solved(solutions) => {
                let mut found = solutions.neighbours(variant);
                found.retain(|neighbour| self.is_in_part(neighbour));
                return found;
            }
        };
        let mut found = Vec::new();
        let mut changed = variant.clone();
        for (toggle, values) in self.space.toggles.iter().map(|toggle| toggle.values.len()).enumerate() {
            for value in (0..values as u16).filter(|&value| value != variant.0[toggle]) {
                changed.0[toggle] = value;
                if list.positions.contains_key(&changed) {
                    found.push(changed.clone());
                }
            }
            changed.0[toggle] = variant.0[toggle];
        }
        found
    }

    /// The candidates that differ from `base` in toggles of `layer` only, `base` itself included.
    pub fn of_layer<'c>(&'c self, layer: Layer, base: &'c Variant) -> Box<dyn Iterator<Item = Variant> + 'c> {
        let Some(list) = self.list() else {
            let variants = self.space.variants_of_layer(layer, base);
            return Box::new(variants.filter(|variant| self.is_in_part(variant)));
        };
        let same = move |variant: &&Variant| {
            let mut pairs = self.space.toggles.iter().zip(variant.0.iter().zip(&base.0));
            pairs.all(|(toggle, (value, of_base))| toggle.layer == layer || value == of_base)
        };
        Box::new(list.iter().filter(same).cloned())
    }
}

impl List {
    fn new(variants: Vec<Variant>) -> Self {
        let positions =
            variants.iter().enumerate().map(|(position, variant)| (variant.clone(), position as u32)).collect();
        Self { variants, positions }
    }
}
