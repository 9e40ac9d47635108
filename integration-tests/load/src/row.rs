//! One line of the table.

use serde::{Deserialize, Serialize};

use crate::stats::Spread;
use crate::usage::Cost;

/// The goal of a ratio.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    /// More is better.
    AtLeast(f64),
    /// Less is better.
    AtMost(f64),
    /// Less is better; no budget is set.
    Less,
    /// More is better; no budget is set.
    More,
}

impl Goal {
    pub(crate) fn is_met(self, ratio: f64) -> Option<bool> {
        match self {
            Self::AtLeast(least) => Some(ratio >= least),
            Self::AtMost(most) => Some(ratio <= most),
            Self::Less | Self::More => None,
        }
    }

    /// How many times worse a ratio is than another; below 1 if it is better.
    pub(crate) fn loss(self, was: f64, is: f64) -> f64 {
        match self {
            Self::AtLeast(_) | Self::More => was / is,
            Self::AtMost(_) | Self::Less => is / was,
        }
    }
}

/// What a scenario found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Stable: the kept figures are found by it.
    pub(crate) name: String,
    /// What was measured, in its unit.
    pub(crate) figure: Spread,
    pub(crate) unit: String,
    /// The value that the goal is about.
    pub(crate) ratio: Spread,
    /// What the ratio compares with.
    pub(crate) of: String,
    pub(crate) goal: Goal,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cost: Option<Cost>,
}

impl Row {
    pub(crate) fn named(name: &str, goal: Goal) -> Unmeasured<'_> {
        Unmeasured { name, goal }
    }

    pub(crate) fn with_cost(mut self, cost: Cost) -> Self {
        self.cost = Some(cost);
        self
    }
}

/// A row that still needs its figures.
pub(crate) struct Unmeasured<'a> {
    name: &'a str,
    goal: Goal,
}

impl Unmeasured<'_> {
    /// Repetitions: each a figure and its ratio.
    pub(crate) fn measured(self, unit: &str, of: &str, each: &[(f64, f64)]) -> Row {
        Row {
            name: self.name.to_owned(),
            figure: Spread::of(each.iter().map(|m| m.0)),
            unit: unit.to_owned(),
            ratio: Spread::of(each.iter().map(|m| m.1)),
            of: of.to_owned(),
            goal: self.goal,
            cost: None,
        }
    }

    /// The goal is about the figure itself.
    pub(crate) fn absolute(self, unit: &str, each: &[f64]) -> Row {
        let each: Vec<_> = each.iter().map(|m| (*m, *m)).collect();
        self.measured(unit, unit, &each)
    }
}
