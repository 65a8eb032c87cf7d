//! Pinned links: made once, then only ever given a new program in one step. Whatever runs stays attached while
//! the agent is away, and no restart leaves a gap.
//!
//! Our programs go ahead of other people's on the same device: behind one that ends the chain they would never
//! see a packet. They hand on what is not theirs, so whoever follows sees it as without us, and sees translated
//! packets as the backend does.

use std::{
    fs, io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::fs::MetadataExt,
    },
    path::Path,
};

use aya_obj::generated::bpf_cmd;

use super::{
    error::Error,
    hook::{Anchor, Hook},
    load::Programs,
    pins::{PinnedLink, Pins, Target},
    remedy::Asked,
    sys::{self, Access, Place},
};

/// How a program came to its hook.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attached {
    /// A pinned link got the new program.
    Replaced,
    /// A link was made and pinned.
    Created,
}

/// Gives the hook on `target` our program. `number` is what the kernel calls the target: a device's index, or the
/// descriptor of the cgroup root.
///
/// # Errors
/// [`Error::Attach`]; what was attached before still is.
pub fn attach(
    pins: &Pins,
    programs: &Programs,
    hook: Hook,
    target: Target,
    number: u32,
    place: Place,
) -> Result<Attached, Error> {
    let pin = pins.link(hook, target);
    let program = programs.fd(hook)?;
    let failed =
        |verb, asked| move |source| Error::Attach { verb, asked, hook, target: describe(target), source };
    match replace(&pin, program) {
        Ok(true) => return Ok(Attached::Replaced),
        Ok(false) => {}
        Err(source) => return Err(failed("replace the program of", Asked::Hook)(source)),
    }
    let link = sys::create_link(program, number, hook.attach_type(), place)
        .map_err(failed("attach", Asked::Hook))?;
    sys::pin(link.as_fd(), &pin).map_err(failed("pin", Asked::File))?;
    Ok(Attached::Created)
}

/// Puts `program` into the link pinned at `pin`. False when there is none, or it was the link of something that
/// is gone; the pin is removed then.
fn replace(pin: &Path, program: BorrowedFd<'_>) -> io::Result<bool> {
    let link = match sys::open_pin(pin, Access::Write) {
        Ok(link) => link,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match sys::update_link(link.as_fd(), program) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {
            fs::remove_file(pin)?;
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Gives every pinned link of a device its new program, before anything is known of the devices. Then, and not
/// before, links are let go whose hook is not needed any more: one road takes over before the other ends. Gives how
/// many links were replaced.
///
/// # Errors
/// [`Error::Attach`], [`Error::Path`].
pub fn replace_devices(pins: &Pins, programs: &Programs) -> Result<usize, Error> {
    let mut replaced = 0;
    let needed = |hook| programs.hooks().any(|one| one == hook);
    let (kept, unneeded): (Vec<_>, Vec<_>) = pins.links()?.into_iter().partition(|link| needed(link.hook));
    for PinnedLink { hook, target, path } in kept.into_iter().filter(|link| link.target != Target::Cgroup) {
        let (verb, asked) = ("replace the program of", Asked::Hook);
        let failed = |source| Error::Attach { verb, asked, hook, target: describe(target), source };
        replaced += usize::from(replace(&path, programs.fd(hook)?).map_err(failed)?);
    }
    unneeded.iter().try_for_each(detach)?;
    Ok(replaced)
}

/// Lets a link go: its program does not run any more. That it is gone already is no error.
///
/// # Errors
/// [`Error::Path`].
pub fn detach(link: &PinnedLink) -> Result<(), Error> {
    let_go(&link.path).map(drop)
}

/// Lets the link go that is pinned there, whatever its name. Gives whether there was one.
///
/// # Errors
/// [`Error::Path`].
pub(super) fn let_go(pin: &Path) -> Result<bool, Error> {
    // It must not run without what goes after it: see `onward`. If it cannot be told to go, it goes with its pin.
    if let Ok(link) = sys::open_pin(pin, Access::Write) {
        let _ = detach_now(link.as_fd());
    }
    match fs::remove_file(pin) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        result => result.map(|()| true).map_err(Error::path("unpin", pin)),
    }
}

/// Lets a link's program run no more (`BPF_LINK_DETACH`), now: a link whose last pin is removed goes some milliseconds later, and
/// what its program needs may be gone before.
///
/// # Errors
/// `EOPNOTSUPP` for links that only go with their last pin.
fn detach_now(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = sys::attr();
    attr.link_detach.link_fd = link.as_raw_fd() as u32;
    sys::bpf(bpf_cmd::BPF_LINK_DETACH, &mut attr).map(drop)
}

/// How many links came to their programs in which way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// See [`Attached::Replaced`].
    pub replaced: usize,
    /// See [`Attached::Created`].
    pub created: usize,
}

/// Attaches all cgroup hooks that have a program.
///
/// # Errors
/// [`Error::Attach`]; links made before the error are let go, so that no half of a road is served.
pub fn attach_cgroup(pins: &Pins, programs: &Programs, cgroup_root: &Path) -> Result<Tally, Error> {
    let hooks: Vec<_> = programs.hooks().filter(|hook| hook.anchor() == Anchor::Cgroup).collect();
    if hooks.is_empty() {
        return Ok(Tally::default());
    }
    let opened = fs::File::open(cgroup_root).and_then(|file| Ok((file.metadata()?.ino(), file)));
    let (inode, cgroup) = opened.map_err(Error::path("open the cgroup", cgroup_root))?;
    let pinned = pins.links()?;
    for link in pinned.iter().filter(|link| link.target == Target::Cgroup) {
        // The operator named another cgroup, or this one was made anew.
        if super::pins::link_facts(link)?.cgroup != inode {
            detach(link)?;
        }
    }
    let (mut replaced, mut created) = (0, Vec::new());
    for hook in hooks {
        match attach(pins, programs, hook, Target::Cgroup, cgroup.as_raw_fd() as u32, Place::Any) {
            Ok(Attached::Replaced) => replaced += 1,
            Ok(Attached::Created) => created.push(hook),
            Err(error) => {
                for hook in created {
                    let path = pins.link(hook, Target::Cgroup);
                    detach(&PinnedLink { hook, target: Target::Cgroup, path })?;
                }
                return Err(error);
            }
        }
    }
    Ok(Tally { replaced, created: created.len() })
}

fn describe(target: Target) -> String {
    match target {
        Target::Cgroup => "the cgroup root".into(),
        Target::Device(index) => format!("device {}", index.0),
    }
}
