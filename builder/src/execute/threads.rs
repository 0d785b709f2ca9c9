//! What the threads of a build wait for.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A result that arrives once; `None` when there will be none.
#[derive(Debug)]
pub(super) struct Slot<T> {
    result: Mutex<Option<Option<Arc<T>>>>,
    arrived: Condvar,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Slot { result: Mutex::new(None), arrived: Condvar::new() }
    }
}

impl<T> Slot<T> {
    pub(super) fn fill(&self, result: Option<T>) {
        *lock(&self.result) = Some(result.map(Arc::new));
        self.arrived.notify_all();
    }

    /// Promises a result: none, if nothing else was filled in when this is dropped, by a panic perhaps.
    pub(super) fn promise(&self) -> Promise<'_, T> {
        Promise(self)
    }

    pub(super) fn wait(&self) -> Option<Arc<T>> {
        let result = lock(&self.result);
        let result = self.arrived.wait_while(result, |result| result.is_none());
        result.unwrap_or_else(PoisonError::into_inner).clone().flatten()
    }
}

/// Keeps those who wait for a result from waiting for ever.
#[derive(Debug)]
pub(super) struct Promise<'a, T>(&'a Slot<T>);

impl<T> Drop for Promise<'_, T> {
    fn drop(&mut self) {
        if lock(&self.0.result).is_none() {
            self.0.fill(None);
        }
    }
}

/// How many may go on at the same time.
#[derive(Debug)]
pub(super) struct Permits {
    free: Mutex<usize>,
    returned: Condvar,
}

/// One of them, returned when dropped.
#[derive(Debug)]
pub(super) struct Permit<'a>(&'a Permits);

impl Permits {
    pub(super) fn new(count: usize) -> Self {
        Permits { free: Mutex::new(count), returned: Condvar::new() }
    }

    pub(super) fn take(&self) -> Permit<'_> {
        let free = self.returned.wait_while(lock(&self.free), |free| *free == 0);
        *free.unwrap_or_else(PoisonError::into_inner) -= 1;
        Permit(self)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *lock(&self.0.free) += 1;
        self.0.returned.notify_one();
    }
}

/// What is behind these locks is whole at every moment, so a panic elsewhere does not matter.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
