//! Who is cut off from whom, and taking it back.

use std::sync::Arc;

use sim::rng::Rng;

use crate::cluster::Cluster;
use crate::failure::Outcome;
use crate::namespace::{self, Cut};
use crate::proxy::Rule;
use crate::schedule::Shape;

/// Directions that are cut at the moment.
pub struct Partition {
    cluster: Arc<Cluster>,
    pairs: Vec<(usize, usize)>,
    how: Cut,
}

impl Partition {
    pub async fn make(cluster: &Arc<Cluster>, pairs: Vec<(usize, usize)>, how: Cut) -> Outcome<Partition> {
        for &(from, to) in &pairs {
            match &cluster.proxy {
                Some(proxy) => proxy.set(from, to, Rule::Hold),
                None => namespace::cut(from, to, how).await?,
            }
        }
        Ok(Partition { cluster: Arc::clone(cluster), pairs, how })
    }

    pub async fn heal(self) -> Outcome {
        for &(from, to) in &self.pairs {
            match &self.cluster.proxy {
                Some(proxy) => proxy.set(from, to, Rule::Pass),
                None => namespace::mend(from, to, self.how).await?,
            }
        }
        Ok(())
    }
}

/// The directions that a shape cuts.
pub fn pairs(shape: Shape, members: &[usize], leader: usize, rng: &mut Rng) -> Vec<(usize, usize)> {
    let mut others: Vec<usize> = members.iter().copied().filter(|member| *member != leader).collect();
    for index in (1..others.len()).rev() {
        others.swap(index, rng.index(index + 1));
    }
    // The largest number of members that is no majority.
    let minority = (members.len() - 1) / 2;
    match shape {
        Shape::LeaderAlone | Shape::Flapping => both(&[leader], &others),
        Shape::LeaderMute => others.iter().map(|other| (leader, *other)).collect(),
        Shape::LeaderDeaf => others.iter().map(|other| (*other, leader)).collect(),
        Shape::LeaderInMinority => {
            let (with, without) = others.split_at(minority.saturating_sub(1));
            both(&[&[leader], with].concat(), without)
        }
        Shape::LeaderInMajority => {
            let (without, with) = others.split_at(minority);
            both(&[&[leader], with].concat(), without)
        }
        Shape::Shattered => {
            let all = members.iter().flat_map(|from| members.iter().map(move |to| (*from, *to)));
            all.filter(|(from, to)| from != to).collect()
        }
        Shape::Bridge => {
            // The bridge is not the leader: both sides then hear of another one.
            let sides = &others[..others.len() - 1];
            let (left, right) = sides.split_at(sides.len() / 2);
            both(&[&[leader], left].concat(), right)
        }
    }
}

fn both(left: &[usize], right: &[usize]) -> Vec<(usize, usize)> {
    let across = left.iter().flat_map(|a| right.iter().map(move |b| (*a, *b)));
    across.flat_map(|(a, b)| [(a, b), (b, a)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many members hear each other and the leader's side, over many draws.
    fn cut(shape: Shape, count: usize) -> Vec<(usize, usize)> {
        let members: Vec<usize> = (0..count).collect();
        let mut pairs = pairs(shape, &members, 1, &mut Rng::new(9));
        pairs.sort_unstable();
        let all = pairs.len();
        pairs.dedup();
        assert_eq!(pairs.len(), all, "{shape:?}: none twice");
        pairs
    }

    #[test]
    fn shapes_cut_what_they_say() {
        assert_eq!(cut(Shape::LeaderAlone, 3), [(0, 1), (1, 0), (1, 2), (2, 1)]);
        assert_eq!(cut(Shape::LeaderMute, 3), [(1, 0), (1, 2)]);
        assert_eq!(cut(Shape::LeaderDeaf, 3), [(0, 1), (2, 1)]);
        assert_eq!(cut(Shape::Shattered, 3).len(), 6);
        // Two of five are a minority: 2 x 3 pairs in both directions.
        for shape in [Shape::LeaderInMinority, Shape::LeaderInMajority, Shape::LeaderAlone] {
            let expected = if shape == Shape::LeaderAlone { 8 } else { 12 };
            assert_eq!(cut(shape, 5).len(), expected, "{shape:?}");
        }
        // One member hears all.
        for count in [3, 5] {
            let pairs = cut(Shape::Bridge, count);
            let bridges = (0..count).filter(|member| !pairs.iter().any(|(from, _)| from == member));
            assert_eq!(bridges.count(), 1, "{pairs:?}");
        }
    }
}
