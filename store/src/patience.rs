//! Whether this thread may wait for a disk or for another's lock.
//!
//! A server tries an operation first where nothing may block, and runs it again elsewhere
//! when it would. What waits lies deep below the operations that lead there, so the thread
//! knows, as in a kernel, and no signature in between does.

use crate::error::StoreError;
use crate::types::Errno;
use std::cell::Cell;

thread_local! {
    static HURRIED: Cell<bool> = const { Cell::new(false) };
}

/// Puts back what was, also when a panic passes.
struct Before(bool);

impl Drop for Before {
    fn drop(&mut self) {
        HURRIED.set(self.0);
    }
}

/// Runs `f`, in which what would wait fails with [`Errno::Again`] and has changed nothing.
pub fn without_waiting<T>(f: impl FnOnce() -> T) -> T {
    let _before = Before(HURRIED.replace(true));
    f()
}

/// False inside [`without_waiting`], until the operation there has begun to change something.
pub fn may_wait() -> bool {
    !HURRIED.get()
}

/// Before anything that waits.
pub(crate) fn about_to_wait() -> Result<(), StoreError> {
    if may_wait() {
        Ok(())
    } else {
        Err(StoreError::WouldWait)
    }
}

/// As [`about_to_wait`], for who speaks in errnos.
pub(crate) fn may_block() -> Result<(), Errno> {
    if may_wait() {
        Ok(())
    } else {
        Err(Errno::Again)
    }
}

/// The operation has begun to change something: from here on it waits where it must.
pub(crate) fn see_it_through() {
    HURRIED.set(false);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_ends_also_by_a_panic() {
        assert!(may_wait());
        without_waiting(|| {
            assert!(!may_wait());
            without_waiting(see_it_through);
            assert!(!may_wait());
        });
        let panicked = std::panic::catch_unwind(|| without_waiting(|| panic!("inside")));
        assert!(panicked.is_err());
        assert!(may_wait());
    }
}
