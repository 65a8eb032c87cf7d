//! The report as one HTML file that needs no network: the table of goals, then each part with its figures and plots.

use std::fmt::Write as _;

use crate::{
    figure::{Figure, Verdict},
    part::{Mode, Part},
    plot::{escaped, svg},
    summary::Summary,
    table,
};

const STYLE: &str = include_str!("page.css");

/// Writing to a `String` cannot fail.
macro_rules! put {
    ($out:expr, $($text:tt)*) => { let _ = writeln!($out, $($text)*); };
}

/// The whole page.
#[must_use]
pub fn html(summary: &Summary) -> String {
    let mut out = String::new();
    put!(out, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">");
    put!(out, "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
    put!(out, "<meta name=\"color-scheme\" content=\"light dark\">");
    put!(out, "<title>Sluice: measured</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>");
    put!(out, "<h1>Sluice: measured</h1>\n<p class=\"tally\">{}</p>", escaped(&summary.tally().to_string()));
    for (what, reason) in summary.failures() {
        put!(out, "<p class=\"failure\"><b>{}</b> failed: {}</p>", escaped(what), escaped(reason));
    }
    goals(&mut out, summary);
    for part in summary.parts() {
        section(&mut out, part);
    }
    put!(out, "</main>\n</body>\n</html>");
    out
}

fn class(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Ambition => "ambition",
        Verdict::Pass => "pass",
        Verdict::Short => "short",
        Verdict::Told => "told",
        Verdict::NotMeasured(_) => "missing",
    }
}

fn head(out: &mut String, names: &[&str]) {
    let cells: String = names.iter().map(|name| format!("<th>{name}</th>")).collect();
    put!(out, "<div class=\"wide\"><table>\n<thead><tr>{cells}</tr></thead>\n<tbody>");
}

fn goals(out: &mut String, summary: &Summary) {
    put!(out, "<h2>Goals</h2>");
    head(out, &["Row", "Goal", "On", "Figure", "Must", "Ambition", "Verdict", "Noise"]);
    for line in summary.lines() {
        let cells: String =
            table::cells(&line).iter().map(|cell| format!("<td>{}</td>", escaped(cell))).collect();
        put!(out, "<tr class=\"{}\">{cells}</tr>", class(&line.figure.verdict()));
    }
    put!(out, "</tbody></table></div>");
}

fn section(out: &mut String, part: &Part) {
    let Part { what, mode, command, versions, seconds, figures, plots, notes } = part;
    let mode = match mode {
        Mode::Full => "in full",
        Mode::Quick => "quickly",
    };
    put!(out, "<section>\n<h2>{}</h2>", escaped(what));
    put!(out, "<p><code>{}</code>, {mode}, in {seconds:.0} s</p>", escaped(command));
    let versions: Vec<String> = versions
        .iter()
        .map(|version| format!("{} {}", escaped(&version.name), escaped(&version.version)))
        .collect();
    put!(out, "<p class=\"versions\">{}</p>", versions.join(" · "));
    for note in notes {
        put!(out, "<p>{}</p>", escaped(note));
    }
    for plot in plots {
        put!(out, "<figure><figcaption>{}</figcaption>\n{}</figure>", escaped(&plot.title), svg(plot));
    }
    head(out, &["What", "On", "Figure", "Samples", "Noise"]);
    for figure in figures {
        row(out, figure);
    }
    put!(out, "</tbody></table></div>\n</section>");
}

fn row(out: &mut String, figure: &Figure) {
    let (shown, samples) = match &figure.outcome {
        crate::figure::Outcome::Measured(estimate) => (figure.shown(), estimate.samples.to_string()),
        crate::figure::Outcome::NotMeasured(reason) => (format!("not measured: {reason}"), String::new()),
    };
    let cells: String = [figure.name.as_str(), &figure.configuration, &shown, &samples, &figure.noise()]
        .map(|cell| format!("<td>{}</td>", escaped(cell)))
        .concat();
    put!(out, "<tr class=\"{}\">{cells}</tr>", class(&figure.verdict()));
}

#[cfg(test)]
mod tests {
    use crate::summary::tests::summary;

    #[test]
    fn the_page_has_every_part_and_asks_nobody_for_anything() {
        let page = super::html(&summary());
        for piece in [
            "<p class=\"failure\"><b>connect</b> failed: ended with status 1</p>",
            "<td>0.200 s [0.190 s, 0.220 s]</td><td>≤ 0.250 s</td>",
            "<figcaption>Latency &lt;p50&gt;</figcaption>",
            "<polyline class=\"line c0\"",
            "<tr class=\"short\">",
        ] {
            assert!(page.contains(piece), "{piece}\n{page}");
        }
        for word in ["http:", "https:", "src=", "href=", "<script", "@import", "url("] {
            assert!(!page.contains(word), "{word}");
        }
        assert_eq!(page.matches("<tr").count(), page.matches("</tr>").count());
        assert_eq!(page.matches("<table").count(), page.matches("</table>").count());
    }
}
