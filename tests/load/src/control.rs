//! The control: the same thing measured twice under two names (A/A). If these two differ, nothing else in the same log can be
//! believed.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Transactions per second.
    Rate,
    /// Median of the time until a connection stands.
    ConnectP50,
    /// 99 of 100 connections stand within.
    ConnectP99,
    /// Median of a whole transaction.
    WholeP50,
    /// 99 of 100 transactions end within.
    WholeP99,
    /// Processor time per transaction, both ends.
    Cpu,
}

impl Metric {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Rate, Self::ConnectP50, Self::ConnectP99, Self::WholeP50, Self::WholeP99, Self::Cpu];

    /// How far from 1 two measurements of the same may lie: a finer difference is not claimed, and a control that is further
    /// off spoils the log.
    #[must_use]
    pub fn band(self) -> f64 {
        match self {
            Self::ConnectP50 | Self::WholeP50 => 0.005,
            Self::Rate | Self::Cpu => 0.025,
            Self::ConnectP99 | Self::WholeP99 => 0.10,
        }
    }

    /// The verdict of a control, the ratio of one to the other, on this metric.
    #[must_use]
    pub fn judge(self, control: f64) -> Verdict {
        let off = (control - 1.0).abs();
        // The histogram's steps are a thousandth wide.
        if off <= self.band() + 0.0005 { Verdict::Sound } else { Verdict::Spoilt { off } }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Rate => "rate",
            Self::ConnectP50 => "connect p50",
            Self::ConnectP99 => "connect p99",
            Self::WholeP50 => "whole p50",
            Self::WholeP99 => "whole p99",
            Self::Cpu => "cpu",
        })
    }
}

/// Whether what is in the log can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The two differ by less than the band.
    Sound,
    /// They differ by more.
    Spoilt {
        /// How far the median is from 1.
        off: f64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_within_the_band_is_sound_and_one_beyond_spoils_the_log() {
        for (metric, median, sound) in [
            (Metric::ConnectP50, 1.005, true),
            (Metric::ConnectP50, 0.99, false),
            (Metric::WholeP50, 1.02, false),
            (Metric::Rate, 1.024, true),
            (Metric::Rate, 0.96, false),
            (Metric::Cpu, 0.976, true),
            (Metric::ConnectP99, 0.91, true),
            (Metric::WholeP99, 1.2, false),
        ] {
            assert_eq!(metric.judge(median) == Verdict::Sound, sound, "{metric} {median}");
        }
    }

    #[test]
    fn a_spoilt_log_says_by_how_much() {
        let Verdict::Spoilt { off } = Metric::Rate.judge(0.9) else { panic!("sound") };
        assert!((off - 0.1).abs() < 1e-9);
    }
}
