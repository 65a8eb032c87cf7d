//! Writes HTML. Tags and attributes are words of ours; every text goes through [`Html::text`], which is the only way in
//! for what others have named, and there it can neither end an element nor begin one.

use std::fmt::Write as _;

use crate::ctl::output::printable;

/// Attributes of an element: names are ours, values are escaped.
pub(super) type Attributes<'a> = &'a [(&'static str, &'a str)];

/// A document that is being written.
#[derive(Default)]
pub(super) struct Html(String);

impl Html {
    /// Begins an element.
    pub(super) fn open(&mut self, tag: &'static str, attributes: Attributes<'_>) -> &mut Self {
        self.0.push('<');
        self.0.push_str(tag);
        for (name, value) in attributes {
            // Writing to a String cannot fail.
            let _ = write!(self.0, " {name}=\"");
            self.text(value).0.push('"');
        }
        self.0.push('>');
        self
    }

    /// Ends an element; a line each keeps the source legible.
    pub(super) fn close(&mut self, tag: &'static str) -> &mut Self {
        let _ = writeln!(self.0, "</{tag}>");
        self
    }

    /// An element with nothing but text in it.
    pub(super) fn element(&mut self, tag: &'static str, attributes: Attributes<'_>, text: &str) -> &mut Self {
        self.open(tag, attributes).text(text);
        let _ = write!(self.0, "</{tag}>");
        self
    }

    /// Text, whoever wrote it.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        for c in printable(text).chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                c => self.0.push(c),
            }
        }
        self
    }

    /// What is part of this program, as it is.
    pub(super) fn ours(&mut self, source: &'static str) -> &mut Self {
        self.0.push_str(source);
        self
    }

    /// Begins a table that is named for those who cannot see where it stands.
    pub(super) fn table(&mut self, caption: &str, headings: &[&str]) -> &mut Self {
        // A wide table scrolls by itself, also by keys.
        self.open(
            "div",
            &[("class", "scroll"), ("tabindex", "0"), ("role", "region"), ("aria-label", caption)],
        );
        self.open("table", &[]).element("caption", &[], caption).open("thead", &[]).open("tr", &[]);
        for heading in headings {
            self.element("th", &[("scope", "col")], heading);
        }
        self.close("tr").close("thead").open("tbody", &[])
    }

    /// Ends a table.
    pub(super) fn end_table(&mut self) -> &mut Self {
        self.close("tbody").close("table").close("div")
    }

    /// A row that is found by its text; its first cell names it.
    pub(super) fn row(&mut self, cells: &[&str]) -> &mut Self {
        self.open("tr", &[("data-row", "")]);
        for (place, cell) in cells.iter().enumerate() {
            match place {
                0 => self.element("th", &[("scope", "row")], cell),
                _ => self.element("td", &[], cell),
            };
        }
        self.close("tr")
    }

    /// The document.
    pub(super) fn finish(self) -> String {
        self.0
    }
}
