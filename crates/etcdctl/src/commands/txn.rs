//! `txn`: a transaction typed as lines.

use std::io::{BufRead, StdinLock};

use cobra::parse::{Failure, Parsed, parse};
use cobra::{Command, Exit, Flag, Invocation, Outcome, exit, print};
use golang::number;
use golang::quote::{quote, unquote_prefix, words};
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{Compare, RequestOp, TxnRequest};

use super::group;
use crate::connection::Session;
use crate::output::Answer;
use crate::wait;

pub static TXN: Command = Command {
    name: "txn",
    usage: "txn [options]",
    short: "Txn processes all the requests in one transaction",
    long:
        "Txn reads multiple etcd requests from standard input and applies them as a single atomic transaction.

A transaction consists of three components:
1) a list of conditions,
2) a list of requests to apply if all the conditions are true,
3) a list of requests to apply if any condition is false.

Example interactive stdin usage:

---
etcdctl txn -i
# compares:
mod(\"key1\") > \"0\"

# success requests (get, put, delete):
put key1 \"overwrote-key1\"

# failure requests (get, put, delete):
put key1 \"created-key1\"
put key2 \"some extra key\"
---

Refer to https://github.com/etcd-io/etcd/blob/main/etcdctl/README.md#txn-options.",
    group: Some(group::KEY_VALUE),
    flags: &[Flag::bool("interactive", "Input transaction in interactive mode").short('i')],
    run: Some(|invocation| wait(run(invocation))),
    ..Command::EMPTY
};

/// The commands that lines of a transaction may be.
static OPERATIONS: Command =
    Command { subcommands: &[&super::del::DEL, &super::get::GET, &super::put::PUT], ..Command::EMPTY };

async fn run(mut invocation: Invocation) -> Outcome {
    if !invocation.args.is_empty() {
        return Err(Exit::bad_args("txn command does not accept argument"));
    }
    let interactive = invocation.flags.bool("interactive");
    let prompt = |text: &str| {
        if interactive {
            print(text.as_bytes());
        }
    };
    let session = Session::new(&mut invocation, &[]).await?;
    let client = session.client().await?;
    let mut input = std::io::stdin().lock();
    prompt("compares:\n");
    let compare = read_block(&mut input, compare)?;
    prompt("success requests (get, put, del):\n");
    let success = read_block(&mut input, operation)?;
    prompt("failure requests (get, put, del):\n");
    let failure = read_block(&mut input, operation)?;
    drop(input);
    let response = client.txn(TxnRequest { compare, success, failure }).await?;
    session.format.print(&Answer::Txn(&response))
}

/// Lines up to a blank one. Input that ends before is no transaction.
fn read_block<T>(
    input: &mut StdinLock<'static>,
    parse: impl Fn(&[u8]) -> Result<T, Exit>,
) -> Result<Vec<T>, Exit> {
    let mut items = Vec::new();
    loop {
        let mut line = Vec::new();
        input.read_until(b'\n', &mut line).map_err(bad_input)?;
        if line.last() != Some(&b'\n') {
            return Err(bad_input("EOF"));
        }
        match line.trim_ascii() {
            b"" => return Ok(items),
            line => items.push(parse(line)?),
        }
    }
}

fn bad_input(reason: impl std::fmt::Display) -> Exit {
    Exit::new(exit::INVALID_INPUT, reason)
}

/// `get`, `put` or `del` with their flags. Says how they are used where they are not used so.
fn operation(line: &[u8]) -> Result<RequestOp, Exit> {
    operation_or_usage(line, super::del::second_thoughts).map_err(|(exit, usage)| {
        if let Some(usage) = usage {
            eprintln!("{usage}");
        }
        exit
    })
}

pub(super) fn operation_or_usage(
    line: &[u8],
    unconfirmed: impl FnOnce(&[u8], &[u8]),
) -> Result<RequestOp, (Exit, Option<String>)> {
    let silent = |exit| (exit, None);
    let shown = String::from_utf8_lossy(line);
    let words = words(line).map_err(bad_input).map_err(silent)?;
    if words.len() < 2 {
        return Err(silent(bad_input(format!("invalid txn compare request: {shown}"))));
    }
    let invocation = parse(&OPERATIONS, &words);
    let Ok(Parsed::Run(invocation)) = invocation else {
        let usage = match invocation {
            Err(Failure::Usage { usage, .. }) => Some(usage),
            _ => None,
        };
        return Err((bad_input(format!("invalid txn request: {shown}")), usage));
    };
    request_of(&invocation, unconfirmed).map_err(silent)
}

fn request_of(invocation: &Invocation, unconfirmed: impl FnOnce(&[u8], &[u8])) -> Result<RequestOp, Exit> {
    let (args, flags) = (&invocation.args, &invocation.flags);
    let request = match invocation.path.last().map_or("", |command| command.name) {
        "get" => Request::RequestRange(super::get::request(args, flags)?),
        // Standard input is taken already: a value must stand in the line.
        "put" => Request::RequestPut(super::put::request(args, flags, Vec::new)?),
        _ => Request::RequestDeleteRange(super::del::request(args, flags, unconfirmed)?),
    };
    Ok(RequestOp { request: Some(request) })
}

/// `TARGET("key") OP "value"`.
pub(super) fn compare(line: &[u8]) -> Result<Compare, Exit> {
    let shown = String::from_utf8_lossy(line);
    let malformed = |detail: &str| bad_input(format!("malformed comparison: {shown}{detail}"));
    let Some(open) = line.iter().position(|&byte| byte == b'(') else { return Err(malformed("")) };
    let target = String::from_utf8_lossy(&line[..open]).into_owned();
    let parts = Parts::scan(&line[open + 1..]).map_err(|parts| {
        let (key, value) = (quote(&parts.key), quote(&parts.value));
        malformed(&format!("; got {target}({key}) {} {value}", parts.operator))
    })?;
    let result = match parts.operator.as_str() {
        "=" => CompareResult::Equal,
        "!=" => CompareResult::NotEqual,
        ">" => CompareResult::Greater,
        "<" => CompareResult::Less,
        other => return Err(malformed(&format!(" (unknown operator {other})"))),
    };
    let int = |radix| {
        number::parse_int(&parts.value, radix)
            .map_err(|_| bad_input(format!("invalid txn compare request: {shown}")))
    };
    let (kind, union) = match target.as_str() {
        "ver" | "version" => (CompareTarget::Version, TargetUnion::Version(int(10)?)),
        "c" | "create" => (CompareTarget::Create, TargetUnion::CreateRevision(int(10)?)),
        "m" | "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(int(10)?)),
        "val" | "value" => (CompareTarget::Value, TargetUnion::Value(parts.value.clone().into())),
        "lease" => (CompareTarget::Lease, TargetUnion::Lease(int(16)?)),
        _ => return Err(malformed(&format!(" (unknown target {target})"))),
    };
    Ok(Compare {
        result: result.into(),
        target: kind.into(),
        key: parts.key.into(),
        target_union: Some(union),
        range_end: Default::default(),
    })
}

/// What stands behind the bracket.
#[derive(Default)]
struct Parts {
    key: Vec<u8>,
    operator: String,
    value: Vec<u8>,
}

impl Parts {
    /// `"key") OP "value"`, and nothing is said of what follows. On error, what was understood so far.
    fn scan(text: &[u8]) -> Result<Parts, Parts> {
        let mut parts = Parts::default();
        let Ok((key, rest)) = unquote_prefix(text.trim_ascii_start()) else { return Err(parts) };
        parts.key = key;
        let Some(rest) = rest.strip_prefix(b")") else { return Err(parts) };
        if !rest.first().is_some_and(u8::is_ascii_whitespace) {
            return Err(parts);
        }
        let rest = rest.trim_ascii_start();
        let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
        parts.operator = String::from_utf8_lossy(&rest[..end]).into_owned();
        match unquote_prefix(rest[end..].trim_ascii_start()) {
            Ok((value, _)) if end > 0 => Ok(Parts { value, ..parts }),
            _ => Err(parts),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons() {
        let parsed = compare(br#"mod("key1") > "12""#).unwrap();
        assert_eq!((parsed.key.as_ref(), parsed.result()), (&b"key1"[..], CompareResult::Greater));
        assert_eq!(parsed.target_union, Some(TargetUnion::ModRevision(12)));
        let parsed = compare(br#"val("a\x00") != "x y""#).unwrap();
        assert_eq!(parsed.target_union, Some(TargetUnion::Value("x y".into())));
        assert_eq!(compare(br#"lease("a") = "1f""#).unwrap().target_union, Some(TargetUnion::Lease(31)));
    }

    #[test]
    fn malformed_comparisons() {
        for (line, message) in [
            ("mod", "malformed comparison: mod"),
            ("mod(key) > 1", "malformed comparison: mod(key) > 1; got mod(\"\")  \"\""),
            ("mod(\"key\")>\"1\"", "malformed comparison: mod(\"key\")>\"1\"; got mod(\"key\")  \"\""),
            ("foo(\"a\") = \"1\"", "malformed comparison: foo(\"a\") = \"1\" (unknown target foo)"),
            ("ver(\"a\") = \"x\"", "invalid txn compare request: ver(\"a\") = \"x\""),
        ] {
            assert_eq!(compare(line.as_bytes()).unwrap_err(), Exit::new(3, message), "{line}");
        }
    }

    #[test]
    fn operations() {
        let parsed = operation(br#"put key1 "a b" --prev-kv"#).unwrap().request;
        let Some(Request::RequestPut(put)) = parsed else { panic!("{parsed:?}") };
        assert_eq!((put.key.as_ref(), put.value.as_ref(), put.prev_kv), (&b"key1"[..], &b"a b"[..], true));
        let parsed = operation(b"get a --prefix").unwrap().request;
        let Some(Request::RequestRange(get)) = parsed else { panic!("{parsed:?}") };
        assert_eq!(get.range_end.as_ref(), b"b");
        assert_eq!(operation(b"get").unwrap_err().message.unwrap(), "invalid txn compare request: get");
        assert_eq!(operation(b"foo a").unwrap_err().message.unwrap(), "invalid txn request: foo a");
        assert_eq!(operation(b"put a").unwrap_err().code, 128);
    }
}
