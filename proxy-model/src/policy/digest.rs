//! Names from contents: SipHash-2-4 over a canonical encoding, the same on every node, in every version and at any time.
//!
//! <https://cr.yp.to/siphash/siphash-20120918.pdf>, with keys of zero: nobody gains by a collision, because two contents
//! with one digest are told apart by [`Register`].

use std::collections::BTreeMap;

/// What is encoded, so that equal bytes of two kinds are two things. Changes when the meaning of an encoding does:
/// entries that an older agent left are others then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Domain {
    Peers = 1,
    Rule = 2,
    RuleSet = 3,
    Class = 4,
    Middle = 5,
}

/// Collects the bytes of a content. Every part says how long it is, so no two contents have the same bytes.
#[derive(Debug)]
pub(super) struct Encoder(Vec<u8>);

impl Encoder {
    pub(super) fn new(domain: Domain) -> Self {
        Self(vec![domain as u8])
    }

    pub(super) fn tag(&mut self, tag: u8) -> &mut Self {
        self.0.push(tag);
        self
    }

    pub(super) fn number(&mut self, number: u64) -> &mut Self {
        self.0.extend(number.to_le_bytes());
        self
    }

    pub(super) fn count(&mut self, count: usize) -> &mut Self {
        self.number(count as u64)
    }

    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.count(text.len());
        self.0.extend(text.as_bytes());
        self
    }

    pub(super) fn addr(&mut self, addr: std::net::IpAddr) -> &mut Self {
        match addr {
            std::net::IpAddr::V4(v4) => self.tag(4).number(u64::from(v4.to_bits())),
            std::net::IpAddr::V6(v6) => {
                self.tag(6);
                self.0.extend(v6.octets());
                self
            }
        }
    }

    /// The digest: neither zero nor all ones, which stand for something.
    pub(super) fn digest(&self) -> u64 {
        proper(siphash([0, 0], &self.0))
    }
}

/// A digest of bytes that names nothing: others have another one, but for one in four billion.
pub(super) fn short(bytes: &[u8]) -> u32 {
    let [a, b, c, d, ..] = siphash([0, 0], bytes).to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// Zero and all ones are names of their own (`OPEN`, `WORLD`, `NONE`, `CLOSED`).
fn proper(digest: u64) -> u64 {
    digest.clamp(1, u64::MAX - 1)
}

/// Who has which name. The second content with a digest gets the next free one.
#[derive(Debug)]
pub(super) struct Register<T>(BTreeMap<u64, T>);

impl<T> Default for Register<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: PartialEq> Register<T> {
    /// The name of a content whose digest this is.
    pub(super) fn name(&mut self, digest: u64, content: T) -> u64 {
        let mut name = proper(digest);
        while self.0.get(&name).is_some_and(|known| *known != content) {
            name = if name == u64::MAX - 1 { 1 } else { name + 1 };
        }
        self.0.entry(name).or_insert(content);
        name
    }

    pub(super) fn get(&self, name: u64) -> Option<&T> {
        self.0.get(&name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.0.iter().map(|(name, content)| (*name, content))
    }

    /// Forgets contents that nobody has any more.
    pub(super) fn retain(&mut self, keep: impl Fn(u64) -> bool) {
        self.0.retain(|name, _| keep(*name));
    }
}

fn siphash([k0, k1]: [u64; 2], bytes: &[u8]) -> u64 {
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let mut take = |word: u64| {
        v[3] ^= word;
        round(&mut v);
        round(&mut v);
        v[0] ^= word;
    };
    let chunks = bytes.chunks_exact(8);
    let rest = chunks.remainder();
    for chunk in chunks {
        take(word(chunk));
    }
    take(word(rest) | (bytes.len() as u64) << 56);
    v[2] ^= 0xff;
    for _ in 0..4 {
        round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

/// Up to eight bytes, the first lowest.
fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

fn round(v: &mut [u64; 4]) {
    let [mut a, mut b, mut c, mut d] = *v;
    a = a.wrapping_add(b);
    b = b.rotate_left(13) ^ a;
    a = a.rotate_left(32);
    c = c.wrapping_add(d);
    d = d.rotate_left(16) ^ c;
    a = a.wrapping_add(d);
    d = d.rotate_left(21) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    c = c.rotate_left(32);
    *v = [a, b, c, d];
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Appendix A of the paper: the key is the bytes from 0 to 15, the message those from 0 to 14.
    #[test]
    fn digests_are_siphash_2_4() {
        let bytes: Vec<u8> = (0..15).collect();
        assert_eq!(siphash([0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908], &bytes), 0xa129_ca61_49be_45e5);
    }

    #[test]
    fn two_contents_with_one_digest_have_two_names() {
        let mut register = Register::default();
        assert_eq!(register.name(7, "a"), 7);
        assert_eq!(register.name(7, "b"), 8);
        assert_eq!(register.name(7, "a"), 7);
        assert_eq!(register.name(7, "b"), 8);
        assert_eq!(register.name(u64::MAX, "c"), u64::MAX - 1);
        assert_eq!(register.name(u64::MAX - 1, "d"), 1, "neither zero nor all ones");
    }

    #[test]
    fn parts_of_a_content_do_not_run_together() {
        let digest = |parts: &[&str]| {
            let mut encoder = Encoder::new(Domain::Rule);
            for part in parts {
                encoder.text(part);
            }
            encoder.digest()
        };
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
        assert_ne!(Encoder::new(Domain::Rule).digest(), Encoder::new(Domain::Class).digest());
    }
}
