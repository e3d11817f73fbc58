//! Spaces of networks, described in TOML: a network whose fields are values or choices.

use crate::cell::canonical;
use crate::space::uniform;
use crate::template::{Choices, Template};
use crate::{Candidate, SearchError};
use residual_files::{nearest, read_text};
use residual_graph::Graph;
use residual_tensor::Stream;
use residual_zoo::{Config, Family};
use std::collections::HashSet;
use std::path::Path;
use toml::{Table, Value};

/// Longer descriptions are rejected before parsing.
const MAX_BYTES: usize = 1 << 16;
/// Salt of random members.
const DOMAIN: u64 = u64::from_be_bytes(*b"sample\0\0");
/// Draws of random members before it is given up.
const DRAWS: usize = 2000;
/// Networks of one description.
const MAX_NETWORKS: usize = 64;

/// The built-in spaces.
const BUILT_IN: [(&str, &str); 3] = [
    ("cifar-resnet", include_str!("../spaces/cifar-resnet.toml")),
    ("imagenet-resnet", include_str!("../spaces/imagenet-resnet.toml")),
    ("nasbench201", include_str!("../spaces/nasbench201.toml")),
];

/// A space of networks of the zoo: one or several networks with choices. Networks that have the same choices of a field share
/// the dimension, so that a strategy keeps it when it changes to another network.
#[derive(Clone, Debug)]
pub struct NetworkSpace {
    name: String,
    text: String,
    networks: Vec<Network>,
    dimensions: Vec<Dimension>,
    sizes: Vec<usize>,
    /// Fields that networks have if their description does not say otherwise.
    defaults: Table,
}

/// A choice that every candidate makes.
#[derive(Clone, Debug, PartialEq)]
struct Dimension {
    field: String,
    place: usize,
    choices: Vec<Value>,
}

/// One of a space's networks, with the dimensions that its fields read.
#[derive(Clone, Debug)]
struct Network {
    template: Template,
    /// For each of the template's choices.
    dimensions: Vec<usize>,
}

/// A network of a space.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its configuration.
    pub config: Config,
    /// Its graph.
    pub graph: Graph,
    /// Trainable values.
    pub parameters: usize,
    /// Multiply-accumulates for one image.
    pub macs: u64,
}

impl NetworkSpace {
    /// The names of the built-in spaces.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// The built-in space of this name, or that of a file whose name ends in `.toml`.
    ///
    /// # Errors
    /// If there is none, or the file cannot be read or describes no space.
    pub fn open(name: &str) -> Result<Self, SearchError> {
        if !name.ends_with(".toml") {
            let Some((name, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) else {
                let nearest = nearest(name, Self::names()).map(str::to_owned);
                return Err(SearchError::SpaceName { name: name.into(), nearest });
            };
            return Self::parse(name, text);
        }
        Self::parse(name, &read_text(Path::new(name), MAX_BYTES as u64)?)
    }

    /// The space that `text` describes, which errors call `name`.
    ///
    /// # Errors
    /// If the text is not TOML, or with the field at fault.
    pub fn parse(name: &str, text: &str) -> Result<Self, SearchError> {
        Self::read(name, text).map_err(|what| SearchError::Space { space: name.into(), what })
    }

    fn read(name: &str, text: &str) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("text: expected at most {MAX_BYTES} bytes, got {}", text.len()));
        }
        let mut table: Table = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or("");
            format!("line {}: {}", before.matches('\n').count() + 1, error.message().replace('\n', ", "))
        })?;
        let tables = match table.remove("network") {
            None => vec![table],
            Some(Value::Array(networks)) if table.is_empty() && (1..=MAX_NETWORKS).contains(&networks.len()) => {
                networks
                    .into_iter()
                    .map(|network| match network {
                        Value::Table(network) => Ok(network),
                        other => Err(format!("network: expected a table, got {}", other.type_str())),
                    })
                    .collect::<Result<_, _>>()?
            }
            Some(_) => {
                return Err(format!("network: expected 1 to {MAX_NETWORKS} tables [[network]] and nothing else"));
            }
        };
        let mut space = Self {
            name: name.into(),
            text: text.into(),
            networks: Vec::new(),
            dimensions: Vec::new(),
            sizes: Vec::new(),
            defaults: Table::new(),
        };
        if tables.len() > 1 {
            let choices = (0..tables.len() as i64).map(Value::Integer).collect();
            space.dimensions.push(Dimension { field: "network".into(), place: 0, choices });
        }
        for table in tables {
            let template = Template::read(table)?;
            let dimensions = template.choices().map(|choices| space.dimension(choices)).collect();
            space.networks.push(Network { template, dimensions });
        }
        space.sizes = space.dimensions.iter().map(|dimension| dimension.choices.len()).collect();
        Ok(space)
    }

    /// The dimension of these choices: a known one, if another network has the same.
    fn dimension(&mut self, Choices { field, place, choices }: Choices<'_>) -> usize {
        let dimension = Dimension { field: field.into(), place, choices: choices.to_vec() };
        self.dimensions.iter().position(|known| *known == dimension).unwrap_or_else(|| {
            self.dimensions.push(dimension);
            self.dimensions.len() - 1
        })
    }

    /// With networks for images of so many channels and so many classes, where the description does not say otherwise.
    pub fn for_images(mut self, in_chans: usize, num_classes: usize) -> Self {
        for (key, number) in [("in_chans", in_chans), ("num_classes", num_classes)] {
            self.defaults.insert(key.into(), Value::Integer(number as i64));
        }
        self
    }

    /// The name it was opened with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its description.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The number of choices in each dimension.
    pub fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// The number of descriptions of networks, of which some may be invalid and some the same; `u128::MAX` if there are more.
    pub fn size(&self) -> u128 {
        let of = |network: &Network| {
            let sizes = network.dimensions.iter().map(|&dimension| self.sizes[dimension] as u128);
            sizes.fold(1u128, u128::saturating_mul)
        };
        self.networks.iter().map(of).fold(0, u128::saturating_add)
    }

    /// The network of a candidate.
    ///
    /// # Errors
    /// If its fields are invalid, or do not go together.
    ///
    /// # Panics
    /// If the candidate is of another space.
    pub fn member(&self, candidate: &Candidate) -> Result<Member, SearchError> {
        assert_eq!(candidate.0.len(), self.sizes.len(), "a candidate has a choice for every dimension");
        let Network { template, dimensions } = &self.networks[self.network(candidate)];
        let chosen = dimensions.iter().map(|&dimension| &self.dimensions[dimension].choices[candidate.0[dimension]]);
        let mut table = self.defaults.clone();
        table.extend(template.fill(chosen));
        let config = residual_zoo::from_table(table)?;
        let graph = config.graph()?;
        let [height, width] = config.image_size;
        let macs = graph.analyse(height, width)?.macs;
        Ok(Member { parameters: graph.parameter_count(), macs, graph, config })
    }

    /// So many random members of which no two are the same network, or fewer if there are hardly more.
    pub fn sample(&self, count: usize, seed: u64) -> Vec<Member> {
        let mut random = Stream::new(seed, &[DOMAIN]);
        let (mut members, mut known) = (Vec::new(), HashSet::new());
        for _ in 0..DRAWS {
            if members.len() == count {
                break;
            }
            if let Ok(member) = self.member(&uniform(self.sizes(), &mut random))
                && known.insert(member.identity())
            {
                members.push(member);
            }
        }
        members
    }

    /// The members with the fewest and the most multiply-accumulates that are found by changing one choice after another, for
    /// each of the space's networks. In spaces in which every choice makes a network smaller or larger, whatever the others, they
    /// are the extremes.
    ///
    /// # Errors
    /// [`SearchError::Empty`] if no network was found.
    pub fn extremes(&self) -> Result<[Member; 2], SearchError> {
        let mut extremes: [Option<Member>; 2] = [None, None];
        for network in 0..self.networks.len() {
            let Some(start) = self.start(network) else { continue };
            for (extreme, larger) in extremes.iter_mut().zip([false, true]) {
                let (_, found) = self.climb(start.clone(), self.dimensions(network), larger)?;
                if extreme.as_ref().is_none_or(|known| is_beyond(&found, known, larger)) {
                    *extreme = Some(found);
                }
            }
        }
        let empty = || SearchError::Empty { space: self.name.clone() };
        let [smallest, largest] = extremes;
        Ok([smallest.ok_or_else(empty)?, largest.ok_or_else(empty)?])
    }

    /// The number of the space's networks.
    pub(crate) fn networks(&self) -> usize {
        self.networks.len()
    }

    /// The number of the network that a candidate chooses.
    pub(crate) fn network(&self, candidate: &Candidate) -> usize {
        if self.networks.len() > 1 { candidate.0[0] } else { 0 }
    }

    /// The dimensions that the network of this number reads.
    pub(crate) fn dimensions(&self, network: usize) -> &[usize] {
        &self.networks[network].dimensions
    }

    /// The field of a dimension.
    pub(crate) fn field(&self, dimension: usize) -> &str {
        &self.dimensions[dimension].field
    }

    /// A valid candidate with the network of this number.
    pub(crate) fn start(&self, network: usize) -> Option<Candidate> {
        const DRAWS: u64 = 1000;
        (0..DRAWS).find_map(|draw| {
            let mut candidate = uniform(&self.sizes, &mut Stream::new(0, &[network as u64, draw]));
            if self.networks.len() > 1 {
                candidate.0[0] = network;
            }
            self.member(&candidate).is_ok().then_some(candidate)
        })
    }

    /// The candidate that no change of a single choice in one of the `dimensions` makes smaller, or larger.
    ///
    /// # Errors
    /// If `candidate` is no network.
    pub(crate) fn climb(
        &self,
        mut candidate: Candidate,
        dimensions: &[usize],
        larger: bool,
    ) -> Result<(Candidate, Member), SearchError> {
        let mut best = self.member(&candidate)?;
        loop {
            let mut has_changed = false;
            for &dimension in dimensions {
                for choice in 0..self.sizes[dimension] {
                    let before = std::mem::replace(&mut candidate.0[dimension], choice);
                    match self.member(&candidate) {
                        Ok(member) if is_beyond(&member, &best, larger) => (best, has_changed) = (member, true),
                        _ => candidate.0[dimension] = before,
                    }
                }
            }
            if !has_changed {
                return Ok((candidate, best));
            }
        }
    }
}

/// Whether `member` has fewer multiply-accumulates than `other`, or more.
fn is_beyond(member: &Member, other: &Member, larger: bool) -> bool {
    if larger { member.macs > other.macs } else { member.macs < other.macs }
}

impl Member {
    /// What distinguishes the network from others: its configuration without its name, and the function of a cell.
    pub(crate) fn identity(&self) -> String {
        let Config { in_chans, image_size, num_classes, family, name: _ } = &self.config;
        let rest = format!("{in_chans} {image_size:?} {num_classes}");
        match family {
            Family::NasBench201(network) => {
                format!("{rest} {} {} {}", network.cells, network.width, canonical(network.cell))
            }
            family => format!("{rest} {family:?}"),
        }
    }
}
