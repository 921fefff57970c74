//! Extremely randomized trees: a second model, which does not assume smoothness.

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

/// Number of trees in a forest.
const TREES: usize = 24;

/// A forest fitted to observations.
pub struct Forest {
    trees: Vec<Vec<Node>>,
}

/// Observations with each feature as a rank, so that a random cut needs only counts.
struct Table<'y> {
    /// Distinct values of each feature, ascending.
    values: Vec<Vec<f32>>,
    /// Rank of each row in `values`, for each feature.
    ranks: Vec<Vec<u16>>,
    y: &'y [f64],
}

#[derive(Debug, Clone, Copy)]
enum Node {
    /// The left child is the next node, for features below the cut; the right child is at `right`.
    Split {
        feature: u16,
        cut: f32,
        right: u32,
    },
    Leaf {
        mean: f32,
        variance: f32,
    },
}

impl Forest {
    /// Fits to rows of features and their values.
    pub fn fit(x: &[&[f32]], y: &[f64], rng: &mut ChaCha8Rng) -> Self {
        let table = Table::new(x, y);
        let trees = (0..TREES).map(|_| {
            let mut rows: Vec<u32> = (0..x.len() as u32).collect();
            let mut tree = Vec::with_capacity(2 * x.len());
            table.grow(&mut tree, &mut rows, rng);
            tree
        });
        Self { trees: trees.collect() }
    }

    /// Mean and variance at each row of features.
    pub fn predict(&self, rows: &[Vec<f32>]) -> Vec<(f64, f64)> {
        let mut sums = vec![(0.0, 0.0); rows.len()];
        // One tree after the other: a tree stays in the cache over all rows.
        for tree in &self.trees {
            for (x, (sum, squares)) in rows.iter().zip(&mut sums) {
                let mut at = 0;
                let (mean, variance) = loop {
                    match tree[at] {
                        Node::Split { feature, cut, right } => {
                            at = if x[usize::from(feature)] < cut { at + 1 } else { right as usize };
                        }
                        Node::Leaf { mean, variance } => break (f64::from(mean), f64::from(variance)),
                    }
                };
                *sum += mean;
                *squares += mean * mean + variance;
            }
        }
        let trees = TREES as f64;
        let finish = |(sum, squares): (f64, f64)| (sum / trees, (squares / trees - (sum / trees).powi(2)).max(0.0));
        sums.into_iter().map(finish).collect()
    }
}

impl<'y> Table<'y> {
    fn new(x: &[&[f32]], y: &'y [f64]) -> Self {
        let column = |feature: usize| x.iter().map(move |row| row[feature]);
        let values: Vec<Vec<f32>> = (0..x[0].len())
            .map(|feature| {
                let mut values: Vec<f32> = column(feature).collect();
                values.sort_unstable_by(f32::total_cmp);
                values.dedup();
                values
            })
            .collect();
        let rank = |values: &[f32], value: f32| values.partition_point(|&other| other < value) as u16;
        let ranks = values
            .iter()
            .enumerate()
            .map(|(feature, values)| column(feature).map(|value| rank(values, value)).collect());
        Self { ranks: ranks.collect(), values, y }
    }

    /// Adds the tree of these rows.
    fn grow(&self, tree: &mut Vec<Node>, rows: &mut [u32], rng: &mut ChaCha8Rng) {
        let at = tree.len();
        let Some((feature, below)) = self.split(rows, rng) else {
            let n = rows.len() as f64;
            let mean = rows.iter().map(|&row| self.y[row as usize]).sum::<f64>() / n;
            let variance = rows.iter().map(|&row| (self.y[row as usize] - mean).powi(2)).sum::<f64>() / n;
            tree.push(Node::Leaf { mean: mean as f32, variance: variance as f32 });
            return;
        };
        let (values, ranks) = (&self.values[feature], &self.ranks[feature]);
        let cut = f32::midpoint(values[usize::from(below) - 1], values[usize::from(below)]);
        tree.push(Node::Split { feature: feature as u16, cut, right: 0 });
        let front = partition(rows, |row| ranks[row as usize] < below);
        let (left, right) = rows.split_at_mut(front);
        self.grow(tree, left, rng);
        let start = tree.len() as u32;
        tree[at] = Node::Split { feature: feature as u16, cut, right: start };
        self.grow(tree, right, rng);
    }

    /// The best of one random cut in each of half of the features that differ among the rows: the feature, and the
    /// lowest rank above the cut.
    fn split(&self, rows: &[u32], rng: &mut ChaCha8Rng) -> Option<(usize, u16)> {
        let first = self.y[*rows.first()? as usize];
        if rows.iter().all(|&row| self.y[row as usize].total_cmp(&first).is_eq()) {
            return None;
        }
        let width = self.values.len();
        let mut order: Vec<usize> = (0..width).collect();
        let mut left = width.div_ceil(2);
        let total: f64 = rows.iter().map(|&row| self.y[row as usize]).sum();
        let mut best: Option<(f64, usize, u16)> = None;
        let mut present = Vec::new();
        for turn in 0..width {
            if left == 0 {
                break;
            }
            order.swap(turn, rng.random_range(turn..width));
            let feature = order[turn];
            let ranks = &self.ranks[feature];
            present.clear();
            present.resize(self.values[feature].len().div_ceil(64), 0u64);
            for &row in rows {
                let rank = ranks[row as usize];
                present[usize::from(rank / 64)] |= 1 << (rank % 64);
            }
            let distinct: u32 = present.iter().map(|word| word.count_ones()).sum();
            if distinct < 2 {
                continue;
            }
            left -= 1;
            // The cut is a random rank, not a random value: values of a toggle may lie far apart.
            let Some(below) = nth(&present, rng.random_range(1..distinct)) else { continue };
            let (mut count, mut sum) = (0.0, 0.0);
            for &row in rows {
                if ranks[row as usize] < below {
                    count += 1.0;
                    sum += self.y[row as usize];
                }
            }
            let other = rows.len() as f64 - count;
            // Part of the sum of squares that the split explains, without a constant.
            let gain = sum * sum / count + (total - sum) * (total - sum) / other;
            if best.is_none_or(|(most, ..)| gain > most) {
                best = Some((gain, feature, below));
            }
        }
        best.map(|(_, feature, below)| (feature, below))
    }
}

/// Index of the n-th set bit, from 0.
fn nth(words: &[u64], mut n: u32) -> Option<u16> {
    for (at, &word) in words.iter().enumerate() {
        if n < word.count_ones() {
            let rest = (0..n).fold(word, |word, _| word & (word - 1));
            return Some((at * 64) as u16 + rest.trailing_zeros() as u16);
        }
        n -= word.count_ones();
    }
    None
}

/// Moves the rows that fulfil the condition to the front, and returns their number.
fn partition(rows: &mut [u32], holds: impl Fn(u32) -> bool) -> usize {
    let mut front = 0;
    for at in 0..rows.len() {
        if holds(rows[at]) {
            rows.swap(front, at);
            front += 1;
        }
    }
    front
}
