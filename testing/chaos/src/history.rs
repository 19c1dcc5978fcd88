//! All that was seen in a run: one JSON value a line, written as it happens and read back by `--check`.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use std::sync::Mutex;

use crate::failure::{During, Outcome, fail};
use crate::operation::{Event, Micros, Operation, Revision, Span, is_default};

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record")]
pub enum Record {
    /// The first line: how to repeat the run.
    Run(RunRecord),
    Operation(Operation),
    Watch(WatchRecord),
    Hash(HashRecord),
    Fault(FaultRecord),
    /// The clients were told to stop.
    Enough(EnoughRecord),
    /// Something that is wrong by itself, seen while the cluster ran.
    Seen(SeenRecord),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    pub seed: u64,
    pub members: Vec<String>,
    /// The words that set it up, for people.
    pub setting: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnoughRecord {
    pub at: Micros,
}

/// What a watcher was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchRecord {
    pub watcher: u32,
    pub member: usize,
    pub at: Micros,
    pub notice: Notice,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// The watcher asked; 0: from now on.
    Opened {
        span: Span,
        start_revision: Revision,
        prev_kv: bool,
        deletes: bool,
    },
    Created {
        revision: Revision,
    },
    /// One response; the revision is its header's.
    Events {
        revision: Revision,
        events: Vec<Event>,
    },
    /// Everything up to here was delivered.
    Progress {
        revision: Revision,
    },
    Compacted {
        compact_revision: Revision,
    },
    Canceled {
        reason: String,
    },
    Broken {
        why: String,
    },
    /// The run is over: the watcher should have all up to here.
    Finished {
        revision: Revision,
    },
}

/// A member's hash of its keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashRecord {
    pub member: usize,
    pub at: Micros,
    pub revision: Revision,
    pub compact_revision: Revision,
    pub hash: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultRecord {
    pub kind: String,
    pub detail: String,
    pub from: Micros,
    pub healed: Micros,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenRecord {
    pub at: Micros,
    pub property: String,
    pub what: String,
    #[serde(default, skip_serializing_if = "is_default")]
    pub member: Option<usize>,
}

/// The clock of the run, and the place where all that happens is noted.
pub struct Recorder {
    started: Instant,
    state: Mutex<State>,
}

struct State {
    file: BufWriter<File>,
    records: Vec<Record>,
    /// The first trouble with the file; told at the end.
    failed: Option<std::io::Error>,
    next_operation: u64,
}

impl Recorder {
    pub fn create(path: &Path) -> Outcome<Recorder> {
        let file = BufWriter::new(File::create(path).during(path.display())?);
        let state = State { file, records: Vec::new(), failed: None, next_operation: 0 };
        Ok(Recorder { started: Instant::now(), state: Mutex::new(state) })
    }

    pub fn now(&self) -> Micros {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub fn next_operation(&self) -> u64 {
        let mut state = self.lock();
        state.next_operation += 1;
        state.next_operation
    }

    pub fn note(&self, record: Record) {
        let mut state = self.lock();
        let line = serde_json::to_string(&record).map_err(std::io::Error::other);
        let written = line.and_then(|line| writeln!(state.file, "{line}"));
        if let Err(error) = written {
            state.failed.get_or_insert(error);
        }
        state.records.push(record);
    }

    pub fn seen(&self, property: &str, member: Option<usize>, what: impl Into<String>) {
        let (property, what) = (property.to_owned(), what.into());
        self.note(Record::Seen(SeenRecord { at: self.now(), property, what, member }));
    }

    /// Looks at what was noted since `from`; returns where to go on.
    pub fn since(&self, from: usize, mut look: impl FnMut(&Record)) -> usize {
        let state = self.lock();
        state.records[from..].iter().for_each(&mut look);
        state.records.len()
    }

    /// Takes all records out. An error if not all of them are in the file.
    pub fn finish(&self) -> Outcome<Vec<Record>> {
        let mut state = self.lock();
        if let Some(error) = state.failed.take() {
            return fail(format!("write the history: {error}"));
        }
        state.file.flush().during("write the history")?;
        Ok(std::mem::take(&mut state.records))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // A panic elsewhere leaves whole records behind: they are pushed at once.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A history that was written before. A torn last line, as a killed run leaves it, is left out.
pub fn read(path: &Path) -> Outcome<Vec<Record>> {
    let file = BufReader::new(File::open(path).during(path.display())?);
    let lines: Vec<String> = file.lines().collect::<Result<_, _>>().during(path.display())?;
    let mut records = Vec::with_capacity(lines.len());
    for (index, line) in lines.iter().enumerate() {
        match serde_json::from_str(line) {
            Ok(record) => records.push(record),
            Err(_) if index + 1 == lines.len() => {}
            Err(error) => return fail(format!("{}:{}: {error}", path.display(), index + 1)),
        }
    }
    Ok(records)
}

/// The operations among them.
pub fn operations(records: &[Record]) -> Vec<Operation> {
    let only = records.iter().filter_map(|record| match record {
        Record::Operation(operation) => Some(operation.clone()),
        _ => None,
    });
    only.collect()
}

/// What watchers were told, by watcher and in order.
pub fn watches(records: &[Record]) -> std::collections::BTreeMap<u32, Vec<WatchRecord>> {
    let mut watches = std::collections::BTreeMap::<u32, Vec<WatchRecord>>::new();
    for record in records {
        if let Record::Watch(watch) = record {
            watches.entry(watch.watcher).or_default().push(watch.clone());
        }
    }
    watches
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::{Answer, Call, Outcome as Ended, Put};

    #[test]
    fn a_history_reads_back_as_written() {
        let folder = std::env::temp_dir().join(format!("chaos-history-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("history.jsonl");
        let recorder = Recorder::create(&path).unwrap();
        let put = Put { key: "a".into(), value: "\u{1}\"x".into(), ..Put::default() };
        recorder.note(Record::Operation(Operation {
            id: recorder.next_operation(),
            client: 3,
            member: 1,
            called: 5,
            finished: 9,
            term: 2,
            call: Call::Put(put),
            outcome: Ended::Answered { revision: 2, answer: Answer::Put { prev: None } },
        }));
        let opened =
            Notice::Opened { span: Span::everything(), start_revision: 0, prev_kv: true, deletes: true };
        recorder.note(Record::Watch(WatchRecord { watcher: 1, member: 0, at: 7, notice: opened }));
        recorder.seen("process", None, "it ended");
        let written = recorder.finish().unwrap();
        assert_eq!(written.len(), 3);
        assert_eq!(read(&path).unwrap(), written);

        let mut text = std::fs::read_to_string(&path).unwrap();
        text.truncate(text.len() - 9);
        std::fs::write(&path, &text).unwrap();
        assert_eq!(read(&path).unwrap(), written[..2], "a torn last line is no record");
        std::fs::write(&path, format!("{{}}\n{text}")).unwrap();
        assert!(read(&path).is_err(), "a damaged middle is an error");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
