//! The seam between plans and maps: what [`super::apply`] needs of a family's maps. The kernel's maps implement
//! it here, a table in memory that can be told to fail implements it for tests.

use std::io;

use proxy_common::{Backend, Family, Frontend, FrontendKey, RangeKey};

use super::{
    family::{IN_RANGE, MapFamily, Maps},
    sys::Update,
};

/// The maps that a plan writes.
pub trait MapIo<F: Family> {
    /// Fills slots that no frontend points at.
    ///
    /// # Errors
    /// `InvalidInput` outside of the array.
    fn write_slots(&mut self, start: u32, slots: &[Backend<F::Addr>]) -> io::Result<()>;

    /// Everything written to slots so far is seen by whoever sees a later write to `frontends`.
    fn publish_slots(&mut self);

    /// Inserts or replaces frontends in order; gives how many were written before an error.
    fn put_frontends(
        &mut self,
        keys: &[FrontendKey<F::Addr>],
        values: &[Frontend],
    ) -> (usize, io::Result<()>);

    /// Deletes frontends in order; gives how many are gone before an error. One that is not there is gone.
    fn delete_frontends(&mut self, keys: &[FrontendKey<F::Addr>]) -> (usize, io::Result<()>);

    /// Inserts a source range.
    ///
    /// # Errors
    /// `ENOSPC` when the map is full, `ENOMEM`.
    fn put_range(&mut self, key: &RangeKey<F::Addr>) -> io::Result<()>;

    /// Deletes a source range; one that is not there is gone.
    ///
    /// # Errors
    /// As the kernel gives them.
    fn delete_range(&mut self, key: &RangeKey<F::Addr>) -> io::Result<()>;
}

impl<F: MapFamily> MapIo<F> for Maps<F> {
    fn write_slots(&mut self, start: u32, slots: &[Backend<F::Addr>]) -> io::Result<()> {
        self.backends
            .write(start, slots)
            .map_err(|outside| io::Error::new(io::ErrorKind::InvalidInput, outside))
    }

    fn publish_slots(&mut self) {
        self.backends.publish();
    }

    fn put_frontends(
        &mut self,
        keys: &[FrontendKey<F::Addr>],
        values: &[Frontend],
    ) -> (usize, io::Result<()>) {
        match (keys, values) {
            // A batch call costs more than a single one.
            ([key], [value]) => match self.frontends.put(key, value) {
                Ok(()) => (1, Ok(())),
                Err(error) => (0, Err(error)),
            },
            _ => self.frontends.put_all(keys, values, Update::Any),
        }
    }

    fn delete_frontends(&mut self, keys: &[FrontendKey<F::Addr>]) -> (usize, io::Result<()>) {
        for (gone, key) in keys.iter().enumerate() {
            if let Err(error) = self.frontends.remove(key) {
                return (gone, Err(error));
            }
        }
        (keys.len(), Ok(()))
    }

    fn put_range(&mut self, key: &RangeKey<F::Addr>) -> io::Result<()> {
        self.ranges.put(key, &IN_RANGE)
    }

    fn delete_range(&mut self, key: &RangeKey<F::Addr>) -> io::Result<()> {
        self.ranges.remove(key).map(drop)
    }
}
