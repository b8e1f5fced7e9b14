//! Which arrays of a JSON document are counted.

use crate::scan::{COUNTS_MAX, Counts, DEPTH_MAX, PlanError};

/// Longest name in a path, bytes. Longer names of a document match nothing.
pub const NAME_MAX: usize = 64;

/// What a member of an object leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Target {
    /// Where elements are counted.
    pub(super) slot: Option<u8>,
    /// The plan of the objects in it.
    pub(super) node: Option<u8>,
}

impl Target {
    /// The document itself.
    pub(super) const DOCUMENT: Self = Self { slot: None, node: Some(0) };
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Member {
    name: Box<[u8]>,
    target: Target,
}

/// Which arrays are counted, in the order of their paths. Arrays on the way are gone through: `results.dids` counts the
/// `dids` of every object in `results`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct JsonPlan {
    nodes: Vec<Vec<Member>>,
    slots: usize,
}

impl JsonPlan {
    /// Counts what the last name of each path leads to. Every name has its spellings: protobuf's JSON allows `post_uris`
    /// and `postUris`.
    pub fn new(paths: &[Vec<Vec<&str>>]) -> Result<Self, PlanError> {
        if paths.len() > COUNTS_MAX {
            return Err(PlanError::TooManyPaths);
        }
        let mut plan = Self { nodes: vec![Vec::new()], slots: paths.len() };
        for (slot, path) in paths.iter().enumerate() {
            let Some((last, into)) = path.split_last() else { return Err(PlanError::PathLength) };
            if into.len() > DEPTH_MAX || path.iter().flatten().any(|name| name.len() > NAME_MAX) {
                return Err(PlanError::PathLength);
            }
            let mut node = 0;
            for spellings in into {
                let next = plan.nodes.len();
                let known = spellings.iter().find_map(|name| plan.find(node, name.as_bytes()).node);
                let inside = known.unwrap_or(next as u8);
                if usize::from(inside) == next {
                    plan.nodes.push(Vec::new());
                }
                spellings.iter().for_each(|name| plan.member(node, name).node = Some(inside));
                node = inside;
            }
            for name in last {
                plan.member(node, name).slot.get_or_insert(slot as u8);
            }
        }
        Ok(plan)
    }

    fn member(&mut self, node: u8, name: &str) -> &mut Target {
        let members = &mut self.nodes[usize::from(node)];
        let known = members.iter().position(|member| *member.name == *name.as_bytes());
        let index = known.unwrap_or_else(|| {
            members.push(Member { name: name.as_bytes().into(), target: Target::default() });
            members.len() - 1
        });
        &mut members[index].target
    }

    pub(super) fn find(&self, node: u8, name: &[u8]) -> Target {
        let members = self.nodes.get(usize::from(node)).map(Vec::as_slice).unwrap_or_default();
        let found = members.iter().find(|member| *member.name == *name);
        found.map(|member| member.target).unwrap_or_default()
    }

    /// As many zeros as there are paths.
    pub(crate) fn zero(&self) -> Counts {
        Counts::with_len(self.slots)
    }
}
