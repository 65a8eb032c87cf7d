//! Classes of prefixes: the trie that has them all, and the hash that has some of them again where programs find them sooner
//! (`docs/decisions/0047-*`). To everybody else it is one table. Knows nothing of what classes are for.

use std::{collections::BTreeMap, io};

use proxy_common::{
    Address, PeerClass, PrefixKey,
    group::{Division, Grain, Group, Tier, Whole},
};

use super::map::Table;

/// Of a prefix of which both maps do not say the same: no prefix that is wanted is of it, so each audit sees it as changed.
pub const TORN: PeerClass = PeerClass(u64::MAX);

/// The maps of one family.
#[derive(Debug)]
pub struct Blocks<A> {
    /// All prefixes; their scope is their tier.
    pub trie: Table<PrefixKey<A>, PeerClass>,
    /// Those of them that are groups; those of the other family, too.
    pub wholes: Table<Whole, PeerClass>,
}

impl<A: Address> Blocks<A> {
    /// Inserts or replaces a prefix: last where it is looked for first, so that programs find it as it was or as it is to be.
    ///
    /// # Errors
    /// As the kernel gives them; then [`Self::entries`] has the prefix as it was, or as [`TORN`].
    pub fn put(&self, key: &PrefixKey<A>, class: &PeerClass) -> io::Result<()> {
        self.trie.put(key, class)?;
        Whole::of(key).map_or(Ok(()), |whole| self.wholes.put(&whole, class))
    }

    /// Deletes a prefix; that it is not there is no error. First where it is looked for first: what is found afterwards may be
    /// itself or what is around it, and after the second write the latter.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn remove(&self, key: &PrefixKey<A>) -> io::Result<()> {
        if let Some(whole) = Whole::of(key) {
            self.wholes.remove(&whole)?;
        }
        self.trie.remove(key).map(drop)
    }

    /// Writes anew what follows from the trie: another layout's agent may have left none of it, or what is not true any more.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn derive(&self) -> io::Result<()> {
        let mut found = self.wholes()?;
        for (key, class) in self.trie.entries()?.iter().filter(|(key, _)| Whole::of(key).is_some()) {
            if found.remove(key) != Some(*class) {
                self.put(key, class)?;
            }
        }
        let mut stale = found.keys().filter_map(Whole::of);
        stale.try_for_each(|whole| self.wholes.remove(&whole).map(drop))
    }

    /// The family's own.
    fn wholes(&self) -> io::Result<BTreeMap<PrefixKey<A>, PeerClass>> {
        let all = self.wholes.entries()?.into_iter();
        Ok(all.filter_map(|(whole, class)| Some((whole.key()?, class))).collect())
    }

    /// All prefixes.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn entries(&self) -> io::Result<Vec<(PrefixKey<A>, PeerClass)>> {
        Ok(together(&self.trie.entries()?, self.wholes()?))
    }

    /// The class of the longest prefix around an address, as the programs find it where prefixes divide addresses so.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn around(&self, addr: A, division: Division) -> io::Result<Option<PeerClass>> {
        let grain = division.grain();
        if division.has_wholes::<A>()
            && let Some(class) = self.wholes.get(&Group::of(&addr, grain, 0).whole)?
        {
            return Ok(Some(class));
        }
        let searched = [(Tier::NARROW, grain != Grain::COARSEST && !division.is_even()), (Tier::WIDE, true)];
        for (tier, _) in searched.into_iter().filter(|(_, is_searched)| *is_searched) {
            if let Some(class) = self.trie.get(&PrefixKey::exactly(tier.0, addr))? {
                return Ok(Some(class));
            }
        }
        Ok(None)
    }
}

/// One table of both maps.
fn together<A: Address>(
    trie: &[(PrefixKey<A>, PeerClass)],
    mut wholes: BTreeMap<PrefixKey<A>, PeerClass>,
) -> Vec<(PrefixKey<A>, PeerClass)> {
    let mut all = Vec::with_capacity(trie.len());
    for (key, class) in trie {
        let is_torn = wholes.remove(key) != Some(*class) && Whole::of(key).is_some();
        all.push((*key, if is_torn { TORN } else { *class }));
    }
    all.extend(wholes.into_keys().map(|key| (key, TORN)));
    all
}

#[cfg(test)]
mod tests {
    use proxy_common::{Addr4, Addr6};

    use super::*;

    const HERE: PeerClass = PeerClass(7);
    const ELSEWHERE: PeerClass = PeerClass(8);

    fn key<A: Address>(prefix: &str) -> PrefixKey<A> {
        let (addr, len) = prefix.split_once('/').unwrap();
        Tier::key(A::from_ip(addr.parse().unwrap()).unwrap(), len.parse().unwrap())
    }

    /// `whole` and `other` are two groups, in this order; `odd` is none.
    fn told<A: Address>([whole, other, odd]: [&str; 3]) {
        let (whole, other, odd) = (key::<A>(whole), key::<A>(other), key::<A>(odd));
        let cases = [
            (vec![(whole, HERE), (odd, HERE)], vec![(whole, HERE)], vec![(whole, HERE), (odd, HERE)]),
            (vec![(whole, HERE)], vec![], vec![(whole, TORN)]),
            (vec![(whole, HERE)], vec![(whole, ELSEWHERE)], vec![(whole, TORN)]),
            (vec![(whole, HERE)], vec![(whole, HERE), (other, HERE)], vec![(whole, HERE), (other, TORN)]),
            (vec![], vec![(other, HERE)], vec![(other, TORN)]),
        ];
        for (trie, wholes, want) in cases {
            assert_eq!(together(&trie, wholes.iter().copied().collect()), want, "{trie:?} and {wholes:?}");
        }
    }

    #[test]
    fn a_prefix_of_which_the_maps_do_not_say_the_same_is_of_no_class_that_anybody_wants() {
        told::<Addr4>(["100.64.7.0/24", "100.64.16.0/20", "100.64.7.0/25"]);
        told::<Addr6>(["fd64:1:2:3::/64", "fd64:1:2::/48", "fd64:1:2:3::/65"]);
        told::<Addr4>(["100.64.7.16/28", "100.65.7.0/24", "100.64.0.0/16"]);
        told::<Addr6>(["fd64:1:2::/48", "fd64:1:3::/48", "fd64:1::/32"]);
    }
}
