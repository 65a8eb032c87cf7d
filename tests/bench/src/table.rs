//! The terminal's table: row, figure, must, ambition, verdict.

use comfy_table::{Table, presets::NOTHING};

use crate::summary::{Line, Summary};

/// The table, what failed, and the tally.
#[must_use]
pub fn text(summary: &Summary) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["ROW", "GOAL", "ON", "FIGURE", "MUST", "AMBITION", "VERDICT", "NOISE"]);
    for line in summary.lines() {
        table.add_row(cells(&line));
    }
    let mut out = table.to_string();
    out.push_str("\n\n");
    for (what, reason) in summary.failures() {
        out.push_str(&format!("{what}: FAILED: {reason}\n"));
    }
    out.push_str(&format!("{}\n", summary.tally()));
    out
}

pub(crate) fn cells(line: &Line) -> [String; 8] {
    let Line { goal, what: _, figure } = line;
    [
        goal.row.to_string(),
        goal.claim.to_owned(),
        figure.configuration.clone(),
        figure.shown(),
        goal.show(goal.must),
        goal.show(goal.ambition),
        figure.verdict().shown(),
        figure.noise(),
    ]
}

/// A table of one part alone: every figure of it, those without goals too.
#[must_use]
pub fn of_part(part: &crate::Part) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["ROW", "WHAT", "ON", "FIGURE", "MUST", "VERDICT", "NOISE"]);
    for figure in &part.figures {
        let goal = figure.goal();
        table.add_row([
            goal.map_or_else(String::new, |goal| goal.row.to_string()),
            figure.name.clone(),
            figure.configuration.clone(),
            figure.shown(),
            goal.map_or_else(String::new, |goal| goal.show(goal.must)),
            figure.verdict().shown(),
            figure.noise(),
        ]);
    }
    format!("{table}\n")
}

#[cfg(test)]
mod tests {
    use crate::summary::tests::summary;

    #[test]
    fn a_line_says_row_goal_figure_bounds_and_verdict() {
        let line = &summary().lines().into_iter().find(|line| line.goal.row == 13).expect("a line");
        assert_eq!(
            super::cells(line),
            [
                "13",
                "first sync of 10,000 × 2, decoded → serving",
                "v4",
                "0.200 s [0.190 s, 0.220 s]",
                "≤ 0.250 s",
                "≤ 0.100 s",
                "pass",
                ""
            ]
        );
    }

    #[test]
    fn what_failed_is_said_below_the_table() {
        let text = super::text(&summary());
        assert!(text.contains("\nconnect: FAILED: ended with status 1\n"), "{text}");
        assert!(text.ends_with(" not measured\n"), "{text}");
    }
}
