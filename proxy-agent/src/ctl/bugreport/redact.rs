//! Crosses out what must not leave the node. Works on text of any kind: what is not recognised is not hidden, so parts that may
//! hold secrets in other forms are not collected at all.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// What the name of a field says if its value is nobody else's business.
const SECRET: [&str; 8] =
    ["token", "password", "secret", "key-data", "keydata", "certificate", "credential", "authorization"];

/// Addresses seen so far, with their numbers.
#[derive(Default, Debug)]
pub(super) struct Redactor {
    seen: BTreeMap<IpAddr, usize>,
}

impl Redactor {
    /// Different addresses that were hidden.
    pub(super) fn count(&self) -> usize {
        self.seen.len()
    }

    /// The text without the values of fields of a telling name, in JSON (`"name": "value"`) and in flags (`name=value`).
    pub(super) fn secrets(&self, text: &str) -> String {
        text.split_inclusive('\n').map(|line| in_flags(&in_json(line))).collect()
    }

    /// The text with a number in the place of each address. Those that are the same everywhere stay: loopback and none.
    pub(super) fn addresses(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find(is_part) {
            out.push_str(&rest[..start]);
            rest = &rest[start..];
            let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            out.push_str(&self.word(&rest[..end]));
            rest = &rest[end..];
        }
        out.push_str(rest);
        out
    }

    /// A word of hexadecimal digits, dots and colons: an address, one with a port, or neither.
    fn word(&mut self, word: &str) -> String {
        if let Ok(address) = word.parse() {
            return self.name(address);
        }
        // `10.0.0.1:80`, and a full stop or colon of the sentence.
        match word.rsplit_once([':', '.']) {
            Some((address, port)) => match address.parse() {
                Ok(address) => format!(
                    "{}{}{port}",
                    self.name(address),
                    &word[word.len() - port.len() - 1..word.len() - port.len()]
                ),
                Err(_) => word.to_owned(),
            },
            None => word.to_owned(),
        }
    }

    fn name(&mut self, address: IpAddr) -> String {
        if address.is_loopback() || address.is_unspecified() {
            return address.to_string();
        }
        let next = self.seen.len() + 1;
        format!("address-{}", self.seen.entry(address).or_insert(next))
    }
}

fn is_part(c: char) -> bool {
    c.is_ascii_hexdigit() || c == '.' || c == ':'
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET.iter().any(|secret| name.contains(secret))
}

/// Fields of a line of JSON whose value is a string.
fn in_json(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some((before, name, value, after)) = field(rest) {
        out.push_str(before);
        let value = if is_secret(name) { "REDACTED" } else { value };
        out.push_str(value);
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Up to the value, the name, the value without quotes, and the rest from the closing quote on.
fn field(text: &str) -> Option<(&str, &str, &str, &str)> {
    let colon = text.match_indices("\":").map(|(at, _)| at).find(|at| {
        let value = text[at + 2..].trim_start();
        value.starts_with('"')
    })?;
    let name = &text[text[..colon].rfind('"')? + 1..colon];
    let begin = colon + 2 + text[colon + 2..].find('"')? + 1;
    let mut escaped = false;
    let end = text[begin..].find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    })?;
    Some((&text[..begin], name, &text[begin..begin + end], &text[begin + end..]))
}

/// A line `name=value`, as `/flagz` has them.
fn in_flags(line: &str) -> String {
    match line.split_once('=') {
        Some((name, value)) if !name.contains([' ', '{', '"']) && is_secret(name) => {
            format!("{name}=REDACTED{}", if value.ends_with('\n') { "\n" } else { "" })
        }
        Some(_) | None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_under_telling_names_are_crossed_out() {
        let redactor = Redactor::default();
        for (text, redacted) in [
            (
                "{\"bearerToken\": \"a\\\"b\", \"node\": \"n1\"}",
                "{\"bearerToken\": \"REDACTED\", \"node\": \"n1\"}",
            ),
            ("  \"client-certificate-data\":\"x\",\n", "  \"client-certificate-data\":\"REDACTED\",\n"),
            ("bootstrap-token=abc\nnode-name=n1\n", "bootstrap-token=REDACTED\nnode-name=n1\n"),
            ("{\"port\": 80, \"password\": 7}", "{\"port\": 80, \"password\": 7}"),
        ] {
            assert_eq!(redactor.secrets(text), redacted);
        }
    }

    #[test]
    fn each_address_has_one_number_wherever_it_stands() {
        let mut redactor = Redactor::default();
        let text = "10.1.2.3:80 -> [fd00::1]:53, 10.1.0.0/16, (10.1.2.3). 127.0.0.1 :: 12:30:59Z v1.2.3 dead";
        let redacted =
            "address-1:80 -> [address-2]:53, address-3/16, (address-1). 127.0.0.1 :: 12:30:59Z v1.2.3 dead";
        assert_eq!(redactor.addresses(text), redacted);
        assert_eq!(redactor.addresses("at fd00::1."), "at address-2.");
        assert_eq!(redactor.count(), 3);
    }
}
