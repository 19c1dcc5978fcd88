// Dumps and makes write-ahead logs with etcd's own reader and writer, as JSON lines, so that ours can be
// held against them. crates/wal/examples/waltool.rs speaks the same lines.
//
//	waltool dump  <wal-dir> [<index> <term>]     what the log says after that snapshot
//	waltool write <wal-dir> [<segment-bytes>]    makes a log of the lines on standard input
//	waltool append <wal-dir> [<segment-bytes>]   opens the log at its newest snapshot and goes on
//
// Lines, numbers as decimal strings and bytes as base64:
//
//	{"metadata":"..."}
//	{"snapshot":{"index":"1","term":"1","voters":["1"],"learners":[]}}
//	{"entry":{"type":"0","term":"1","index":"1","data":"..."}}
//	{"state":{"term":"1","vote":"1","commit":"1"}}
//	{"save":true}                                 ends a batch: one Save (in dumps: absent)
package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strconv"

	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
)

type line struct {
	Metadata *string   `json:"metadata,omitempty"`
	Snapshot *snapshot `json:"snapshot,omitempty"`
	Entry    *entry    `json:"entry,omitempty"`
	State    *state    `json:"state,omitempty"`
	Save     bool      `json:"save,omitempty"`
}

type snapshot struct {
	Index    string   `json:"index"`
	Term     string   `json:"term"`
	Voters   []string `json:"voters"`
	Learners []string `json:"learners"`
}

type entry struct {
	Type  string `json:"type"`
	Term  string `json:"term"`
	Index string `json:"index"`
	Data  string `json:"data"`
}

type state struct {
	Term   string `json:"term"`
	Vote   string `json:"vote"`
	Commit string `json:"commit"`
}

func main() {
	if len(os.Args) < 3 {
		fail(fmt.Errorf("usage: waltool dump|write|append <wal-dir> ..."))
	}
	switch os.Args[1] {
	case "dump":
		dump(os.Args[2], os.Args[3:])
	case "write":
		write(os.Args[2], os.Args[3:], false)
	case "append":
		write(os.Args[2], os.Args[3:], true)
	default:
		fail(fmt.Errorf("unknown command %q", os.Args[1]))
	}
}

func dump(dir string, args []string) {
	start := newest(dir)
	if len(args) == 2 {
		start = &walpb.Snapshot{Index: new(number(args[0])), Term: new(number(args[1]))}
	}
	w, err := wal.OpenForRead(zap.NewNop(), dir, start)
	check(err)
	metadata, hardState, entries, err := w.ReadAll()
	check(err)
	emit(line{Metadata: new(base64.StdEncoding.EncodeToString(metadata))})
	snaps, err := wal.ValidSnapshotEntries(zap.NewNop(), dir)
	check(err)
	for _, s := range snaps {
		emit(line{Snapshot: &snapshot{
			Index: text(s.GetIndex()), Term: text(s.GetTerm()),
			Voters:   texts(s.GetConfState().GetVoters()),
			Learners: texts(s.GetConfState().GetLearners()),
		}})
	}
	for _, e := range entries {
		emit(line{Entry: &entry{
			Type: text(uint64(e.GetType())), Term: text(e.GetTerm()), Index: text(e.GetIndex()),
			Data: base64.StdEncoding.EncodeToString(e.GetData()),
		}})
	}
	emit(line{State: &state{
		Term: text(hardState.GetTerm()), Vote: text(hardState.GetVote()), Commit: text(hardState.GetCommit()),
	}})
}

func write(dir string, args []string, opens bool) {
	if len(args) == 1 {
		wal.SegmentSizeBytes = int64(number(args[0]))
	}
	var w *wal.WAL
	var err error
	if opens {
		w, err = wal.Open(zap.NewNop(), dir, newest(dir))
		check(err)
		_, _, _, err = w.ReadAll()
		check(err)
	}
	hardState := &raftpb.HardState{}
	var entries []*raftpb.Entry
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 64<<20)
	for in.Scan() {
		var l line
		check(json.Unmarshal(in.Bytes(), &l))
		switch {
		case l.Metadata != nil && w == nil:
			metadata, derr := base64.StdEncoding.DecodeString(*l.Metadata)
			check(derr)
			w, err = wal.Create(zap.NewNop(), dir, metadata)
			check(err)
		case l.Snapshot != nil:
			if number(l.Snapshot.Index) == 0 {
				continue // every new log begins with it
			}
			check(w.SaveSnapshot(&walpb.Snapshot{
				Index: new(number(l.Snapshot.Index)), Term: new(number(l.Snapshot.Term)),
				ConfState: &raftpb.ConfState{
					Voters: numbers(l.Snapshot.Voters), Learners: numbers(l.Snapshot.Learners),
				},
			}))
		case l.Entry != nil:
			data, derr := base64.StdEncoding.DecodeString(l.Entry.Data)
			check(derr)
			e := &raftpb.Entry{Term: new(number(l.Entry.Term)), Index: new(number(l.Entry.Index))}
			if kind := raftpb.EntryType(number(l.Entry.Type)); kind != raftpb.EntryNormal {
				e.Type = &kind
			}
			if len(data) > 0 {
				e.Data = data
			}
			entries = append(entries, e)
		case l.State != nil:
			hardState = &raftpb.HardState{
				Term: new(number(l.State.Term)), Vote: new(number(l.State.Vote)), Commit: new(number(l.State.Commit)),
			}
		case l.Save:
			check(w.Save(hardState, entries))
			hardState, entries = &raftpb.HardState{}, nil
		}
	}
	check(in.Err())
	check(w.Save(hardState, entries))
	check(w.Close())
}

func newest(dir string) *walpb.Snapshot {
	snaps, err := wal.ValidSnapshotEntries(zap.NewNop(), dir)
	check(err)
	if len(snaps) == 0 {
		fail(fmt.Errorf("no valid snapshot record in %s", dir))
	}
	return snaps[len(snaps)-1]
}

func emit(l line) {
	out, err := json.Marshal(l)
	check(err)
	fmt.Println(string(out))
}

func number(s string) uint64 {
	n, err := strconv.ParseUint(s, 10, 64)
	check(err)
	return n
}

func numbers(all []string) []uint64 {
	var out []uint64
	for _, s := range all {
		out = append(out, number(s))
	}
	return out
}

func text(n uint64) string { return strconv.FormatUint(n, 10) }

func texts(all []uint64) []string {
	out := []string{}
	for _, n := range all {
		out = append(out, text(n))
	}
	return out
}

func check(err error) {
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "waltool:", err)
	os.Exit(1)
}
