//! The variants that a strategy chooses from: listed where they are few, else drawn from the space as they are needed.

use std::collections::HashMap;
use std::sync::Arc;

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use crate::space::{Layer, Settings, Space, Toggle, Variant};

/// Most variants that are listed: some 10 MB of them, found in milliseconds.
const LISTED: usize = 1 << 17;

/// Points of the product drawn for one valid one, before a walk from the default finds one.
const DRAWS: usize = 200;

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Candidates {
    space: Arc<Space>,
    list: Option<Arc<List>>,
    /// Whether the default says anything: what a record has first does not.
    has_default: bool,
}

#[derive(Debug)]
struct List {
    variants: Vec<Variant>,
    positions: HashMap<Variant, u32>,
}

impl Candidates {
    /// The valid variants of a space.
    pub fn new(space: &Space) -> Self {
        let variants: Vec<Variant> = space.variants().take(LISTED + 1).collect();
        let list = (variants.len() <= LISTED).then(|| Arc::new(List::new(variants)));
        Self { space: Arc::new(space.clone()), list, has_default: true }
    }

    /// These variants of a space and no others, in this order; its constraints are ignored.
    pub fn recorded(space: Space, variants: Vec<Variant>) -> Self {
        Self { space: Arc::new(space), list: Some(Arc::new(List::new(variants))), has_default: false }
    }

    /// The toggles.
    pub fn toggles(&self) -> &[Toggle] {
        &self.space.toggles
    }

    /// The default variant; some candidate where they were recorded.
    pub fn default(&self) -> &Variant {
        &self.space.default
    }

    /// What every search tries first, since all else is compared with it: the default, where there is one.
    pub fn first(&self) -> Option<&Variant> {
        self.has_default.then_some(&self.space.default)
    }

    /// How many there are, where they are listed.
    #[allow(clippy::len_without_is_empty)] // there is always one
    pub fn len(&self) -> Option<usize> {
        self.list.as_ref().map(|list| list.variants.len())
    }

    /// All, in a fixed order, where they are few.
    pub fn list(&self) -> Option<&[Variant]> {
        self.list.as_ref().map(|list| list.variants.as_slice())
    }

    /// The place in [`list`](Self::list) of a candidate.
    pub fn position(&self, variant: &Variant) -> Option<usize> {
        self.list.as_ref()?.positions.get(variant).map(|&position| position as usize)
    }

    /// Whether it is one of the candidates.
    pub fn contains(&self, variant: &Variant) -> bool {
        match &self.list {
            Some(list) => list.positions.contains_key(variant),
            None => self.space.is_valid(variant),
        }
    }

    /// A candidate's toggles with their values.
    pub fn settings(&self, variant: &Variant) -> Settings {
        self.space.settings(variant)
    }

    /// Those in a fixed order, found one at a time where they are many.
    pub fn each(&self) -> Box<dyn Iterator<Item = Variant> + '_> {
        match &self.list {
            Some(list) => Box::new(list.variants.iter().cloned()),
            None => Box::new(self.space.variants()),
        }
    }

    /// A random one; `None` where there is none.
    pub fn sample(&self, rng: &mut ChaCha8Rng) -> Option<Variant> {
        if let Some(list) = &self.list {
            return (!list.variants.is_empty())
                .then(|| list.variants[rng.random_range(0..list.variants.len())].clone());
        }
        let toggles = &self.space.toggles;
        for _ in 0..DRAWS {
            let draw = |toggle: &Toggle| rng.random_range(0..toggle.values.len()) as u16;
            let variant = Variant(toggles.iter().map(draw).collect());
            if self.space.is_valid(&variant) {
                return Some(variant);
            }
        }
        let mut variant = self.space.default.clone();
        for _ in 0..toggles.len() {
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
        let mut found = Vec::new();
        let mut changed = variant.clone();
        for (toggle, values) in self.space.toggles.iter().map(|toggle| toggle.values.len()).enumerate() {
            for value in (0..values as u16).filter(|&value| value != variant.0[toggle]) {
                changed.0[toggle] = value;
                if self.contains(&changed) {
                    found.push(changed.clone());
                }
            }
            changed.0[toggle] = variant.0[toggle];
        }
        found
    }

    /// Those that differ from `base` in toggles of `layer` only, `base` itself included.
    pub fn of_layer<'c>(&'c self, layer: Layer, base: &'c Variant) -> Box<dyn Iterator<Item = Variant> + 'c> {
        let Some(list) = &self.list else { return Box::new(self.space.variants_of_layer(layer, base)) };
        let same = move |variant: &&Variant| {
            let mut pairs = self.space.toggles.iter().zip(variant.0.iter().zip(&base.0));
            pairs.all(|(toggle, (value, of_base))| toggle.layer == layer || value == of_base)
        };
        Box::new(list.variants.iter().filter(same).cloned())
    }
}

impl List {
    fn new(variants: Vec<Variant>) -> Self {
        let positions =
            variants.iter().enumerate().map(|(position, variant)| (variant.clone(), position as u32)).collect();
        Self { variants, positions }
    }
}
