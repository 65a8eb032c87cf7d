//! One figure: a number with its interval, what it was measured on, and how far it is from its goal.

use serde::{Deserialize, Serialize};

use crate::{
    goal::{Goal, GoalId, Unit},
    pressure::Pressure,
    statistics::Estimate,
};

/// A number that somebody measured, or the reason why nobody could.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The goal that it answers; a figure without one is told for its own sake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal: Option<GoalId>,
    /// What was measured.
    pub name: String,
    /// On what: sizes, roads, families.
    pub configuration: String,
    /// Of the estimate.
    pub unit: Unit,
    /// The number, or why there is none.
    pub outcome: Outcome,
    /// The same thing measured against itself in the same rounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<Control>,
    /// What else ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressure: Option<Pressure>,
}

/// What came of a measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A number.
    Measured(Estimate),
    /// None, because of this.
    NotMeasured(String),
}

/// A against A: where 1 (or 0, of a difference) lies outside the interval, figures of that round say little.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// In the unit of the figure.
    pub estimate: Estimate,
}

/// A figure beside its goal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As good as was hoped.
    Ambition,
    /// As good as it must be.
    Pass,
    /// Not as good as it must be.
    Short,
    /// There was no bound that it has to keep.
    Told,
    /// There is no number, because of this.
    NotMeasured(String),
}

impl Verdict {
    /// One or two words.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Ambition => "pass +",
            Self::Pass => "pass",
            Self::Short => "SHORT",
            Self::Told => "",
            Self::NotMeasured(_) => "not measured",
        }
    }

    /// The word, and why where there is no number.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::NotMeasured(reason) => format!("{}: {reason}", self.word()),
            Self::Ambition | Self::Pass | Self::Short | Self::Told => self.word().to_owned(),
        }
    }
}

impl Figure {
    /// A figure that answers a goal; unit and, until it is named otherwise, name are the goal's.
    ///
    /// # Panics
    /// If there is no such goal.
    #[must_use]
    pub fn of(row: u8, case: &str, configuration: impl Into<String>, estimate: Option<Estimate>) -> Self {
        let id = GoalId::new(row, case);
        let goal = id.find().unwrap_or_else(|| panic!("there is no goal {id}"));
        let outcome = estimate
            .map_or_else(|| Outcome::NotMeasured("there were no samples".to_owned()), Outcome::Measured);
        Self {
            goal: Some(id),
            name: goal.claim.to_owned(),
            configuration: configuration.into(),
            unit: goal.unit,
            outcome,
            control: None,
            pressure: None,
        }
    }

    /// A goal that could not be measured.
    ///
    /// # Panics
    /// If there is no such goal.
    #[must_use]
    pub fn missing(row: u8, case: &str, configuration: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::NotMeasured(reason.into()),
            ..Self::of(row, case, configuration, Some(Estimate::exact(0.0)))
        }
    }

    /// A figure that is worth telling and has no goal.
    #[must_use]
    pub fn told(
        name: impl Into<String>,
        configuration: impl Into<String>,
        unit: Unit,
        estimate: Estimate,
    ) -> Self {
        Self {
            goal: None,
            name: name.into(),
            configuration: configuration.into(),
            unit,
            outcome: Outcome::Measured(estimate),
            control: None,
            pressure: None,
        }
    }

    /// With the control of its rounds.
    #[must_use]
    pub fn controlled(self, estimate: Option<Estimate>) -> Self {
        Self { control: estimate.map(|estimate| Control { estimate }), ..self }
    }

    /// With what else ran.
    #[must_use]
    pub fn under(self, pressure: Option<Pressure>) -> Self {
        Self { pressure, ..self }
    }

    /// The goal that it answers.
    #[must_use]
    pub fn goal(&self) -> Option<&'static Goal> {
        self.goal.as_ref().and_then(GoalId::find)
    }

    /// How far it is from its goal.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let value = match &self.outcome {
            Outcome::Measured(estimate) => estimate.value,
            Outcome::NotMeasured(reason) => return Verdict::NotMeasured(reason.clone()),
        };
        let Some(goal) = self.goal() else { return Verdict::Told };
        let keeps = |bound: f64| goal.keeps(value, bound);
        match (goal.must.map(keeps), goal.ambition.map(keeps)) {
            (Some(false), _) => Verdict::Short,
            (_, Some(true)) => Verdict::Ambition,
            (Some(true), _) => Verdict::Pass,
            (None, _) => Verdict::Told,
        }
    }

    /// `1.031× [1.020×, 1.044×]`.
    #[must_use]
    pub fn shown(&self) -> String {
        match &self.outcome {
            Outcome::NotMeasured(_) => "–".to_owned(),
            Outcome::Measured(estimate) => shown(self.unit, estimate),
        }
    }

    /// Control and pressure in a few words.
    #[must_use]
    pub fn noise(&self) -> String {
        let control = self.control.map(|control| format!("A/A {}", shown(self.unit, &control.estimate)));
        let pressure = self.pressure.map(|pressure| format!("PSI {:.0} %", pressure.during));
        control.into_iter().chain(pressure).collect::<Vec<_>>().join(", ")
    }
}

fn shown(unit: Unit, estimate: &Estimate) -> String {
    let value = unit.show(estimate.value);
    if estimate.low < estimate.high {
        format!("{value} [{}, {}]", unit.show(estimate.low), unit.show(estimate.high))
    } else {
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_the_strictest_bound_that_a_figure_keeps() {
        let of = |row, case, value| Figure::of(row, case, "", Some(Estimate::exact(value))).verdict();
        assert_eq!(of(3, "10", 1.24), Verdict::Short);
        assert_eq!(of(3, "10", 1.25), Verdict::Pass);
        assert_eq!(of(3, "10", 1.32), Verdict::Ambition);
        assert_eq!(of(13, "10k", 0.26), Verdict::Short);
        assert_eq!(of(13, "10k", 0.25), Verdict::Pass);
        assert_eq!(of(17, "restart", 0.0), Verdict::Ambition);
        // Where only an ambition is written down, missing it is not falling short.
        assert_eq!(of(13, "100k", 2.0), Verdict::Told);
        assert_eq!(Figure::of(13, "10k", "", None).verdict().word(), "not measured");
        assert_eq!(
            Figure::missing(12, "cilium", "", "no sources").verdict(),
            Verdict::NotMeasured("no sources".to_owned())
        );
    }

    #[test]
    fn a_figure_is_shown_with_its_interval_and_its_noise() {
        let wide = Estimate { value: 1.0314, low: 1.02, high: 1.0444, samples: 9 };
        let figure = Figure::of(2, "crr", "", Some(wide)).controlled(Some(Estimate::exact(1.0)));
        let figure = figure.under(Some(Pressure { before: 0.0, during: 12.4 }));
        assert_eq!(figure.shown(), "1.031× [1.020×, 1.044×]");
        assert_eq!(figure.noise(), "A/A 1.000×, PSI 12 %");
    }
}
