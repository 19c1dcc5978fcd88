#!/usr/bin/env bash
# Hands one database file back and forth between bbolt and our engine. In each round both do the same work
# on a copy of the file: their dumps must be equal, both checks clean, whoever reads. With GO_SEEDS and
# GO_ROUNDS more of it. Needs Go; `cargo xtask interop` and people run it, `cargo test` does not.
set -euo pipefail
cd "$(dirname "$0")"
export GOFLAGS=-mod=mod GOTOOLCHAIN=local
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go build -o "$work/go" .
cargo build -q --release -p bolt --example bolttool
ours=$(cargo metadata --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')/release/examples/bolttool
theirs=$work/go

same() { # two files: every reader sees the same in both, and finds nothing wrong
    local file
    for file in "$1" "$2"; do
        "$ours" check "$file"
        "$ours" dump "$file" >"$file.ours"
        "$theirs" dump "$file" >"$file.theirs"
        cmp "$file.ours" "$file.theirs"
        # Opened for writing, as etcd opens it; without the freelist in the file bbolt rebuilds it.
        cp "$file" "$file.checked"
        "$theirs" check "$file.checked"
        "$ours" check "$file.checked"
    done
    cmp "$1.ours" "$2.ours"
}

for seed in $(seq 1 "${GO_SEEDS:-6}"); do
    file=$work/db
    rm -f "$work"/db*
    for round in $(seq 1 "${GO_ROUNDS:-12}"); do
        freelist=$([ $(((seed + round) % 3)) = 0 ] && echo freelist || echo none)
        other=$([ $(((seed + round) % 2)) = 0 ] && echo freelist || echo none)
        transactions=$((1 + (seed * round) % 7))
        operations=$((20 + (seed * round * 137) % 1900))
        rm -f "$work"/db.a* "$work"/db.b*
        if [ -e "$file" ]; then cp "$file" "$file.a"; cp "$file" "$file.b"; fi
        "$ours" work "$file.a" "$((seed * 1000 + round))" "$transactions" "$operations" "$freelist"
        "$theirs" work "$file.b" "$((seed * 1000 + round))" "$transactions" "$operations" "$other"
        same "$file.a" "$file.b"
        if [ $((round % 4)) = 0 ]; then
            "$ours" compact "$file.a" "$file.a.compact"
            same "$file.a.compact" "$file.b"
            "$ours" snapshot "$file.a" "$file.a.snapshot"
            same "$file.a.snapshot" "$file.b"
            mv "$file.a.compact" "$file.a"
        fi
        mv "$file.$([ $((round % 2)) = 0 ] && echo a || echo b)" "$file"
    done
    echo "seed $seed: $(stat -c %s "$file") bytes, $(wc -l <"$work/db.a.ours") lines in the dump: equal"
done
