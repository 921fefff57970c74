//! The smallest set of variants such that one of them is fast enough at each shape.

/// Number of sets that are tried for the smallest one: a fraction of a second.
const MOST_SETS: u64 = 1 << 20;

/// Chosen variants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Indices of the variants, ascending.
    pub variants: Vec<usize>,
    /// Whether no smaller set exists.
    pub is_smallest: bool,
}

/// The smallest set of variants such that one of them loses at most `limit` at each shape; of sets of one size, the set
/// with the smallest largest loss, then with the smallest sum of losses. `losses[variant][shape]` is at least 0, and
/// infinite if the variant does not run; at each shape some variant has loss 0.
pub fn choose(losses: &[Vec<f64>], limit: f64) -> Chosen {
    let shapes = losses.first().map_or(0, Vec::len);
    let mut tried = 0;
    for size in 1..=losses.len().min(shapes) {
        tried += combinations(losses.len() as u64, size as u64);
        if tried > MOST_SETS {
            return Chosen { variants: greedy(losses, limit), is_smallest: false };
        }
        let mut best: Option<((f64, f64), Vec<usize>)> = None;
        let mut set: Vec<usize> = (0..size).collect();
        loop {
            let cost = cost(losses, &set);
            if cost.0 <= limit && best.as_ref().is_none_or(|(least, _)| cost < *least) {
                best = Some((cost, set.clone()));
            }
            if !advance(&mut set, losses.len()) {
                break;
            }
        }
        if let Some((_, variants)) = best {
            return Chosen { variants, is_smallest: true };
        }
    }
    Chosen { variants: greedy(losses, limit), is_smallest: shapes == 0 }
}

/// Losses of the shapes to their best variants with only these variants: the largest, and the sum.
pub fn cost(losses: &[Vec<f64>], set: &[usize]) -> (f64, f64) {
    let shapes = losses.first().map_or(0, Vec::len);
    let at = |shape: usize| set.iter().map(|&variant| losses[variant][shape]).fold(f64::INFINITY, f64::min);
    (0..shapes).map(at).fold((0.0, 0.0), |(worst, sum), loss| (worst.max(loss), sum + loss))
}

/// Repeatedly takes the variant that serves most of the unserved shapes.
fn greedy(losses: &[Vec<f64>], limit: f64) -> Vec<usize> {
    let mut open: Vec<usize> = (0..losses.first().map_or(0, Vec::len)).collect();
    let mut chosen = Vec::new();
    while !open.is_empty() {
        let served = |variant: usize| open.iter().filter(|&&shape| losses[variant][shape] <= limit).count();
        // The first of equal variants.
        let best = (0..losses.len()).rev().max_by_key(|&variant| served(variant));
        let Some(best) = best.filter(|&best| served(best) > 0) else { break };
        open.retain(|&shape| losses[best][shape] > limit);
        chosen.push(best);
    }
    chosen.sort_unstable();
    chosen
}

/// The next set of the same size, in lexicographic order.
fn advance(set: &mut [usize], n: usize) -> bool {
    let size = set.len();
    let Some(at) = (0..size).rev().find(|&at| set[at] < n - size + at) else { return false };
    set[at] += 1;
    for next in at + 1..size {
        set[next] = set[next - 1] + 1;
    }
    true
}

fn combinations(n: u64, k: u64) -> u64 {
    (0..k).fold(1u64, |count, at| count.saturating_mul(n - at) / (at + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: f64 = f64::INFINITY;

    #[test]
    fn a_loss_of_just_the_limit_serves_and_the_first_of_equals_is_chosen() {
        let chosen = |variants: &[usize]| Chosen { variants: variants.to_vec(), is_smallest: true };
        assert_eq!(choose(&[vec![0.0, 0.25], vec![0.0, 0.25], vec![0.25, 0.0]], 0.25), chosen(&[0]));
        assert_eq!(choose(&[vec![0.0, 0.26], vec![0.26, 0.0]], 0.25), chosen(&[0, 1]));
        assert_eq!(choose(&[], 0.25), chosen(&[]));
        assert_eq!(greedy(&[vec![0.25]], 0.25), [0]);
        assert_eq!(greedy(&[vec![0.26, NONE], vec![0.0, NONE]], 0.25), [1], "a shape that nothing serves is left");
    }

    #[test]
    fn the_smallest_set_is_found_where_the_greedy_one_is_larger() {
        // The greedy choice takes the first, which serves four, and then needs two more.
        let losses = vec![
            vec![0.01, 0.01, 0.01, 0.01, 0.5, 0.5],
            vec![0.0, 0.0, 0.5, 0.5, 0.0, NONE],
            vec![0.5, 0.5, 0.0, 0.0, NONE, 0.0],
        ];
        assert_eq!(choose(&losses, 0.02), Chosen { variants: vec![1, 2], is_smallest: true });
        assert_eq!(greedy(&losses, 0.02), [0, 1, 2]);
        assert_eq!(choose(&losses, 0.5).variants, [0]);
    }

    #[test]
    fn among_sets_of_equal_size_the_smallest_loss_wins() {
        let losses = vec![vec![0.0, 0.019], vec![0.01, 0.01], vec![0.019, 0.0]];
        assert_eq!(choose(&losses, 0.02).variants, [1]);
        assert_eq!(choose(&losses, 0.005).variants, [0, 2]);
        assert_eq!(cost(&losses, &[0, 1]), (0.01, 0.01));
    }

    #[test]
    fn too_many_sets_to_try_are_covered_greedily() {
        // 200 variants, each the best of one of 40 shapes and too slow at the others.
        let losses: Vec<Vec<f64>> = (0..200)
            .map(|variant| (0..40).map(|shape| if variant % 40 == shape { 0.0 } else { 1.0 }).collect())
            .collect();
        let chosen = choose(&losses, 0.02);
        assert!(!chosen.is_smallest);
        assert_eq!((chosen.variants.len(), cost(&losses, &chosen.variants).0), (40, 0.0));
    }

    #[test]
    fn sets_are_walked_through_once() {
        let mut set = vec![0, 1, 2];
        let mut count = 1;
        while advance(&mut set, 7) {
            count += 1;
        }
        assert_eq!((count, combinations(7, 3)), (35, 35));
        assert_eq!(set, [4, 5, 6]);
    }
}
