//! How results are printed: tables for people, JSON for programs. Names from outside lose their control
//! characters before they reach a terminal, so the only colours are our own, and whoever prints to something
//! else takes them away ([`print`]).

use std::io::{self, Write as _};

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

/// How to print.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// Columns for people
    Table,
    /// More columns, where there are more
    Wide,
    /// One JSON value for programs
    Json,
    /// The same as YAML
    Yaml,
}

/// Something that is a row of a table.
pub(super) trait Row: Serialize {
    /// Column headings.
    const COLUMNS: &'static [&'static str];
    /// Headings of what `-o wide` adds.
    const WIDE: &'static [&'static str] = &[];
    /// One cell per column.
    fn cells(&self) -> Vec<String>;
    /// One cell per column that is added.
    fn wide_cells(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Something that is more than rows.
pub(super) trait Page: Serialize {
    /// The text for people.
    fn text(&self) -> String;
    /// The same with what `-o wide` adds.
    fn wide(&self) -> String {
        self.text()
    }
}

/// What a word means for whoever looks at the screen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tone {
    /// As it should be.
    Good,
    /// Worth a look.
    Doubtful,
    /// Something does not work.
    Bad,
    /// Beside the point.
    Quiet,
}

impl Tone {
    /// The text in its colour; `text` holds none of its own.
    pub(super) fn paint(self, text: &str) -> String {
        let code = match self {
            Self::Good => 32,
            Self::Doubtful => 33,
            Self::Bad => 31,
            Self::Quiet => 2,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Prints text, in colours only on a terminal that may have them (`NO_COLOR`, `TERM=dumb`).
///
/// # Errors
/// As writing to standard output gives them.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The text as it is seen without colours.
#[cfg(test)]
pub(super) fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

impl Format {
    /// Prints rows.
    pub(super) fn rows<R: Row>(self, rows: &[R]) -> anyhow::Result<String> {
        match self {
            Self::Table => Ok(table(rows)),
            Self::Wide => Ok(wide(rows)),
            Self::Json => json(&rows),
            Self::Yaml => Ok(serde_norway::to_string(&rows)?),
        }
    }

    /// Prints one thing.
    pub(super) fn one<P: Page>(self, page: &P) -> anyhow::Result<String> {
        match self {
            Self::Table => Ok(page.text()),
            Self::Wide => Ok(page.wide()),
            Self::Json => json(page),
            Self::Yaml => Ok(serde_norway::to_string(page)?),
        }
    }

    /// Prints one of many things that follow each other: one line of JSON each, or one document of YAML.
    pub(super) fn document<P: Page>(self, page: &P) -> anyhow::Result<String> {
        match self {
            Self::Table | Self::Wide => self.one(page),
            Self::Json => Ok(serde_json::to_string(page)? + "\n"),
            Self::Yaml => Ok(format!("---\n{}", serde_norway::to_string(page)?)),
        }
    }
}

fn json(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// Rows in columns; nothing but the headings without any.
pub(super) fn table<R: Row>(rows: &[R]) -> String {
    columns(R::COLUMNS.iter().map(ToString::to_string).collect(), rows.iter().map(Row::cells).collect())
}

fn wide<R: Row>(rows: &[R]) -> String {
    let headings = R::COLUMNS.iter().chain(R::WIDE).map(ToString::to_string).collect();
    columns(headings, rows.iter().map(|row| [row.cells(), row.wide_cells()].concat()).collect())
}

/// Cells in columns.
pub(super) fn columns(headings: Vec<String>, rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headings);
    for row in rows {
        table.add_row(row.iter().map(|cell| printable(cell)).collect::<Vec<_>>());
    }
    let text = table.to_string();
    // Cells are padded to their column; nobody wants the blanks at the end of a line.
    text.lines().map(|line| line.trim_end().strip_prefix(' ').unwrap_or(line.trim_end())).fold(
        String::new(),
        |mut all, line| {
            all.push_str(line);
            all.push('\n');
            all
        },
    )
}

/// The text without characters that are obeyed and not seen: a name may hold an escape sequence of a terminal.
pub(super) fn printable(text: &str) -> String {
    let shown = |c: char| if is_obeyed(c) { c.escape_default().collect::<Vec<_>>() } else { vec![c] };
    text.chars().flat_map(shown).collect()
}

/// Control characters, and those of Unicode that turn text round or hide in it: they make one name look like another.
fn is_obeyed(c: char) -> bool {
    let is_hidden = matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{e0000}'..='\u{e007f}');
    c.is_control() || is_hidden
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Pair(&'static str, u32);

    impl Row for Pair {
        const COLUMNS: &'static [&'static str] = &["NAME", "COUNT"];

        fn cells(&self) -> Vec<String> {
            vec![self.0.into(), self.1.to_string()]
        }
    }

    #[test]
    fn rows_stand_in_columns_and_escapes_are_shown_and_not_obeyed() {
        let rows = [Pair("a", 100), Pair("\x1b[31mred\n", 2)];
        assert_eq!(
            Format::Table.rows(&rows).unwrap(),
            "NAME             COUNT\na                100\n\\u{1b}[31mred\\n  2\n"
        );
        assert_eq!(printable("moc\u{202e}.a\u{200b}b\u{9b}"), "moc\\u{202e}.a\\u{200b}b\\u{9b}");
        assert_eq!(Format::Table.rows::<Pair>(&[]).unwrap(), "NAME  COUNT\n");
        assert_eq!(Format::Json.rows(&[Pair("a", 1)]).unwrap(), "[\n  [\n    \"a\",\n    1\n  ]\n]\n");
    }
}
