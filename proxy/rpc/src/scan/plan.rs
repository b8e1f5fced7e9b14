//! Which fields of a message are counted.

use std::fmt;

use crate::wire::Elements;

/// Most fields that one plan counts.
pub const COUNTS_MAX: usize = 16;

/// Most messages that one path goes into: `a.b.c` goes into two.
pub const DEPTH_MAX: usize = 8;

/// One name of a path: which field.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Step {
    /// Its number.
    pub number: u32,
    /// How its elements stand on the wire.
    pub elements: Elements,
}

/// Why a plan cannot be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum PlanError {
    /// More than [`COUNTS_MAX`] paths.
    TooManyPaths,
    /// A path of no field, or one into more than [`DEPTH_MAX`] messages.
    PathLength,
    /// A path goes into a field that is no message, or two paths disagree about a field.
    NoMessage,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlanError::TooManyPaths => write!(f, "more than {COUNTS_MAX} fields to count"),
            PlanError::PathLength => write!(f, "a path of no field, or into more than {DEPTH_MAX} messages"),
            PlanError::NoMessage => f.write_str("a path into a field that is not a message"),
        }
    }
}

impl std::error::Error for PlanError {}

/// What to do with a field of one message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Action {
    number: u32,
    pub(super) elements: Elements,
    /// Where its elements are counted.
    pub(super) slot: Option<u8>,
    /// The plan for the messages in it.
    pub(super) inside: Option<u8>,
}

/// Which fields of a message are counted, in the order of their paths.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ScanPlan {
    /// One list of actions per message of a path; the first is the message itself. Few: they are searched in order.
    nodes: Vec<Vec<Action>>,
    slots: usize,
}

impl ScanPlan {
    /// Counts the last field of each path. An empty list counts nothing but still reads the wire.
    pub fn new(paths: &[Vec<Step>]) -> Result<Self, PlanError> {
        if paths.len() > COUNTS_MAX {
            return Err(PlanError::TooManyPaths);
        }
        let mut plan = Self { nodes: vec![Vec::new()], slots: paths.len() };
        for (slot, path) in paths.iter().enumerate() {
            let Some((last, into)) = path.split_last() else { return Err(PlanError::PathLength) };
            if into.len() > DEPTH_MAX {
                return Err(PlanError::PathLength);
            }
            let mut node = 0;
            for step in into {
                if step.elements != Elements::Delimited {
                    return Err(PlanError::NoMessage);
                }
                let next = plan.nodes.len();
                let action = plan.action(node, *step)?;
                let inside = *action.inside.get_or_insert(next as u8);
                if usize::from(inside) == next {
                    plan.nodes.push(Vec::new());
                }
                node = usize::from(inside);
            }
            // A field that is listed twice is counted once; the second slot stays at zero.
            plan.action(node, *last)?.slot.get_or_insert(slot as u8);
        }
        Ok(plan)
    }

    fn action(&mut self, node: usize, step: Step) -> Result<&mut Action, PlanError> {
        // At most COUNTS_MAX * (DEPTH_MAX + 1) nodes, which fits into the index.
        const { assert!(COUNTS_MAX * DEPTH_MAX < u8::MAX as usize) };
        let actions = &mut self.nodes[node];
        let known = actions.iter().position(|action| action.number == step.number);
        let index = known.unwrap_or_else(|| {
            let Step { number, elements } = step;
            actions.push(Action { number, elements, slot: None, inside: None });
            actions.len() - 1
        });
        if actions[index].elements != step.elements {
            return Err(PlanError::NoMessage);
        }
        Ok(&mut actions[index])
    }

    /// Number of fields counted.
    pub const fn len(&self) -> usize {
        self.slots
    }

    /// Whether nothing is counted.
    pub const fn is_empty(&self) -> bool {
        self.slots == 0
    }

    #[inline]
    pub(super) fn find(&self, node: u8, number: u32) -> Option<&Action> {
        self.nodes.get(usize::from(node))?.iter().find(|action| action.number == number)
    }
}
