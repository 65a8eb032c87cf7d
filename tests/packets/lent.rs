//! The rig itself: programs that are verified once serve one test after another.

use proxy_common::{Proto, policy::PolicyFlags};
use tests::{
    content::content,
    dataplane::{Dataplane, config},
    packet::{Packet, flags},
};

use crate::{
    family::FAMILIES,
    policy::{friends, leave},
};

#[test]
fn what_one_test_leaves_in_the_maps_reaches_no_other() {
    let fresh = content(Dataplane::alone(config()).object());
    for n in &FAMILIES {
        let mut used = friends(n);
        used.serve(Proto::TCP, n.vip, &[n.backend], |_| {});
        used.enforce(1, PolicyFlags::WATCHED);
        for to in [n.vip, n.stranger] {
            leave(&mut used, &Packet::tcp(flags::SYN, n.client, to).bytes());
        }
        let left = content(used.object());
        assert!(left.len() > fresh.len() + 8, "{:?}", left.keys());
        // Seen as memory, as cells of each processor and as a hash.
        for name in ["policywrites", "counters", "verdicts"] {
            assert!(left.contains_key(name), "{name} of {:?}", left.keys());
        }
        drop(used);
        let mut next = Dataplane::new(config());
        assert_eq!(next.notices(), []);
        assert_eq!(content(next.object()), fresh);
    }
}
