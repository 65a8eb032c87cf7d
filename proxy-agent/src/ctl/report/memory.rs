//! Maps of policies whose longest question is asked once: which rule comes nearest is looked for in all of a set's
//! verdicts, and a matrix asks it for each of its cells.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;

use proxy_common::{
    Frontend, PeerClass, Policed, PolicyState, Port, Proto, RuleSetId, VerdictKey, VerdictPage,
};

use crate::ctl::policy::tables::Tables;

/// Tables, and all pages of the sets that were asked for.
pub(super) struct Remembered<'a, T> {
    tables: &'a T,
    sets: RefCell<HashMap<RuleSetId, Vec<(VerdictKey, VerdictPage)>>>,
}

impl<'a, T: Tables> Remembered<'a, T> {
    pub(super) fn new(tables: &'a T) -> Self {
        Self { tables, sets: RefCell::default() }
    }
}

impl<T: Tables> Tables for Remembered<'_, T> {
    fn pages_of(&self, rules: RuleSetId) -> io::Result<Vec<(VerdictKey, VerdictPage)>> {
        if let Some(known) = self.sets.borrow().get(&rules) {
            return Ok(known.clone());
        }
        let pages = self.tables.pages_of(rules)?;
        self.sets.borrow_mut().insert(rules, pages.clone());
        Ok(pages)
    }

    fn state(&self) -> io::Result<PolicyState> {
        self.tables.state()
    }

    fn policed(&self, ip: IpAddr) -> io::Result<Option<Policed>> {
        self.tables.policed(ip)
    }

    fn peer(&self, ip: IpAddr) -> io::Result<Option<PeerClass>> {
        self.tables.peer(ip)
    }

    fn block(&self, ip: IpAddr) -> io::Result<Option<PeerClass>> {
        self.tables.block(ip)
    }

    fn page(&self, key: VerdictKey) -> io::Result<Option<VerdictPage>> {
        self.tables.page(key)
    }

    fn own_addresses(&self) -> io::Result<Vec<IpAddr>> {
        self.tables.own_addresses()
    }

    fn is_own(&self, ip: IpAddr) -> io::Result<bool> {
        self.tables.is_own(ip)
    }

    fn is_in_pod_range(&self, ip: IpAddr) -> io::Result<bool> {
        self.tables.is_in_pod_range(ip)
    }

    fn frontend(&self, ip: IpAddr, port: Port, proto: Proto) -> io::Result<Option<Frontend>> {
        self.tables.frontend(ip, port, proto)
    }

    fn backends(&self, ip: IpAddr, frontend: &Frontend) -> io::Result<[Vec<(IpAddr, Port)>; 2]> {
        self.tables.backends(ip, frontend)
    }

    fn is_in_range(&self, client: IpAddr, frontend: &Frontend) -> io::Result<bool> {
        self.tables.is_in_range(client, frontend)
    }
}
