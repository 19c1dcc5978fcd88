//! `get`: one key, or a range of them.

use client::prefix_end;
use cobra::{Command, Exit, Flag, Flags, Invocation, Outcome, exit};
use proto::etcdserverpb::RangeRequest;
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};

use super::group;
use crate::connection::Session;
use crate::output::{Answer, Format};
use crate::wait;

pub static GET: Command = Command {
    name: "get",
    usage: "get [options] <key> [range_end]",
    short: "Gets the key or a range of keys",
    group: Some(group::KEY_VALUE),
    flags: &[
        Flag::text("consistency", "l", "Linearizable(l) or Serializable(s)"),
        Flag::text("order", "", "Order of results; ASCEND or DESCEND (ASCEND by default)"),
        Flag::text("sort-by", "", "Sort target; CREATE, KEY, MODIFY, VALUE, or VERSION"),
        Flag::int("limit", "Maximum number of results"),
        Flag::bool("prefix", "Get keys with matching prefix"),
        Flag::bool("from-key", "Get keys that are greater than or equal to the given key using byte compare"),
        Flag::int("rev", "Specify the kv revision"),
        Flag::bool("keys-only", "Get only the keys"),
        Flag::bool("count-only", "Get only the count"),
        Flag::bool("print-value-only", "Only write values when using the \"simple\" output format"),
        Flag::int("min-create-rev", "Minimum create revision"),
        Flag::int("max-create-rev", "Maximum create revision"),
        Flag::int("min-mod-rev", "Minimum modification revision"),
        Flag::int("max-mod-rev", "Maximum modification revision"),
        Flag::bool("stream", "Use the RangeStream RPC"),
    ],
    run: Some(|invocation| wait(run(invocation))),
    ..Command::EMPTY
};

async fn run(mut invocation: Invocation) -> Outcome {
    let request = request(&invocation.args, &invocation.flags)?;
    let mut session = Session::new(&mut invocation, &[]).await?;
    let client = session.timed_client().await?;
    let flags = &invocation.flags;
    let response = match flags.bool("stream") {
        true => client.range_stream(request).await?,
        false => client.range(request).await?,
    };
    if flags.bool("count-only") && !matches!(session.format, Format::Fields { .. }) {
        return Err(Exit::bad_args("--count-only is only for `--write-out=fields`"));
    }
    if flags.bool("print-value-only") {
        match &mut session.format {
            Format::Simple { value_only, .. } => *value_only = true,
            _ => return Err(Exit::bad_args("print-value-only is only for `--write-out=simple`")),
        }
    }
    session.format.print(&Answer::Get(&response))
}

/// The request that arguments and flags ask for; in transactions too.
pub fn request(args: &[Vec<u8>], flags: &Flags) -> Result<RangeRequest, Exit> {
    let Some(key) = args.first() else {
        return Err(Exit::bad_args(
            "get command needs one argument as key and an optional argument as range_end",
        ));
    };
    let (prefix, from_key) = (flags.bool("prefix"), flags.bool("from-key"));
    if prefix && from_key {
        return Err(Exit::bad_args("`--prefix` and `--from-key` cannot be set at the same time, choose one"));
    }
    if flags.bool("keys-only") && flags.bool("count-only") {
        return Err(Exit::bad_args(
            "`--keys-only` and `--count-only` cannot be set at the same time, choose one",
        ));
    }
    let consistency = flags.text("consistency");
    let serializable = super::is_serializable(&consistency, &consistency)?;
    let range_end = args.get(1);
    if range_end.is_some() && (prefix || from_key) {
        return Err(Exit::bad_args(TOO_MANY));
    }
    let (sort_order, sort_target) = sort(flags)?;
    let (key, range_end) = span(key, range_end, prefix, from_key);
    let (min_create_revision, max_create_revision) = bounds(flags, "create", "Create")?;
    let (min_mod_revision, max_mod_revision) = bounds(flags, "mod", "Mod")?;
    Ok(RangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        limit: flags.int("limit"),
        revision: flags.int("rev").max(0),
        sort_order: sort_order.into(),
        sort_target: sort_target.into(),
        serializable,
        keys_only: flags.bool("keys-only"),
        count_only: flags.bool("count-only"),
        min_mod_revision,
        max_mod_revision,
        min_create_revision,
        max_create_revision,
    })
}

pub const TOO_MANY: &str =
    "too many arguments, only accept one argument when `--prefix` or `--from-key` is set";

/// Key and end of the range: as given, all with a prefix, or all from a key on.
pub fn span(key: &[u8], range_end: Option<&Vec<u8>>, prefix: bool, from_key: bool) -> (Vec<u8>, Vec<u8>) {
    let key = key.to_vec();
    match (prefix || from_key, key.is_empty(), from_key) {
        (false, _, _) => (key, range_end.cloned().unwrap_or_default()),
        (true, true, _) => (vec![0], vec![0]),
        (true, false, true) => (key, vec![0]),
        (true, false, false) => {
            let end = prefix_end(&key);
            (key, end)
        }
    }
}

fn sort(flags: &Flags) -> Result<(SortOrder, SortTarget), Exit> {
    let (order, target) = (flags.text("order"), flags.text("sort-by"));
    let bad = |what: &str, given: &str| Exit::new(exit::BAD_FEATURE, format!("bad sort {what} {given}"));
    let sort_order = match order.to_uppercase().as_str() {
        "ASCEND" => SortOrder::Ascend,
        "DESCEND" => SortOrder::Descend,
        "" => SortOrder::None,
        _ => return Err(bad("order", &order)),
    };
    let sort_target = match target.to_uppercase().as_str() {
        "CREATE" => SortTarget::Create,
        "KEY" | "" => SortTarget::Key,
        "MODIFY" => SortTarget::Mod,
        "VALUE" => SortTarget::Value,
        "VERSION" => SortTarget::Version,
        _ => return Err(bad("target", &target)),
    };
    // Keys come in order by themselves. Compat: etcd's client leaves the order out then.
    match (sort_order, sort_target) {
        (SortOrder::Ascend, SortTarget::Key) => Ok((SortOrder::None, SortTarget::Key)),
        other => Ok(other),
    }
}

fn bounds(flags: &Flags, name: &str, shown: &str) -> Result<(i64, i64), Exit> {
    let min = flags.int(&format!("min-{name}-rev"));
    let max = flags.int(&format!("max-{name}-rev"));
    if max > 0 && min > max {
        let message = format!("getMin{shown}Rev(={min}) > getMax{shown}Rev(={max})");
        return Err(Exit::new(exit::BAD_FEATURE, message));
    }
    Ok((min.max(0), max.max(0)))
}
