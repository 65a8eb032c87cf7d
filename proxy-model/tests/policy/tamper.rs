//! What somebody who has no business there may do to the maps of policies. Knows nothing of what should be in them.

use std::collections::BTreeMap;

use proptest::sample::Index;
use proxy_common::policy::{Effect, PeerClass, Policed, PolicyState, RuleSetId, VerdictKey, VerdictPage};
use proxy_model::fact::Prefix;

use crate::fixture::ip;
use crate::kernel::Kernel;

/// Something that is done to one entry.
pub type Deed = fn(&mut Kernel, Index);

/// All of them.
pub const DEEDS: [Deed; 12] = [
    |kernel, entry| take(&mut kernel.policed, entry),
    |kernel, entry| take(&mut kernel.peers, entry),
    |kernel, entry| take(&mut kernel.blocks, entry),
    |kernel, entry| take(&mut kernel.verdicts, entry),
    change_a_page,
    |kernel, entry| change(&mut kernel.verdicts, entry, |page| page.effect = Effect::ALLOW),
    |kernel, _| kernel.state = PolicyState::default(),
    |kernel, _| kernel.state.epoch += 7,
    |kernel, _| {
        kernel.policed.insert(ip("10.9.9.9"), Policed { ingress: RuleSetId(77), ..Policed::default() });
    },
    |kernel, _| {
        kernel.peers.insert(ip("10.9.9.9"), PeerClass(77));
    },
    |kernel, _| {
        kernel.blocks.insert(Prefix { addr: ip("10.9.9.0"), len: 24 }, PeerClass(77));
    },
    |kernel, entry| {
        // For a rule set that is in use, about somebody of whom it says nothing.
        let sets: Vec<_> = kernel.verdicts.keys().map(|key| key.rules).chain([RuleSetId(77)]).collect();
        let page = VerdictPage { pages: 1, ..VerdictPage::default() };
        kernel.verdicts.insert(VerdictKey::new(*entry.get(&sets), PeerClass(77), 0), page);
    },
];

/// Another rule is named for what no interval is about.
pub fn change_a_page(kernel: &mut Kernel, entry: Index) {
    change(&mut kernel.verdicts, entry, |page| page.otherwise.0 ^= 1);
}

/// One more page of a pair that has a single one, as all of its pages say then.
pub fn add_a_page(kernel: &mut Kernel, entry: Index) {
    let singles = kernel.verdicts.iter().filter(|(_, page)| page.pages == 1);
    let singles: Vec<_> = singles.map(|(key, page)| (*key, *page)).collect();
    if singles.is_empty() {
        return;
    }
    let (key, page) = entry.get(&singles);
    let both = VerdictPage { pages: 2, ..*page };
    kernel.verdicts.insert(*key, both);
    kernel.verdicts.insert(VerdictKey::new(key.rules, key.peer, 1), both);
}

fn change<K: Ord, V>(map: &mut BTreeMap<K, V>, entry: Index, deed: fn(&mut V)) {
    let count = map.len();
    if count > 0 {
        map.values_mut().nth(entry.index(count)).into_iter().for_each(deed);
    }
}

fn take<K: Ord + Copy, V>(map: &mut BTreeMap<K, V>, entry: Index) {
    let keys: Vec<_> = map.keys().copied().collect();
    if !keys.is_empty() {
        map.remove(entry.get(&keys));
    }
}
