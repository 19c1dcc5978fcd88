//! `watch`: events as they happen; on the command line, or many watches typed as lines.

use std::os::unix::ffi::OsStringExt;
use std::process::Command as Process;

use client::{Client, Watcher, prefix_end};
use cobra::parse::parse_flags;
use cobra::{Command, Exit, Flag, Flags, Invocation, Outcome, exit, print};
use golang::quote::{quote, words};
use golang::system_error;
use proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use proto::mvccpb::{Event, event::EventType};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::broadcast;

use super::group;
use crate::connection::Session;
use crate::output::{Answer, Format};
use crate::wait;

pub static WATCH: Command = Command {
    name: "watch",
    usage: "watch [options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
    short: "Watches events stream on keys or prefixes",
    group: Some(group::KEY_VALUE),
    flags: &[
        Flag::bool("interactive", "Interactive mode").short('i'),
        Flag::bool("prefix", "Watch on a prefix if prefix is set"),
        Flag::int("rev", "Revision to start watching"),
        Flag::bool("prev-kv", "get the previous key-value pair before the event happens"),
        Flag::bool("progress-notify", "get periodic watch progress notification from server"),
    ],
    run: Some(|invocation| wait(run(invocation))),
    ..Command::EMPTY
};

const KEY_VARIABLE: &str = "ETCDCTL_WATCH_KEY";
const RANGE_END_VARIABLE: &str = "ETCDCTL_WATCH_RANGE_END";

const BAD_NUMBER: &str = "bad number of arguments";
const NOTHING_TO_RUN: &str = "bad number of arguments (found separator --, but no commands)";
const TWO_KEYS: &str = "bad number of arguments (found conflicting environment key)";

/// Key and range end from the environment, in place of arguments.
pub(super) struct Environment {
    pub(super) key: Option<Vec<u8>>,
    pub(super) range_end: Option<Vec<u8>>,
}

/// What to watch, and the command to run for each event.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    args: Vec<Vec<u8>>,
    exec: Vec<Vec<u8>>,
}

async fn run(mut invocation: Invocation) -> Outcome {
    let environment = Environment::read()?;
    if invocation.flags.bool("interactive") {
        return interactive(invocation, environment).await;
    }
    let Invocation { args, args_before_dash, .. } = &invocation;
    let plan = plan(args, *args_before_dash, &environment).map_err(Exit::bad_args)?;
    let session = Session::new(&mut invocation, &[KEY_VARIABLE, RANGE_END_VARIABLE]).await?;
    let client = session.client().await?;
    let create = create_request(&plan.args, &invocation.flags).map_err(Exit::bad_args)?;
    let watcher = client.watch(create, true);
    let (_nobody_asks, progress) = broadcast::channel(1);
    show(watcher, progress, session.format, &plan.exec).await?;
    Err(Exit::new(exit::INTERRUPTED, "watch is canceled by the server"))
}

impl Environment {
    fn read() -> Result<Environment, Exit> {
        let read = |name| std::env::var_os(name).map(OsStringExt::into_vec).filter(|value| !value.is_empty());
        let environment = Environment { key: read(KEY_VARIABLE), range_end: read(RANGE_END_VARIABLE) };
        match &environment {
            Environment { key: None, range_end: Some(range_end) } => Err(Exit::bad_args(format!(
                "{KEY_VARIABLE} is empty but got {RANGE_END_VARIABLE}={}",
                quote(range_end)
            ))),
            _ => Ok(environment),
        }
    }
}

/// Tells keys from the command behind `--`, and arguments from the environment.
fn plan(
    args: &[Vec<u8>],
    before_dash: Option<usize>,
    environment: &Environment,
) -> Result<Plan, &'static str> {
    let (keys, exec) = args.split_at(before_dash.unwrap_or(args.len()));
    if before_dash.is_some() && exec.is_empty() {
        return Err(NOTHING_TO_RUN);
    }
    let mut all = Vec::new();
    if let Some(key) = &environment.key {
        if !keys.is_empty() {
            return Err(TWO_KEYS);
        }
        all.push(key.clone());
        all.extend(environment.range_end.clone());
    }
    all.extend_from_slice(keys);
    if all.is_empty() {
        return Err(BAD_NUMBER);
    }
    Ok(Plan { args: all, exec: exec.to_vec() })
}

fn create_request(args: &[Vec<u8>], flags: &Flags) -> Result<WatchCreateRequest, &'static str> {
    let key = args.first().ok_or(BAD_NUMBER)?;
    let prefix = flags.bool("prefix");
    let (key, range_end) = match args {
        [_, _] if prefix => return Err("`range_end` and `--prefix` are mutually exclusive"),
        [key, range_end] => (key.clone(), range_end.clone()),
        _ if prefix && key.is_empty() => (vec![0], vec![0]),
        _ if prefix => (key.clone(), prefix_end(key)),
        _ => (key.clone(), Vec::new()),
    };
    Ok(WatchCreateRequest {
        key: key.into(),
        range_end: range_end.into(),
        start_revision: flags.int("rev"),
        prev_kv: flags.bool("prev-kv"),
        progress_notify: flags.bool("progress-notify"),
        ..Default::default()
    })
}

/// Reads `watch …` and `progress` lines until the input ends, which is an error.
async fn interactive(mut invocation: Invocation, environment: Environment) -> Outcome {
    let session = Session::new(&mut invocation, &[KEY_VARIABLE, RANGE_END_VARIABLE]).await?;
    let client = session.client().await?;
    let (ask_progress, _) = broadcast::channel(16);
    let mut input = BufReader::new(tokio::io::stdin());
    let mut watches = tokio::task::JoinSet::new();
    loop {
        let mut line = Vec::new();
        tokio::select! {
            read = input.read_until(b'\n', &mut line) => {
                read.map_err(Exit::error)?;
            }
            // A command run for an event failed: all ends.
            Some(ended) = watches.join_next() => match ended {
                Ok(Err(exit)) => return Err(exit),
                _ => continue,
            },
        }
        if line.pop() != Some(b'\n') {
            return Err(Exit::new(exit::INVALID_INPUT, "error reading watch request line: EOF"));
        }
        let shown = String::from_utf8_lossy(&line).into_owned();
        let words = words(&line).map_err(|reason| Exit::new(exit::INVALID_INPUT, reason))?;
        match words.first().map(Vec::as_slice) {
            None => eprintln!("Invalid command: {shown} (watch and progress supported)"),
            Some(b"watch") if words.len() < 2 && environment.key.is_none() => {
                eprintln!("Invalid command {shown} (command type or key is not provided)");
            }
            Some(b"watch") => {
                if let Some((watcher, exec)) = typed_watch(&client, &words[1..], &environment, &shown)? {
                    let (progress, format) = (ask_progress.subscribe(), session.format);
                    watches.spawn(async move { show(watcher, progress, format, &exec).await });
                }
            }
            // Without a watch nobody listens, and nobody asks.
            Some(b"progress") => drop(ask_progress.send(())),
            Some(_) => eprintln!("Invalid command {shown} (only support watch)"),
        }
    }
}

type TypedWatch = Option<(Watcher, Vec<Vec<u8>>)>;

/// `None`: the line was no good, and was told so.
fn typed_watch(
    client: &Client,
    words: &[Vec<u8>],
    environment: &Environment,
    shown: &str,
) -> Result<TypedWatch, Exit> {
    let (plan, create) = typed(words, environment)?;
    match create {
        Ok(create) => Ok(Some((client.watch(create, true), plan.exec))),
        Err(reason) => {
            eprintln!("Invalid command {shown} ({reason})");
            Ok(None)
        }
    }
}

/// What the words behind `watch` ask for; the inner error does not end the conversation.
pub(super) fn typed(
    words: &[Vec<u8>],
    environment: &Environment,
) -> Result<(Plan, Result<WatchCreateRequest, &'static str>), Exit> {
    let mut flags = Flags::of(WATCH.flags.iter(), [].iter());
    let (args, before_dash) = parse_flags(&mut flags, words).map_err(Exit::bad_args)?;
    let plan = plan(&args, before_dash, environment).map_err(Exit::bad_args)?;
    let create = create_request(&plan.args, &flags);
    Ok((plan, create))
}

/// Prints what comes until the watch ends.
async fn show(
    mut watcher: Watcher,
    mut progress: broadcast::Receiver<()>,
    format: Format,
    exec: &[Vec<u8>],
) -> Outcome {
    loop {
        let response = tokio::select! {
            next = watcher.next() => match next {
                Ok(Some(response)) => response,
                Ok(None) => return Ok(()),
                Err(error) => {
                    eprintln!("watch was canceled ({error})");
                    return Ok(());
                }
            },
            Ok(()) = progress.recv() => {
                // A stream that just broke is opened again by the next turn.
                let _broken = watcher.request_progress().await;
                continue;
            }
        };
        if response.canceled {
            eprintln!("watch was canceled ({})", why_canceled(&response));
        }
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        let notice = response.events.is_empty() && !response.canceled && response.compact_revision == 0;
        if notice && revision != 0 {
            print(format!("progress notify: {revision}\n").as_bytes());
        }
        format.print(&Answer::Watch(&response))?;
        if !exec.is_empty() {
            response.events.iter().try_for_each(|event| execute(exec, revision, event))?;
        }
    }
}

fn why_canceled(response: &WatchResponse) -> String {
    if response.compact_revision != 0 {
        return "etcdserver: mvcc: required revision has been compacted".into();
    }
    let reason = match response.cancel_reason.as_str() {
        "" => "etcdserver: mvcc: required revision is a future revision",
        reason => reason,
    };
    client::Error::canceled_watch(reason).to_string()
}

/// Runs the command with the event in its environment, and waits for it.
fn execute(exec: &[Vec<u8>], revision: i64, event: &Event) -> Outcome {
    let kv = event.kv.clone().unwrap_or_default();
    let kind = if event.r#type() == EventType::Put { "PUT" } else { "DELETE" };
    let word = |word: &Vec<u8>| std::ffi::OsString::from_vec(word.clone());
    let status = Process::new(word(&exec[0]))
        .args(exec[1..].iter().map(word))
        .env("ETCD_WATCH_REVISION", revision.to_string())
        .env("ETCD_WATCH_EVENT_TYPE", format!("\"{kind}\""))
        .env("ETCD_WATCH_KEY", quote(&kv.key))
        .env("ETCD_WATCH_VALUE", quote(&kv.value))
        .status();
    let reason = match status {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => super::exit_reason(status),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !exec[0].contains(&b'/') => {
            format!("exec: {}: executable file not found in $PATH", quote(&exec[0]))
        }
        Err(error) => {
            format!("fork/exec {}: {}", String::from_utf8_lossy(&exec[0]), system_error::reason(&error))
        }
    };
    let shown: Vec<_> = exec.iter().map(|word| quote(word)).collect();
    eprintln!("command [{}] error ({reason})", shown.join(" "));
    Err(Exit::silent(exit::ERROR))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(words: &[&str]) -> Vec<Vec<u8>> {
        words.iter().map(|word| word.as_bytes().to_vec()).collect()
    }

    const NONE: Environment = Environment { key: None, range_end: None };

    #[test]
    fn keys_and_commands() {
        let planned = plan(&bytes(&["a", "b", "echo", "x"]), Some(2), &NONE).unwrap();
        assert_eq!(planned, Plan { args: bytes(&["a", "b"]), exec: bytes(&["echo", "x"]) });
        assert_eq!(plan(&bytes(&["a"]), Some(1), &NONE), Err(NOTHING_TO_RUN));
        assert_eq!(plan(&[], None, &NONE), Err(BAD_NUMBER));
        assert_eq!(plan(&bytes(&["echo"]), Some(0), &NONE), Err(BAD_NUMBER));
    }

    #[test]
    fn keys_from_the_environment() {
        let environment = Environment { key: Some(b"a".to_vec()), range_end: Some(b"b".to_vec()) };
        let planned = plan(&bytes(&["echo"]), Some(0), &environment).unwrap();
        assert_eq!(planned, Plan { args: bytes(&["a", "b"]), exec: bytes(&["echo"]) });
        assert_eq!(plan(&bytes(&["c"]), None, &environment), Err(TWO_KEYS));
        assert_eq!(plan(&bytes(&["c", "echo"]), Some(1), &environment), Err(TWO_KEYS));
    }
}
