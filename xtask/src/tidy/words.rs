//! Words that have no place in the repository. The list is the configuration.

use super::{Breach, Source};

/// A forbidden word and what to do instead.
///
/// The words are written in two parts, so that this file may stand in the repository.
const WORDS: &[(&str, &str)] = &[
    (concat!("TO", "DO"), "finish it, or say as a sentence what is missing and why that is right"),
    (concat!("FIX", "ME"), "fix it"),
    (concat!("XX", "X:"), "say it in a sentence"),
    (concat!("todo", "!("), "write it"),
    (concat!("unimplemented", "!("), "write it"),
    (concat!("#[ig", "nore"), "a test that does not run proves nothing"),
    (concat!("/ro", "ot/"), "a path of one machine"),
    (concat!("/ho", "me/"), "a path of one machine"),
    (concat!("/Us", "ers/"), "a path of one machine"),
    (concat!("/wo", "rk/"), "a path of one machine"),
    (concat!("arti", "factory"), "a registry of one place"),
    (concat!("GOPR", "OXY="), "a registry of one place"),
];

pub(super) fn check(source: &Source<'_>) -> Vec<Breach> {
    let lines = source.text.lines().zip(1..);
    let found = lines.flat_map(|(line, number)| {
        let words = WORDS.iter().filter(move |(word, _)| line.contains(word));
        words.map(move |(word, instead)| source.breach(number, format!("`{word}`: {instead}")))
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_forbidden_word_is_found_on_its_line_with_the_advice() {
        let text = format!("fine\n// {}: later\n", WORDS[0].0);
        let found = check(&Source { path: Path::new("a.md"), text: &text });
        let what = format!("`{}`: {}", WORDS[0].0, WORDS[0].1);
        assert_eq!(found, [Breach { path: "a.md".into(), line: 2, what }]);
    }
}
