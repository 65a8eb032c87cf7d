//! Entry functions, one file per kind of hook: each is one call and one match from a reason to an action.

mod cgroup;
mod tc;
mod xdp;
