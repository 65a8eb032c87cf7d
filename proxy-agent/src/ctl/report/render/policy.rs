//! Policies: the matrix of who may talk to whom, each of its cells in words below it, and who denied packets.

use super::begin;
use crate::ctl::report::html::Html;
use crate::ctl::report::matrix::{Cell, Extent, Matrix, Party};
use crate::ctl::report::page::{Denial, ReportPage};

/// The matrix, and what was denied.
pub(super) fn section(html: &mut Html, page: &ReportPage) {
    begin(html, "policies");
    let matrix = &page.matrix;
    if !matrix.in_force {
        html.element("p", &[], "No policy is in force on this node: every pod may talk to every pod.");
    } else if matrix.parties.is_empty() {
        html.element(
            "p",
            &[],
            "No pod of this node is known by name: `proxyctl policy list` shows what is in force.",
        );
    } else {
        table(html, matrix);
        words(html, matrix);
    }
    if !page.denials.is_empty() {
        html.element("h3", &[], "Who denied");
        html.table(
            "Packets denied by policies, by rule, since the maps were made",
            &["Policy", "Direction", "Rule", "Packets"],
        );
        for Denial { policy, direction, rule, packets } in &page.denials {
            html.row(&[policy, direction, rule, &packets.to_string()]);
        }
        html.end_table();
    }
    html.close("section");
}

fn table(html: &mut Html, matrix: &Matrix) {
    html.element(
        "p",
        &[],
        "Rows send, columns receive. Pods that rules do not tell apart share a row. \
        Each cell leads to the rules that decide; other pods and addresses: `proxyctl explain`.",
    );
    html.open(
        "div",
        &[("class", "scroll"), ("tabindex", "0"), ("role", "region"), ("aria-label", "Policy matrix")],
    );
    html.open("table", &[("class", "matrix")]).element("caption", &[], "Who may talk to whom");
    html.open("thead", &[]).open("tr", &[]).element("th", &[("scope", "col")], "from \\ to");
    for party in &matrix.parties {
        html.element("th", &[("scope", "col")], &label(party));
    }
    html.close("tr").close("thead").open("tbody", &[]);
    for (from, (party, row)) in matrix.parties.iter().zip(&matrix.rows).enumerate() {
        html.open("tr", &[]).element("th", &[("scope", "row")], &label(party));
        for (to, cell) in row.iter().enumerate() {
            let (class, said) = summary(cell);
            html.open("td", &[("class", class)]);
            match cell.extent() {
                Extent::Nobody => html.text(&said),
                Extent::All | Extent::Some | Extent::None => {
                    html.element("a", &[("href", &format!("#pair-{from}-{to}"))], &said)
                }
            };
            html.close("td");
        }
        html.close("tr");
    }
    html.end_table();
    if matrix.left_out > 0 {
        let more = format!("{} more pods have no row here.", matrix.left_out);
        html.element("p", &[], &more);
    }
}

fn label(party: &Party) -> String {
    match party.more.len() {
        0 => party.name.clone(),
        1 => format!("{} and 1 more", party.name),
        more => format!("{} and {more} more", party.name),
    }
}

/// A cell in few words: the sign and the text say what the colour says.
fn summary(cell: &Cell) -> (&'static str, String) {
    match cell.extent() {
        Extent::Nobody => ("soft", "-".into()),
        Extent::All => ("all", "✓ all".into()),
        Extent::None => ("none", "✗ none".into()),
        Extent::Some => {
            let allowed = cell.answers.iter().filter(|answer| answer.allowed);
            let parts: Vec<&str> = allowed.map(|answer| &*answer.what).collect();
            ("some", format!("◐ {}", parts.join("; ")))
        }
    }
}

/// Every cell as rows of a table: for those who search, and for those who do not see the matrix.
fn words(html: &mut Html, matrix: &Matrix) {
    html.element("h3", &[], "In words");
    html.table(
        "Every pair, and which rules decide",
        &["From", "To", "Ports", "Verdict", "The sender's rules", "The receiver's rules"],
    );
    for (from, row) in matrix.rows.iter().enumerate() {
        for (to, cell) in row.iter().enumerate() {
            let id = format!("pair-{from}-{to}");
            for (place, answer) in cell.answers.iter().enumerate() {
                let first = [("data-row", ""), ("id", &*id)];
                html.open("tr", if place == 0 { &first } else { &first[..1] });
                html.element("th", &[("scope", "row")], &names(&matrix.parties[from]));
                let verdict = if answer.allowed { "allowed" } else { "denied" };
                let to = names(&matrix.parties[to]);
                for cell in [&to, &answer.what, verdict, &answer.egress, &answer.ingress] {
                    html.element("td", &[], cell);
                }
                html.close("tr");
            }
        }
    }
    html.end_table();
}

/// All pods of a party, so that a search finds each.
fn names(party: &Party) -> String {
    std::iter::once(&party.name).chain(&party.more).cloned().collect::<Vec<_>>().join(", ")
}
