//! Directories and contents of the in-memory disk, by inode, as both the live disk and a crash image hold them.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path};
use std::sync::Arc;

use rustix::fs::{MemfdFlags, memfd_create};

use crate::Mapping;
use crate::mapping::Reservation;

/// Names an inode for the life of a disk and of its recordings; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InodeId(pub(super) usize);

pub(super) const ROOT: InodeId = InodeId(0);

#[derive(Clone)]
pub(super) enum Inode {
    Dir(BTreeMap<OsString, InodeId>),
    File(Content),
}

/// Every inode ever made; removed ones stay, as open files and recordings may still name them.
#[derive(Clone)]
pub(super) struct Tree {
    inodes: Vec<Inode>,
}

impl Tree {
    pub(super) fn new() -> Tree {
        Tree { inodes: vec![Inode::Dir(BTreeMap::new())] }
    }

    pub(super) fn push(&mut self, inode: Inode) -> InodeId {
        self.inodes.push(inode);
        InodeId(self.inodes.len() - 1)
    }

    pub(super) fn dir(&self, id: InodeId) -> io::Result<&BTreeMap<OsString, InodeId>> {
        match &self.inodes[id.0] {
            Inode::Dir(entries) => Ok(entries),
            Inode::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    pub(super) fn dir_mut(&mut self, id: InodeId) -> &mut BTreeMap<OsString, InodeId> {
        match &mut self.inodes[id.0] {
            Inode::Dir(entries) => entries,
            Inode::File(_) => panic!("inode {} is a file where a directory was recorded", id.0),
        }
    }

    pub(super) fn is_dir(&self, id: InodeId) -> bool {
        matches!(self.inodes[id.0], Inode::Dir(_))
    }

    pub(super) fn content(&self, id: InodeId) -> &Content {
        match &self.inodes[id.0] {
            Inode::File(content) => content,
            Inode::Dir(_) => panic!("inode {} is a directory where a file was opened", id.0),
        }
    }

    pub(super) fn content_mut(&mut self, id: InodeId) -> &mut Content {
        match &mut self.inodes[id.0] {
            Inode::File(content) => content,
            Inode::Dir(_) => panic!("inode {} is a directory where a file was opened", id.0),
        }
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<Option<InodeId>> {
        let mut at = ROOT;
        for name in names(path)? {
            match self.dir(at)?.get(name) {
                Some(&next) => at = next,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    pub(super) fn get(&self, path: &Path) -> io::Result<InodeId> {
        self.find(path)?.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The directory that `path` lies in, and its last name.
    pub(super) fn parent_of(&self, path: &Path) -> io::Result<(InodeId, OsString)> {
        let all = names(path)?;
        let Some((last, above)) = all.split_last() else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let mut at = ROOT;
        for name in above {
            at = *self.dir(at)?.get(*name).ok_or(io::ErrorKind::NotFound)?;
        }
        self.dir(at)?;
        Ok((at, last.to_os_string()))
    }
}

/// Relative paths start at the root: the in-memory disk has no working directory.
pub(super) fn names(path: &Path) -> io::Result<Vec<&OsStr>> {
    let mut found = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => found.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(io::ErrorKind::InvalidInput.into()),
        }
    }
    Ok(found)
}

/// A file's bytes: plain memory until someone maps it, then a memory file that the kernel can map.
pub(super) enum Content {
    Heap(Vec<u8>),
    Mapped { file: fs::File, mapping: Arc<Reservation>, reserve_bytes: u64, len: u64 },
}

impl Clone for Content {
    fn clone(&self) -> Content {
        let mut bytes = vec![0; self.len() as usize];
        self.read_at(&mut bytes, 0).expect("a memory file reads back");
        Content::Heap(bytes)
    }
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        match self {
            Content::Heap(bytes) => bytes.len() as u64,
            Content::Mapped { len, .. } => *len,
        }
    }

    pub(super) fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let present = self.len().saturating_sub(offset).min(buf.len() as u64) as usize;
        match self {
            Content::Heap(bytes) if present > 0 => {
                buf[..present].copy_from_slice(&bytes[offset as usize..][..present]);
            }
            Content::Heap(_) => {}
            Content::Mapped { file, .. } => file.read_exact_at(&mut buf[..present], offset)?,
        }
        Ok(present)
    }

    pub(super) fn write_at(&mut self, buf: &[u8], offset: u64) -> io::Result<()> {
        let end = offset + buf.len() as u64;
        match self {
            Content::Heap(bytes) => {
                if (bytes.len() as u64) < end {
                    bytes.resize(end as usize, 0);
                }
                bytes[offset as usize..end as usize].copy_from_slice(buf);
            }
            Content::Mapped { file, len, .. } => {
                file.write_all_at(buf, offset)?;
                *len = (*len).max(end);
            }
        }
        Ok(())
    }

    pub(super) fn set_len(&mut self, new_len: u64) -> io::Result<()> {
        match self {
            Content::Heap(bytes) => bytes.resize(new_len as usize, 0),
            Content::Mapped { file, len, .. } => {
                file.set_len(new_len)?;
                *len = new_len;
            }
        }
        Ok(())
    }

    /// Maps again only when the wish grows; the first mapping stays valid for whoever holds it.
    pub(super) fn map(&mut self, wanted_bytes: u64) -> io::Result<Arc<dyn Mapping>> {
        if let Content::Heap(bytes) = self {
            let file = fs::File::from(memfd_create("disk::mem", MemfdFlags::CLOEXEC)?);
            file.write_all_at(bytes, 0)?;
            let mapping = Arc::new(Reservation::new(&file, wanted_bytes)?);
            let len = bytes.len() as u64;
            *self = Content::Mapped { file, mapping, reserve_bytes: wanted_bytes, len };
        }
        let Content::Mapped { file, mapping, reserve_bytes, .. } = self else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if *reserve_bytes < wanted_bytes {
            *mapping = Arc::new(Reservation::new(file, wanted_bytes)?);
            *reserve_bytes = wanted_bytes;
        }
        Ok(mapping.clone())
    }
}
