//! Where the member stands, readable by anyone without a lock.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use membership::MemberId;

/// Raft's figures, written by the raft and the apply thread. They are read one by one: together they are a
/// picture of about now, never a basis for a decision about data.
#[derive(Default)]
pub struct RaftProgress {
    term: AtomicU64,
    /// 0 for none.
    leader: AtomicU64,
    committed: AtomicU64,
    applied: AtomicU64,
    applied_term: AtomicU64,
    /// The log writer has something to do.
    log_is_busy: AtomicBool,
    /// Raft hands out nothing more before it hears what is applied.
    waits_for_applied: AtomicBool,
}

impl RaftProgress {
    pub fn term(&self) -> u64 {
        self.term.load(Ordering::Relaxed)
    }

    pub fn set_term(&self, term: u64) {
        self.term.store(term, Ordering::Relaxed);
    }

    pub fn leader(&self) -> Option<MemberId> {
        match self.leader.load(Ordering::Relaxed) {
            0 => None,
            id => Some(MemberId(id)),
        }
    }

    pub fn set_leader(&self, leader: Option<MemberId>) {
        self.leader.store(leader.map_or(0, |id| id.0), Ordering::Relaxed);
    }

    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    pub fn set_committed(&self, index: u64) {
        self.committed.fetch_max(index, Ordering::Relaxed);
    }

    /// Highest entry whose effects the published view holds.
    pub fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    pub fn set_applied(&self, index: u64, term: u64) {
        self.applied_term.store(term, Ordering::Relaxed);
        self.applied.store(index, Ordering::Release);
    }

    pub fn applied_term(&self) -> u64 {
        self.applied_term.load(Ordering::Relaxed)
    }

    /// Whether writes of raft are on their way to the disk: what is proposed now can be gathered meanwhile.
    pub fn log_is_busy(&self) -> bool {
        self.log_is_busy.load(Ordering::Relaxed)
    }

    pub fn set_log_is_busy(&self, on: bool) {
        self.log_is_busy.store(on, Ordering::Relaxed);
    }

    pub fn waits_for_applied(&self) -> bool {
        self.waits_for_applied.load(Ordering::SeqCst)
    }

    pub fn set_waits_for_applied(&self, on: bool) {
        self.waits_for_applied.store(on, Ordering::SeqCst);
    }
}

/// Sizes of the file after its last commit.
#[derive(Default)]
pub struct FileProgress {
    size: AtomicI64,
    size_in_use: AtomicI64,
    open_reads: AtomicI64,
    /// Bytes of applied entries that the file does not hold yet.
    unfolded_bytes: AtomicU64,
    defragmenting: AtomicBool,
}

impl FileProgress {
    /// Bytes up to the file's high-water mark.
    pub fn size(&self) -> i64 {
        self.size.load(Ordering::Relaxed)
    }

    pub fn size_in_use(&self) -> i64 {
        self.size_in_use.load(Ordering::Relaxed)
    }

    pub fn open_reads(&self) -> i64 {
        self.open_reads.load(Ordering::Relaxed)
    }

    pub fn set(&self, size: i64, size_in_use: i64, open_reads: i64) {
        self.size.store(size, Ordering::Relaxed);
        self.size_in_use.store(size_in_use, Ordering::Relaxed);
        self.open_reads.store(open_reads, Ordering::Relaxed);
    }

    pub fn unfolded_bytes(&self) -> u64 {
        self.unfolded_bytes.load(Ordering::Relaxed)
    }

    pub fn add_unfolded(&self, bytes: u64) {
        self.unfolded_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn subtract_unfolded(&self, bytes: u64) {
        self.unfolded_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub fn is_defragmenting(&self) -> bool {
        self.defragmenting.load(Ordering::Relaxed)
    }

    pub fn set_defragmenting(&self, on: bool) {
        self.defragmenting.store(on, Ordering::Relaxed);
    }
}
