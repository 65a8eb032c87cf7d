//! The devices whose incoming packets pass one of our programs, for the programs themselves: what was seen where it came in
//! is not looked at again where it leaves. Written in memory, so that it can be taken back before a program goes.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use proxy_common::limits::HOOKED;

use super::{error::Error, memory::Slots, pins::Pins, sys::Access};

const MAP: &str = "hooked";

/// The map, for the one who writes.
#[derive(Debug)]
pub struct Hooked(Option<Slots<u32>>);

impl Hooked {
    pub(super) fn open(pins: &Pins, access: Access) -> Result<Self, Error> {
        Slots::open(pins, MAP, access).map(Self)
    }

    /// These are the devices, and no others.
    pub(super) fn set(&self, devices: impl Iterator<Item = u32>) {
        let Some(slots) = &self.0 else { return };
        let wanted = places(devices);
        for (slot, device) in (0..).zip(wanted) {
            if let Some(word) = slots.word(slot, 0)
                && word.load(Relaxed) != device
            {
                word.store(device, SeqCst);
            }
        }
    }
}

/// What stands where; of two devices with one place the last one has it.
fn places(devices: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut places = vec![0; HOOKED as usize];
    for device in devices {
        if let Some(place) = places.get_mut((device % HOOKED) as usize) {
            *place = device;
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_stands_at_the_lower_bits_of_its_index_and_shares_the_place_with_nobody() {
        let places = places([3, HOOKED + 3, 2 * HOOKED + 7].into_iter());
        let taken: Vec<_> = places.into_iter().enumerate().filter(|(_, device)| *device != 0).collect();
        assert_eq!(taken, [(3, HOOKED + 3), (7, 2 * HOOKED + 7)]);
    }
}
