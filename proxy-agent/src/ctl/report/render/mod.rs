//! How a report looks: one HTML document with its style and its search in it. Structure first, for readers who hear it:
//! landmarks, headings, captions, and no meaning that is in a colour alone. Knows values, and nothing of where they are from.

mod course;
mod node;
mod policy;
mod service;

use super::html::Html;
use super::page::ReportPage;

const STYLE: &str = include_str!("../style.css");
pub(super) const SEARCH: &str = include_str!("../search.js");

/// What a browser may do with the page: nothing but to show it, and to run the one script whose digest this is. Should a
/// name get past the escaping after all, it still runs nothing and sends nothing.
pub(super) const ALLOWED: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src \
    'sha256-P+zY9IueG7OexKu4ZwkoECmOUQJIy6p5jvAjVwWHu4s='; base-uri 'none'; form-action 'none'";

/// Sections: where they are, and what they are called.
const SECTIONS: [(&str, &str); 6] = [
    ("node", "Node"),
    ("services", "Services"),
    ("policies", "Policies"),
    ("drops", "Drops"),
    ("maps", "Maps"),
    ("repairs", "Repairs"),
];

/// The document.
pub(super) fn page(page: &ReportPage) -> String {
    let mut html = Html::default();
    let name = page.node.name.as_deref().unwrap_or("this node");
    html.ours("<!doctype html>\n").open("html", &[("lang", "en")]);
    head(&mut html, name);
    html.open("body", &[]).element("a", &[("class", "skip"), ("href", "#main")], "To the content");
    html.open("header", &[]).element("h1", &[], &format!("Sluice on {name}"));
    html.element("p", &[("class", "soft")], &format!("As it was at {}.", page.at));
    node::cards(&mut html, page);
    html.close("header");
    navigation(&mut html);
    html.open("main", &[("id", "main")]);
    node::section(&mut html, &page.node);
    service::section(&mut html, &page.services);
    policy::section(&mut html, page);
    node::drops(&mut html, &page.drops, page.course.as_ref());
    node::maps(&mut html, &page.maps);
    node::repairs(&mut html, &page.repairs);
    html.close("main");
    let made = format!(
        "Made by proxyctl {} from the pinned maps and what the agent wrote beside them.",
        page.version
    );
    html.open("footer", &[]).element("p", &[], &made).close("footer");
    html.open("script", &[]).ours(SEARCH).close("script").close("body").close("html");
    html.finish()
}

fn head(html: &mut Html, name: &str) {
    html.open("head", &[]).open("meta", &[("charset", "utf-8")]);
    html.open("meta", &[("http-equiv", "Content-Security-Policy"), ("content", ALLOWED)]);
    html.open("meta", &[("name", "viewport"), ("content", "width=device-width, initial-scale=1")]);
    html.open("meta", &[("name", "referrer"), ("content", "no-referrer")]);
    html.element("title", &[], &format!("Sluice on {name}"));
    html.open("style", &[]).ours(STYLE).close("style").close("head");
}

fn navigation(html: &mut Html) {
    html.open("nav", &[("aria-label", "Sections")]).open("div", &[]).open("ul", &[]);
    for (id, title) in SECTIONS {
        html.open("li", &[]).element("a", &[("href", &format!("#{id}"))], title).close("li");
    }
    html.close("ul");
    // Without scripts there is nothing to search with, so it is not offered.
    html.open("form", &[("role", "search"), ("id", "finder"), ("hidden", "")]);
    html.element("label", &[("for", "search")], "Search");
    html.open(
        "input",
        &[("type", "search"), ("id", "search"), ("placeholder", "a Service, an address, a reason")],
    );
    html.element("span", &[("id", "found"), ("role", "status"), ("class", "soft")], "");
    html.close("form").close("div").close("nav");
}

/// Begins a section, which its heading names.
fn begin(html: &mut Html, id: &'static str) {
    let heading = format!("{id}-heading");
    let title = SECTIONS.into_iter().find(|(known, _)| *known == id).map_or(id, |(_, title)| title);
    html.open("section", &[("id", id), ("aria-labelledby", &heading)]);
    html.element("h2", &[("id", &heading)], title);
}
