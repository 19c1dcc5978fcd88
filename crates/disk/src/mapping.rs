//! The one kind of mapping: a large read-only reservation made once, over which the file grows.

use std::fs;
use std::io;
use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

use crate::Mapping;

/// Address space given to one file. Pages behind the file's end are reserved, not backed: they become
/// readable when the file grows, so the mapping never moves and no reader ever waits for a remap.
pub(crate) struct Reservation {
    base: NonNull<u8>,
    reserve_bytes: usize,
}

// SAFETY: the mapping is shared, read-only memory that lives until drop; nothing in the struct is tied to
// the thread that made it.
unsafe impl Send for Reservation {}
// SAFETY: `bytes` only hands out shared slices of memory this process never writes through the mapping.
unsafe impl Sync for Reservation {}

impl Reservation {
    pub(crate) fn new(file: &fs::File, reserve_bytes: u64) -> io::Result<Reservation> {
        let reserve_bytes = usize::try_from(reserve_bytes)
            .ok()
            .filter(|&bytes| bytes > 0 && bytes <= isize::MAX as usize)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: a fresh mapping at an address the kernel chooses cannot alias anything that exists.
        let base =
            unsafe { mmap(std::ptr::null_mut(), reserve_bytes, ProtFlags::READ, MapFlags::SHARED, file, 0)? };
        // The B+tree jumps about: read-ahead on a fault would only evict other pages. Advice may be refused.
        // SAFETY: the range is exactly the mapping made above.
        let _ = unsafe { madvise(base, reserve_bytes, Advice::Random) };
        let base = NonNull::new(base.cast::<u8>()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Reservation { base, reserve_bytes })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // SAFETY: the range is the one mmap returned, unmapped once; slices borrow `self`, so none is left.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.reserve_bytes) };
        debug_assert!(unmapped.is_ok(), "munmap of our own range failed: {unmapped:?}");
    }
}

impl Mapping for Reservation {
    fn bytes(&self, offset: u64, len: usize) -> &[u8] {
        let end = offset.checked_add(len as u64);
        assert!(
            end.is_some_and(|end| end <= self.reserve_bytes as u64),
            "bytes {offset}+{len} lie outside the reserved {} bytes",
            self.reserve_bytes
        );
        // SAFETY: the range lies in the mapping, which lives as long as `self`. The trait's contract says
        // that it lies within the file (a read behind the end is a SIGBUS, which stops the process, not
        // undefined behaviour) and that nobody writes these bytes while the slice lives.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(offset as usize), len) }
    }
}
