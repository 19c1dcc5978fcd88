//! Alarms that stand, and their records in the `alarm` bucket.

use std::collections::BTreeSet;

use membership::MemberId;
use prost::Message;
use proto::etcdserverpb::AlarmMember;

/// What is wrong with a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlarmKind {
    /// Its file has reached the quota.
    NoSpace,
    /// Its data differs from the other members'.
    Corrupt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alarm {
    pub kind: AlarmKind,
    pub member: MemberId,
}

/// The alarms of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alarms {
    active: BTreeSet<Alarm>,
}

impl AlarmKind {
    /// `None` for NONE and for numbers that no release knows.
    pub fn from_wire(number: i32) -> Option<AlarmKind> {
        match number {
            1 => Some(AlarmKind::NoSpace),
            2 => Some(AlarmKind::Corrupt),
            _ => None,
        }
    }

    pub fn to_wire(self) -> i32 {
        match self {
            AlarmKind::NoSpace => 1,
            AlarmKind::Corrupt => 2,
        }
    }

    /// The name in answers, logs and labels.
    pub fn name(self) -> &'static str {
        match self {
            AlarmKind::NoSpace => "NOSPACE",
            AlarmKind::Corrupt => "CORRUPT",
        }
    }
}

impl Alarm {
    /// The key of the alarm's record; its value is empty.
    pub fn record_key(self) -> Vec<u8> {
        AlarmMember { member_id: self.member.0, alarm: self.kind.to_wire() }.encode_to_vec()
    }
}

impl Alarms {
    /// Reads the keys of the bucket. Records of an unknown kind are passed over, as etcd does.
    pub fn restore<'a>(keys: impl IntoIterator<Item = &'a [u8]>) -> Result<Alarms, prost::DecodeError> {
        let mut alarms = Alarms::default();
        for key in keys {
            let record = AlarmMember::decode(key)?;
            if let Some(kind) = AlarmKind::from_wire(record.alarm) {
                alarms.active.insert(Alarm { kind, member: MemberId(record.member_id) });
            }
        }
        Ok(alarms)
    }

    /// Whether the alarm is new.
    pub fn activate(&mut self, alarm: Alarm) -> bool {
        self.active.insert(alarm)
    }

    /// Whether the alarm stood.
    pub fn deactivate(&mut self, alarm: Alarm) -> bool {
        self.active.remove(&alarm)
    }

    /// Alarms of one kind, or all of them.
    pub fn list(&self, kind: Option<AlarmKind>) -> Vec<Alarm> {
        self.active.iter().copied().filter(|alarm| kind.is_none_or(|kind| alarm.kind == kind)).collect()
    }

    pub fn stands(&self, kind: AlarmKind) -> bool {
        self.active.iter().any(|alarm| alarm.kind == kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_survive_their_records() {
        let mut alarms = Alarms::default();
        let alarm = Alarm { kind: AlarmKind::NoSpace, member: MemberId(9) };
        assert!(alarms.activate(alarm));
        assert!(!alarms.activate(alarm));
        assert!(alarms.stands(AlarmKind::NoSpace) && !alarms.stands(AlarmKind::Corrupt));
        assert_eq!(Alarms::restore([alarm.record_key().as_slice()]).unwrap(), alarms);
        assert!(alarms.deactivate(alarm));
        assert_eq!(alarms.list(None), vec![]);
    }

    #[test]
    fn a_torn_record_is_an_error() {
        assert!(Alarms::restore([b"\x08".as_slice()]).is_err());
    }
}
