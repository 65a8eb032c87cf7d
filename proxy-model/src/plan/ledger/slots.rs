//! The two lists of a Service port as its segments hold them: laid out once, when the port changes, and not for each
//! of its frontends.

use std::sync::Arc;

use proxy_common::Family;

use crate::family::Served;
use crate::intent::{Backends, PortIntent};
use crate::roster::{self, TableSize};

/// The backends of a port as its segments hold them.
#[derive(Debug)]
pub(super) struct Slots<F: Family> {
    pub(super) cluster: Backends<F>,
    pub(super) local: Backends<F>,
}

impl<F: Served> Slots<F> {
    pub(super) fn of(port: &PortIntent<F>, size: TableSize) -> Self {
        let cluster = roster::slots(&port.cluster, port.algorithm, size);
        let local = if Arc::ptr_eq(&port.cluster, &port.local) {
            cluster.clone()
        } else {
            roster::slots(&port.local, port.algorithm, size)
        };
        Self { cluster, local }
    }
}
