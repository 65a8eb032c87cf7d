//! The way of a packet from hook to hook: each says what becomes of it, and the routing tables where it goes next.

use std::net::IpAddr;

use anyhow::bail;
use proxy_common::reason::Outcome;
use proxy_common::{DeviceKind, Route, V4, V6};

use super::frame::{Key, Tuple};
use super::page::{End, Ends, Step};
use crate::ctl::policy::tables::Tables as _;
use crate::ctl::reader::Reader;
use crate::kernel::hook::Hook;
use crate::kernel::rehearsal::{Fate, Passage, Played, Rehearsal};
use crate::kernel::topology::IfIndex;
use crate::kernel::way::Ways;
use crate::observe::maps::outcome;

/// Hooks that a packet meets at most: two, and two more if it is sent out of another device. More is a circle.
const HOOKS: usize = 8;

/// Where a packet meets the first hook.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Start {
    /// It comes from a pod of this node.
    Pod(IfIndex),
    /// The node itself sends it.
    Node,
    /// It comes from elsewhere.
    Outside(IfIndex),
}

/// A packet on its way.
pub(super) struct Journey<'a> {
    reader: &'a Reader,
    rehearsal: Rehearsal,
    ways: Ways,
    pub(super) steps: Vec<Step>,
}

/// What a hook left to be done.
enum Onward {
    /// Through the stack.
    Stack(Vec<u8>),
    /// Out of a device.
    Device(IfIndex, Vec<u8>),
    /// It is there.
    There(End, String),
}

impl<'a> Journey<'a> {
    pub(super) fn new(reader: &'a Reader, rehearsal: Rehearsal, ways: Ways, steps: Vec<Step>) -> Self {
        Self { reader, rehearsal, ways, steps }
    }

    /// Follows the packet to its end.
    pub(super) async fn follow(&mut self, start: Start, tuple: Tuple) -> anyhow::Result<(End, String)> {
        let (mut onward, from) = match start {
            Start::Node => (Onward::Stack(tuple.frame([0; 6])), None),
            Start::Pod(device) => (self.enter(Hook::FromPod, device, tuple).await?, Some(device)),
            Start::Outside(device) => (self.enter(Hook::FromWire, device, tuple).await?, Some(device)),
        };
        for _ in 0..HOOKS {
            let (device, frame) = match onward {
                Onward::There(end, text) => return Ok((end, text)),
                Onward::Device(device, frame) => (device, frame),
                Onward::Stack(frame) => match self.route(&frame).await? {
                    Ok(device) => (device, frame),
                    Err(end) => return Ok(end),
                },
            };
            onward = self.leave(device, from, &frame).await?;
        }
        bail!("the packet goes round in a circle")
    }

    async fn enter(&mut self, hook: Hook, device: IfIndex, tuple: Tuple) -> anyhow::Result<Onward> {
        let address = self.ways.device(device).await?.address;
        let frame = tuple.frame(address);
        self.play(hook, Passage { device, from: Some(device) }, &frame).await
    }

    /// Runs the program of the device's egress hook, if it has one.
    async fn leave(
        &mut self,
        device: IfIndex,
        from: Option<IfIndex>,
        frame: &[u8],
    ) -> anyhow::Result<Onward> {
        let name = self.ways.device(device).await?.name;
        let (hook, end, text) = match self.kind(device)? {
            DeviceKind::POD => (Hook::ToPod, End::Pod, format!("delivered to the pod behind {name}")),
            DeviceKind::UPLINK => (Hook::ToWire, End::Wire, format!("sent out of {name}")),
            _ => {
                let text = format!("leaves by {name}, where no program of Sluice hangs");
                return Ok(Onward::There(End::Elsewhere, text));
            }
        };
        match self.play(hook, Passage { device, from }, frame).await? {
            Onward::Stack(_) => Ok(Onward::There(end, text)),
            other @ (Onward::Device(..) | Onward::There(..)) => Ok(other),
        }
    }

    async fn play(&mut self, hook: Hook, passage: Passage, frame: &[u8]) -> anyhow::Result<Onward> {
        let Some(before) = Tuple::of(frame) else { bail!("the packet is not of IP any more") };
        let Played { reason, fate, frame: after } = self.rehearsal.play(hook, passage, frame)?;
        let ends = |tuple: Tuple| Ends { source: tuple.src, destination: tuple.dst };
        let goes_on = fate != Fate::Ended;
        self.steps.push(Step {
            hook: hook.name(),
            device: Some(self.ways.device(passage.device).await?.name),
            before: ends(before),
            after: Tuple::of(&after).filter(|_| goes_on).map(ends),
            reason: reason.text(),
            outcome: outcome(reason.outcome()),
            meaning: reason.explanation(),
        });
        match fate {
            Fate::Ended if reason.outcome() == Outcome::Reject => {
                Ok(Onward::There(End::Rejected, "rejected: the client is told at once".into()))
            }
            Fate::Ended => Ok(Onward::There(End::Dropped, "dropped".into())),
            Fate::Next => Ok(Onward::Stack(after)),
            Fate::Redirected => self.redirect(before, after).await,
        }
    }

    /// Where a packet goes that a program sent on its way itself: its connection's entry says so.
    async fn redirect(&self, before: Tuple, frame: Vec<u8>) -> anyhow::Result<Onward> {
        let way = match before.key() {
            Some(Key::Four(key)) => self.rehearsal.way::<V4>(key)?,
            Some(Key::Six(key)) => self.rehearsal.way::<V6>(key)?,
            None => None,
        };
        match way {
            Some((Route::PEER, device)) => {
                let name = self.ways.device(device).await?.name;
                Ok(Onward::There(End::Pod, format!("put straight into the pod behind {name}")))
            }
            Some((_, device)) if device.0 != 0 => Ok(Onward::Device(device, frame)),
            Some(_) | None => Ok(Onward::There(End::Elsewhere, "sent on by the program itself".into())),
        }
    }

    /// The device by which the stack sends a packet; or where it ends.
    async fn route(&self, frame: &[u8]) -> anyhow::Result<Result<IfIndex, (End, String)>> {
        let Some(tuple) = Tuple::of(frame) else { bail!("the packet is not of IP any more") };
        let ip: IpAddr = tuple.dst.ip();
        if self.reader.pinned.is_own(ip)? {
            return Ok(Err((End::Node, "delivered to the node itself".into())));
        }
        let Some(way) = self.ways.to(ip).await? else {
            return Ok(Err((End::Elsewhere, format!("this node has no route to {ip}"))));
        };
        // A bridge does not say which of its ports leads to the pod; a pod under a policy is known by its own.
        let own = self.reader.pinned.policed(ip)?.map(|policed| policed.device).filter(|index| *index != 0);
        Ok(Ok(match (self.kind(way.device)?, own) {
            (DeviceKind::POD | DeviceKind::UPLINK, _) | (_, None) => way.device,
            (_, Some(index)) => IfIndex(index),
        }))
    }

    fn kind(&self, device: IfIndex) -> anyhow::Result<DeviceKind> {
        Ok(self.reader.pinned.devices.get(&device.0)?.unwrap_or_default().role())
    }
}
