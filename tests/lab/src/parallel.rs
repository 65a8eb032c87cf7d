//! The same work on many things by a few threads. Bringing up a namespace is mostly waiting for the kernel.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, anyhow};

const THREADS: usize = 4;

/// Runs `work` for every item.
///
/// # Errors
/// One of the errors; the other items are worked on all the same.
pub fn for_each<T: Sync>(items: &[T], work: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut result = Ok(());
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            result = result.and(work(item));
        }
        result
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS.min(items.len())).map(|_| scope.spawn(worker)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
            .fold(Ok(()), Result::and)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn every_item_is_worked_on_though_one_fails() {
        let seen = Mutex::new(Vec::new());
        let result = for_each(&[1, 2, 3, 4, 5, 6, 7], |item| {
            seen.lock().unwrap().push(*item);
            if *item == 2 { Err(anyhow!("two")) } else { Ok(()) }
        });
        assert_eq!(result.unwrap_err().to_string(), "two");
        let mut seen = seen.into_inner().unwrap();
        seen.sort_unstable();
        assert_eq!(seen, [1, 2, 3, 4, 5, 6, 7]);
    }
}
