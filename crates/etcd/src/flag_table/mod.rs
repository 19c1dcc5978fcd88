//! The flags of the server: these tables decide for every one whether it works, is inert, or is refused.
//!
//! The order is the order of `--help`.

mod clustering;
mod member;
mod operation;
mod security;

use crate::flag::Flag;

const TABLES: [&[Flag]; 4] = [member::FLAGS, clustering::FLAGS, security::FLAGS, operation::FLAGS];

pub fn all() -> impl Iterator<Item = &'static Flag> {
    TABLES.into_iter().flatten()
}

pub fn find(name: &str) -> Option<&'static Flag> {
    all().find(|flag| flag.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::flag::{FileKey, Slot, Support};
    use crate::settings::Settings;

    #[test]
    fn every_name_and_every_file_key_is_there_once() {
        let names: BTreeSet<&str> = all().map(|flag| flag.name).collect();
        assert_eq!(names.len(), all().count());
        let keys: Vec<String> = all().filter(|flag| flag.file_key != FileKey::None).map(file_path).collect();
        let unique: BTreeSet<&String> = keys.iter().collect();
        assert_eq!(unique.len(), keys.len());
    }

    fn file_path(flag: &Flag) -> String {
        match flag.file_key {
            FileKey::Same => flag.name.to_owned(),
            FileKey::At(path) => path.join("/"),
            FileKey::None => String::new(),
        }
    }

    #[test]
    fn no_default_is_refused() {
        let settings = Settings::default();
        for flag in all() {
            if let Support::Refused { harmless, why } = flag.support {
                assert!(harmless(&settings), "{}: {why}", flag.name);
            }
        }
    }

    #[test]
    fn no_two_flags_share_a_field() {
        let mut settings = Settings::default();
        let places: BTreeSet<usize> = all().map(|flag| address((flag.slot)(&mut settings))).collect();
        assert_eq!(places.len(), all().count());
    }

    fn address(slot: Slot<'_>) -> usize {
        match slot {
            Slot::Bool(place) => std::ptr::from_mut(place) as usize,
            Slot::Text(place) | Slot::Choice(place, _) | Slot::Choices(place, _) => {
                std::ptr::from_mut(place) as usize
            }
            Slot::Uint(place) => std::ptr::from_mut(place) as usize,
            Slot::Uint32(place) => std::ptr::from_mut(place) as usize,
            Slot::Int(place) => std::ptr::from_mut(place) as usize,
            Slot::Duration(place) => std::ptr::from_mut(place) as usize,
            Slot::Urls(place) => std::ptr::from_mut(place) as usize,
            Slot::Origins(place) | Slot::List(place) | Slot::Set(place) => std::ptr::from_mut(place) as usize,
            Slot::Gates(place) => std::ptr::from_mut(place) as usize,
        }
    }
}
