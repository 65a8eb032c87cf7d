//! What was lost while somebody watched, as a line for each reason: small pictures under each other have one axis of time.

use crate::ctl::report::course::{Course, CourseLine};
use crate::ctl::report::html::Html;

/// Pixels of a picture.
const WIDTH: f64 = 240.0;
const HEIGHT: f64 = 36.0;
/// Around the line, so that all of its thickness is seen.
const EDGE: f64 = 2.0;

/// The table of pictures.
pub(super) fn show(html: &mut Html, course: &Course) {
    let seconds = course.seconds();
    html.element("h3", &[], "While it was watched");
    if course.reasons.is_empty() {
        html.element("p", &[], &format!("Nothing was lost in {seconds:.0} seconds."));
        return;
    }
    let caption = format!("Packets and socket calls that ended in {seconds:.0} seconds, by reason");
    html.table(&caption, &["Reason", "Outcome", "Count", "Most in a second", "Course"]);
    for line in &course.reasons {
        html.open("tr", &[("data-row", "")]).element("th", &[("scope", "row")], line.reason);
        html.element("td", &[], line.outcome);
        for cell in [line.count.to_string(), format!("{:.1}", line.most())] {
            html.element("td", &[("class", "number")], &cell);
        }
        html.open("td", &[]);
        picture(html, line, &course.ends);
        html.close("td").close("tr");
    }
    html.end_table();
}

/// Steps: in each part of the time a height. The most of this reason is the whole height.
fn picture(html: &mut Html, line: &CourseLine, ends: &[f64]) {
    let (whole, most) = (ends.last().copied().unwrap_or(0.0), line.most());
    let x = |seconds: f64| if whole > 0.0 { seconds / whole * WIDTH } else { 0.0 };
    let y = |rate: f64| {
        let share = if most > 0.0 { rate / most } else { 0.0 };
        HEIGHT - EDGE - share * (HEIGHT - 2.0 * EDGE)
    };
    let begins = std::iter::once(0.0).chain(ends.iter().copied());
    let steps = begins.zip(ends).zip(&line.per_second);
    let step = |((begin, end), rate): ((f64, &f64), &f64)| {
        format!("{:.1},{:.1} {:.1},{:.1}", x(begin), y(*rate), x(*end), y(*rate))
    };
    let points: Vec<String> = steps.map(step).collect();
    let last = line.per_second.last().copied().unwrap_or(0.0);
    let said = format!("{} in a second: {most:.1} at most, {last:.1} at the end", line.reason);
    let size = format!("0 0 {WIDTH} {HEIGHT}");
    html.open("svg", &[("class", "course"), ("role", "img"), ("aria-label", &said), ("viewBox", &size)]);
    html.open("polyline", &[("points", &points.join(" "))]).close("polyline").close("svg");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_as_wide_as_it_was_long_and_as_high_as_its_rate() {
        let line = CourseLine {
            reason: "no-endpoints",
            outcome: "reject",
            count: 16,
            per_second: vec![0.0, 8.0, 2.0],
        };
        let mut html = Html::default();
        picture(&mut html, &line, &[1.0, 2.0, 4.0]);
        let expected = "<svg class=\"course\" role=\"img\" \
            aria-label=\"no-endpoints in a second: 8.0 at most, 2.0 at the end\" viewBox=\"0 0 240 36\">\
            <polyline points=\"0.0,34.0 60.0,34.0 60.0,2.0 120.0,2.0 120.0,26.0 240.0,26.0\"></polyline>\n</svg>\n";
        assert_eq!(html.finish(), expected);
    }

    #[test]
    fn nothing_lost_is_a_sentence() {
        let mut html = Html::default();
        show(&mut html, &Course { ends: vec![10.0, 30.0], reasons: Vec::new() });
        assert_eq!(html.finish(), "<h3>While it was watched</h3><p>Nothing was lost in 30 seconds.</p>");
    }
}
