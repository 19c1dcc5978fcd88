//! Disks as they may look after the power went.
//!
//! What is certain at the crash point: data of a file up to its last successful sync, and names in a
//! directory up to its last sync. All else is [`Pending`], and any part of it may have reached the disk:
//! - each 512-byte sector of each unsynced write on its own (a torn write);
//! - changes of one file's length in their order, a write past the end growing the file by itself;
//! - changes of one directory's names in their order (file systems journal them so), but independently of
//!   other directories and of the data: a name may survive while the file behind it is still empty.

use std::collections::BTreeMap;
use std::fmt;

use super::MemDisk;
use super::record::Op;
use super::tree::{Content, Inode, InodeId, Tree};

/// What a device writes whole or not at all.
pub const SECTOR_BYTES: u64 = 512;

/// One thing that may or may not have reached the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pending {
    /// Part of a write, within one sector.
    Sector {
        inode: InodeId,
        offset: u64,
        len: usize,
    },
    Length {
        inode: InodeId,
        len: u64,
    },
    /// A name made, removed or moved into this directory. Survives only if all before it in it do.
    Name {
        dir: InodeId,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Durable,
    /// Positions in `pending` of this operation's units.
    Pending {
        first: usize,
        count: usize,
    },
}

/// The power went at one point; [`Crash::image`] makes the disks that may be found afterwards.
pub struct Crash {
    /// All durable operations before the first pending one are in.
    base: Tree,
    /// The rest, in order.
    rest: Vec<(Op, Fate)>,
    pending: Vec<Pending>,
}

/// One disk found after a crash.
pub struct CrashImage {
    pub disk: MemDisk,
    /// Which of [`Crash::pending`] survived.
    pub survived: Vec<bool>,
}

impl fmt::Debug for CrashImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let marks: String = self.survived.iter().map(|&kept| if kept { '1' } else { '0' }).collect();
        write!(f, "survivors {marks:?}")
    }
}

impl Crash {
    pub(super) fn new(base: &Tree, ops: &[Op]) -> Crash {
        let durable = durable(ops);
        let first_pending = durable.iter().position(|certain| !certain).unwrap_or(ops.len());
        let mut tree = base.clone();
        for op in &ops[..first_pending] {
            apply(&mut tree, op);
        }
        let mut pending = Vec::new();
        let mut rest = Vec::new();
        for (op, certain) in ops.iter().zip(&durable).skip(first_pending) {
            let first = pending.len();
            if *certain {
                rest.push((op.clone(), Fate::Durable));
                continue;
            }
            units(op, &mut pending);
            rest.push((op.clone(), Fate::Pending { first, count: pending.len() - first }));
        }
        Crash { base: tree, rest, pending }
    }

    /// What is in doubt, in the order in which it was asked for.
    pub fn pending(&self) -> &[Pending] {
        &self.pending
    }

    /// The disk on which exactly those of [`Crash::pending`] survived, except that a name or a length whose
    /// forerunner in the same directory or file is lost is lost too.
    pub fn image(&self, survived: &[bool]) -> CrashImage {
        assert_eq!(survived.len(), self.pending.len(), "one answer for each pending unit");
        let mut survived = survived.to_vec();
        let mut broken_chains: Vec<(bool, InodeId)> = Vec::new();
        for (kept, unit) in survived.iter_mut().zip(&self.pending) {
            let chain = match unit {
                Pending::Sector { .. } => continue,
                Pending::Length { inode, .. } => (false, *inode),
                Pending::Name { dir } => (true, *dir),
            };
            if broken_chains.contains(&chain) {
                *kept = false;
            } else if !*kept {
                broken_chains.push(chain);
            }
        }

        let mut tree = self.base.clone();
        for (op, fate) in &self.rest {
            match *fate {
                Fate::Durable => apply(&mut tree, op),
                Fate::Pending { first, count } => apply_part(&mut tree, op, &survived[first..][..count]),
            }
        }
        CrashImage { disk: MemDisk::from_tree(tree), survived }
    }

    /// A choice of images: nothing survived, all did, every prefix, every single survivor, every single
    /// loss; all subsets when there are at most `exhaustive_units` pending units, else `sampled` more
    /// subsets drawn from `seed`.
    pub fn images(
        &self,
        exhaustive_units: usize,
        sampled: usize,
        seed: u64,
    ) -> impl Iterator<Item = CrashImage> + '_ {
        let count = self.pending.len();
        let mut choices: Vec<Vec<bool>> = Vec::new();
        if count <= exhaustive_units.min(20) {
            choices
                .extend((0..1_u32 << count).map(|bits| (0..count).map(|at| bits >> at & 1 == 1).collect()));
        } else {
            choices.extend((0..=count).map(|prefix| (0..count).map(|at| at < prefix).collect()));
            choices.extend((0..count).map(|only| (0..count).map(|at| at == only).collect()));
            choices.extend((0..count).map(|lost| (0..count).map(|at| at != lost).collect()));
            let mut random = seed | 1;
            choices.extend((0..sampled).map(|_| {
                (0..count)
                    .map(|_| {
                        random ^= random << 13;
                        random ^= random >> 7;
                        random ^= random << 17;
                        random & 1 == 1
                    })
                    .collect()
            }));
        }
        choices.into_iter().map(|survived| self.image(&survived))
    }
}

/// For each operation, whether it is certain to be on the disk after all of `ops` were asked for.
fn durable(ops: &[Op]) -> Vec<bool> {
    let mut durable = vec![false; ops.len()];
    // Operations that the next sync of this file or directory will make certain.
    let mut waiting: BTreeMap<InodeId, Vec<usize>> = BTreeMap::new();
    for (at, op) in ops.iter().enumerate() {
        match op {
            Op::Write { inode, .. } | Op::SetLen { inode, .. } => waiting.entry(*inode).or_default().push(at),
            Op::Create { dir, .. } | Op::Remove { dir, .. } => waiting.entry(*dir).or_default().push(at),
            Op::Rename { from_dir, to_dir, .. } => {
                waiting.entry(*from_dir).or_default().push(at);
                waiting.entry(*to_dir).or_default().push(at);
            }
            Op::Sync { inode: synced } | Op::SyncDir { dir: synced } => {
                for before in waiting.remove(synced).unwrap_or_default() {
                    durable[before] = true;
                }
                durable[at] = true;
            }
            Op::SyncFailed { inode } => {
                waiting.remove(inode);
                durable[at] = true;
            }
        }
    }
    durable
}

fn units(op: &Op, pending: &mut Vec<Pending>) {
    match op {
        Op::Write { inode, offset, data } => {
            pending.extend(sectors(*offset, data.len()).map(|(offset, len)| Pending::Sector {
                inode: *inode,
                offset,
                len,
            }));
        }
        Op::SetLen { inode, len } => pending.push(Pending::Length { inode: *inode, len: *len }),
        Op::Create { dir, .. } | Op::Remove { dir, .. } | Op::Rename { to_dir: dir, .. } => {
            pending.push(Pending::Name { dir: *dir });
        }
        Op::Sync { .. } | Op::SyncFailed { .. } | Op::SyncDir { .. } => {}
    }
}

/// Cuts a write at sector boundaries of the file: (offset, length) of each part.
fn sectors(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize)> {
    let end = offset + len as u64;
    let mut at = offset;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let next = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
        let part = (at, (next - at) as usize);
        at = next;
        Some(part)
    })
}

fn apply_part(tree: &mut Tree, op: &Op, survived: &[bool]) {
    match op {
        Op::Write { inode, offset, data } => {
            for ((at, len), _) in sectors(*offset, data.len()).zip(survived).filter(|(_, kept)| **kept) {
                let bytes = &data[(at - offset) as usize..][..len];
                tree.content_mut(*inode).write_at(bytes, at).expect("plain memory takes writes");
            }
        }
        // The inode must exist in either case, as later operations name it by its number.
        Op::Create { inode, is_dir, .. } if survived == [false] => make_inode(tree, *inode, *is_dir),
        _ if survived == [true] => apply(tree, op),
        _ => {}
    }
}

fn make_inode(tree: &mut Tree, inode: InodeId, is_dir: bool) {
    let made = tree.push(if is_dir {
        Inode::Dir(Default::default())
    } else {
        Inode::File(Content::Heap(Vec::new()))
    });
    assert_eq!(made, inode, "inodes are numbered in the order of their making");
}

fn apply(tree: &mut Tree, op: &Op) {
    match op {
        Op::Create { dir, name, inode, is_dir } => {
            make_inode(tree, *inode, *is_dir);
            tree.dir_mut(*dir).insert(name.clone(), *inode);
        }
        Op::Write { inode, offset, data } => {
            tree.content_mut(*inode).write_at(data, *offset).expect("plain memory takes writes");
        }
        Op::SetLen { inode, len } => {
            tree.content_mut(*inode).set_len(*len).expect("plain memory takes lengths");
        }
        Op::Rename { from_dir, from_name, to_dir, to_name, inode } => {
            let from = tree.dir_mut(*from_dir);
            if from.get(from_name) == Some(inode) {
                from.remove(from_name);
            }
            tree.dir_mut(*to_dir).insert(to_name.clone(), *inode);
        }
        Op::Remove { dir, name } => {
            tree.dir_mut(*dir).remove(name);
        }
        Op::Sync { .. } | Op::SyncFailed { .. } | Op::SyncDir { .. } => {}
    }
}
