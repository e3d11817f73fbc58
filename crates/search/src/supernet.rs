//! The supernets of a space: its largest networks, whose weights all others share.

use crate::slice::Slice;
use crate::{Candidate, Member, NetworkSpace, SearchError};
use residual_tensor::Stream;

/// Supernets of a space: each is trained for the whole number of epochs.
const MAX_SUPERNETS: usize = 4;
/// Draws of a random member before the smallest takes its place.
const MEMBER_DRAWS: usize = 100;

/// A supernet: a network of a space, and the dimensions in which others with smaller choices share its weights: they have the first
/// blocks of each stage and the first channels of each layer.
#[derive(Clone, Debug)]
pub struct Supernet {
    /// The largest network.
    pub(crate) largest: Candidate,
    /// The smallest one that shares its weights.
    pub(crate) smallest: Candidate,
    /// The largest network.
    pub(crate) member: Member,
    /// The dimensions whose choices share weights.
    elastic: Vec<usize>,
    /// The dimensions of its network whose choices share none, so that each has a supernet of its own.
    separate: Vec<usize>,
}

impl Supernet {
    /// The largest network, which is trained.
    pub fn network(&self) -> &Member {
        &self.member
    }

    /// The network of a candidate and its slice of the supernet; `None` if the candidate is no network, or no slice.
    pub(crate) fn slice(&self, space: &NetworkSpace, candidate: &Candidate) -> Option<(Member, Slice)> {
        let is_same = |dimension: &usize| candidate.0[*dimension] == self.largest.0[*dimension];
        if space.network(candidate) != space.network(&self.largest) || !self.separate.iter().all(is_same) {
            return None;
        }
        let member = space.member(candidate).ok()?;
        let slice = Slice::new(&member.graph, &self.member.graph).ok()?;
        Some((member, slice))
    }

    /// A member with uniform choices; the smallest if none was found.
    pub(crate) fn draw(&self, space: &NetworkSpace, random: &mut Stream) -> Candidate {
        for _ in 0..MEMBER_DRAWS {
            let mut candidate = self.largest.clone();
            for &dimension in &self.elastic {
                candidate.0[dimension] = random.below(space.sizes()[dimension] as u32) as usize;
            }
            if self.slice(space, &candidate).is_some() {
                return candidate;
            }
        }
        self.smallest.clone()
    }
}

/// A network that shares the weights of a supernet.
pub(crate) struct Part {
    /// The supernet's number.
    pub(crate) supernet: usize,
    pub(crate) member: Member,
    pub(crate) slice: Slice,
}

/// All supernets of a space.
#[derive(Clone, Debug)]
pub struct Supernets {
    space: NetworkSpace,
    supernets: Vec<Supernet>,
}

impl Supernets {
    /// The supernets of `space`: for each of its networks the largest one; where choices share no weights with the largest one's, one
    /// for each.
    ///
    /// # Errors
    /// [`SearchError::Space`] with a field that shares no weights, if there are more than four; [`SearchError::Empty`] if the
    /// space has no networks.
    pub fn new(space: &NetworkSpace) -> Result<Self, SearchError> {
        let mut supernets: Vec<Supernet> = Vec::new();
        for network in 0..space.networks() {
            let Some(start) = space.start(network) else { continue };
            let (largest, member) = space.climb(start, space.dimensions(network), true)?;
            let (mut elastic, mut separate, mut why) = (Vec::new(), Vec::new(), None);
            for &dimension in space.dimensions(network) {
                match unshared(space, &largest, &member, dimension) {
                    None => elastic.push(dimension),
                    Some(tensor) => {
                        why.get_or_insert_with(|| {
                            format!("; choices of {} share none: {tensor}", space.field(dimension))
                        });
                        separate.push(dimension);
                    }
                }
            }
            let count = separate.iter().fold(1usize, |all, &at| all.saturating_mul(space.sizes()[at]));
            if count.saturating_add(supernets.len()) > MAX_SUPERNETS {
                let expected = format!("expected networks that share the weights of at most {MAX_SUPERNETS} supernets");
                let what = format!("{expected}, got more{}", why.unwrap_or_default());
                return Err(SearchError::Space { space: space.name().into(), what });
            }
            for choices in combinations(space, &separate) {
                let mut largest = largest.clone();
                separate.iter().zip(&choices).for_each(|(&dimension, &choice)| largest.0[dimension] = choice);
                // Choices that do not go together are no network.
                let Ok((largest, member)) = space.climb(largest, &elastic, true) else { continue };
                let (smallest, _) = space.climb(largest.clone(), &elastic, false)?;
                let (elastic, separate) = (elastic.clone(), separate.clone());
                let mut supernet = Supernet { smallest: largest.clone(), largest, member, elastic, separate };
                if supernet.slice(space, &smallest).is_some() {
                    supernet.smallest = smallest;
                }
                supernets.push(supernet);
            }
        }
        if supernets.is_empty() {
            return Err(SearchError::Empty { space: space.name().into() });
        }
        Ok(Self { space: space.clone(), supernets })
    }

    /// The supernets.
    pub fn all(&self) -> &[Supernet] {
        &self.supernets
    }

    /// The part that a candidate has of a supernet; `None` if it has of none.
    pub(crate) fn part(&self, candidate: &Candidate) -> Option<Part> {
        self.supernets.iter().enumerate().find_map(|(supernet, of)| {
            let (member, slice) = of.slice(&self.space, candidate)?;
            Some(Part { supernet, member, slice })
        })
    }

    /// The space.
    pub(crate) fn space(&self) -> &NetworkSpace {
        &self.space
    }
}

/// Why a choice of `dimension` makes a network that is no slice of `largest`: the first tensor. `None` if all are.
fn unshared(space: &NetworkSpace, largest: &Candidate, member: &Member, dimension: usize) -> Option<String> {
    (0..space.sizes()[dimension]).find_map(|choice| {
        let mut candidate = largest.clone();
        candidate.0[dimension] = choice;
        let other = space.member(&candidate).ok()?;
        Slice::new(&other.graph, &member.graph).err()
    })
}

/// All combinations of choices in these dimensions.
fn combinations(space: &NetworkSpace, dimensions: &[usize]) -> Vec<Vec<usize>> {
    dimensions.iter().fold(vec![Vec::new()], |known, &dimension| {
        let more = |choices: &Vec<usize>| {
            let choices = choices.clone();
            (0..space.sizes()[dimension]).map(move |choice| [&choices[..], &[choice]].concat())
        };
        known.iter().flat_map(more).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::uniform;

    #[test]
    fn every_network_of_a_built_in_space_is_a_part_of_a_supernet() {
        let space = NetworkSpace::open("cifar-resnet").unwrap();
        let supernets = Supernets::new(&space).unwrap();
        let mut parts = [0; 3];
        for number in 0..200 {
            let candidate = uniform(space.sizes(), &mut Stream::new(1, &[number]));
            if let Ok(member) = space.member(&candidate) {
                let part = supernets.part(&candidate).unwrap_or_else(|| panic!("{:?}", member.config));
                assert_eq!(part.member.config, member.config);
                parts[part.supernet] += 1;
            }
        }
        assert!(parts.iter().all(|&count| count > 10), "{parts:?}");
    }
}
