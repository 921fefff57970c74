//! The variants that a strategy chooses from: listed where they are few, else drawn from the solved space as they are needed.

use std::collections::HashMap;
use std::sync::Arc;

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use crate::space::{Layer, Part, Partition, Settings, Solutions, Space, Toggle, Variant, VariantError};

/// Most variants that are listed: some 10 MB of them, found in milliseconds.
const LISTED: u128 = 1 << 17;

/// Most variants that are walked through to list a part of them: some seconds.
const WALKED: u128 = 1 << 24;

/// Draws for a valid variant before a walk from the default finds one. One is enough where the whole space could be solved.
const DRAWS: usize = 200;

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Candidates {
    space: Arc<Space>,
    valid: Valid,
    /// The part of a space that is too large to list.
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

    /// These variants of a space and no others, in this order; its constraints are ignored. The default says nothing, it is
    /// merely what the record has first.
    pub fn recorded(space: Space, variants: Vec<Variant>) -> Self {
        Self { space: Arc::new(space), valid: Valid::List(Arc::new(List::new(variants))), part: None, first: [].into() }
    }

    /// With more variants that every search tries first; those that are no candidates, or already among the first, are left out.
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

    /// The toggles.
    pub fn toggles(&self) -> &[Toggle] {
        &self.space.toggles
    }

    /// The default variant; some candidate where they were recorded.
    pub fn default(&self) -> &Variant {
        &self.space.default
    }

    /// What every search tries first, in this order: the default, since all else is compared with it, and variants that did well
    /// elsewhere.
    pub fn first(&self) -> &[Variant] {
        &self.first
    }

    /// How many there are; `None` where the constraints are too many to count.
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

    /// All, in a fixed order, where they are few.
    pub fn list(&self) -> Option<&[Variant]> {
        match &self.valid {
            Valid::List(list) => Some(&list.variants),
            Valid::Solved(_) => None,
        }
    }

    /// The place in [`list`](Self::list) of a candidate.
    pub fn position(&self, variant: &Variant) -> Option<usize> {
        match &self.valid {
            Valid::List(list) => list.positions.get(variant).map(|&position| position as usize),
            Valid::Solved(_) => None,
        }
    }

    /// Whether it is one of the candidates.
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

    /// Those in a fixed order, found one at a time where they are many.
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

    /// A random one, each with the same probability; `None` where there is none. Where valid ones are so rare that chance does not
    /// find one, a random walk from the default does, which is not uniform.
    pub fn sample(&self, rng: &mut ChaCha8Rng) -> Option<Variant> {
        let solutions = match &self.valid {
            Valid::List(list) => {
                let count = list.variants.len();
                return (count > 0).then(|| list.variants[rng.random_range(0..count)].clone());
            }
            Valid::Solved(solutions) => solutions,
        };
        // Of several parts, as many draws more are of another part.
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

    /// Those that differ from `variant` in one toggle, toggle by toggle.
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

    /// Those that differ from `base` in toggles of `layer` only, `base` itself included.
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
