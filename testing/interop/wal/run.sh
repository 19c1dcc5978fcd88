#!/usr/bin/env bash
# Has etcd's own code and ours write the same log, and read and go on with each other's: the dumps of both
# readers must be equal, byte for byte. Needs Go; `cargo xtask interop` and people run it.
set -euo pipefail
cd "$(dirname "$0")"
export GOFLAGS=-mod=mod GOTOOLCHAIN=local
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go build -o "$work/theirs" .
cargo build -q -p wal --example waltool
target=$(cargo metadata --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
cp "$target/debug/examples/waltool" "$work/ours"

# Lines of one life from entry $1 to $2: batches, a term that overrules the end of the one before, snapshots.
life() {
    awk -v first="$1" -v last="$2" 'BEGIN {
        print "{\"metadata\":\"CAEQAg==\"}"
        term = 1 + int(first / 100)
        for (i = first; i <= last; i++) {
            data = "AQIDBAUG"
            for (j = 0; j < i % 23; j++) data = data "QUJDREVG"
            type = i % 50 == 1 ? 1 : 0
            if (type == 1) data = "CAEQABgDIgA="
            printf "{\"entry\":{\"type\":\"%d\",\"term\":\"%d\",\"index\":\"%d\",\"data\":\"%s\"}}\n", type, term, i, data
            if (i % 7 == 0 || i == last) {
                printf "{\"state\":{\"term\":\"%d\",\"vote\":\"1\",\"commit\":\"%d\"}}\n", term, i
                print "{\"save\":true}"
            }
            if (i % 140 == 0)
                printf "{\"snapshot\":{\"index\":\"%d\",\"term\":\"%d\",\"voters\":[\"1\",\"3\"],\"learners\":[\"4\"]}}\n", i, term
        }
    }'
}

same() { # one log: both readers say the same of it, after its newest snapshot and from its beginning
    for from in "" "0 0"; do
        # shellcheck disable=SC2086  # two words, or none
        "$work/ours" dump "$1" $from >"$1.ours"
        # shellcheck disable=SC2086
        "$work/theirs" dump "$1" $from >"$1.theirs"
        cmp "$1.ours" "$1.theirs"
    done
}

for size in 4096 65536; do
    for first in ours theirs; do
        [ "$first" = ours ] && second=theirs || second=ours
        log=$work/$first-$size
        life 1 400 | "$work/$first" write "$log" "$size"
        same "$log"
        life 401 700 | "$work/$second" append "$log" "$size"
        same "$log"
        life 701 900 | "$work/$first" append "$log" "$size"
        same "$log"
        echo "segments of $size bytes, begun by $first: $(ls "$log" | wc -l) segments, $(wc -l <"$log.ours") lines alike"
    done
done
