package main

import (
	"encoding/binary"

	pb "go.etcd.io/raft/v3/raftpb"
)

// A trace says what a command did: a list of labelled values. A label is one byte. Labels below
// labelBytes are followed by a number (uvarint), the others by a length and bytes. Zero and empty values
// are left out, so that both sides write the same bytes for the same thing; marks are always written.
// The names are in the Rust side's trace.rs.
const (
	labelError = iota + 1
	labelDrawsLeft
	labelDrawsMissing
	labelTerm
	labelVote
	labelCommit
	labelLead
	labelRole
	labelApplied
	labelTransferee
	labelHasReady
	labelConfig
	labelVoter
	labelOutgoing
	labelLearner
	labelLearnerNext
	labelAutoLeave
	labelProgress
	labelMatch
	labelNext
	labelState
	labelPendingSnapshot
	labelRecentActive
	labelPaused
	labelInflights
	labelIsLearner
	labelSoftState
	labelReadState
	labelPersist
	labelMustSync
	labelEntry
	labelIndex
	labelEntryType
	labelSnapshot
	labelMessage
	labelTo
	labelFrom
	labelLogTerm
	labelReject
	labelRejectHint
	labelCommitted
	labelPromise
	labelConfChange
	labelRefused
)

const (
	labelBytes   = 0x80
	labelData    = labelBytes
	labelContext = labelBytes + 1
	labelPanic   = labelBytes + 2
)

// The errors that are compared.
const (
	errorNone = iota
	errorProposalDropped
	errorPeerNotFound
	errorOther
)

type trace []byte

func (t *trace) mark(label byte, value uint64) {
	*t = append(*t, label)
	*t = binary.AppendUvarint(*t, value)
}

func (t *trace) number(label byte, value uint64) {
	if value != 0 {
		t.mark(label, value)
	}
}

func (t *trace) flag(label byte, value bool) {
	if value {
		t.mark(label, 1)
	}
}

func (t *trace) bytes(label byte, value []byte) {
	if len(value) > 0 {
		t.mark(label, uint64(len(value)))
		*t = append(*t, value...)
	}
}

func (t *trace) ids(label byte, ids []uint64) {
	for _, id := range ids {
		t.number(label, id)
	}
}

func (t *trace) hardState(term, vote, commit uint64) {
	t.number(labelTerm, term)
	t.number(labelVote, vote)
	t.number(labelCommit, commit)
}

func (t *trace) confState(state *pb.ConfState) {
	t.ids(labelVoter, state.GetVoters())
	t.ids(labelOutgoing, state.GetVotersOutgoing())
	t.ids(labelLearner, state.GetLearners())
	t.ids(labelLearnerNext, state.GetLearnersNext())
	t.flag(labelAutoLeave, state.GetAutoLeave())
}

func (t *trace) entry(entry *pb.Entry) {
	t.mark(labelEntry, entry.GetIndex())
	t.number(labelTerm, entry.GetTerm())
	t.number(labelEntryType, uint64(entry.GetType()))
	t.bytes(labelData, entry.GetData())
}

func (t *trace) entries(entries []*pb.Entry) {
	for _, entry := range entries {
		t.entry(entry)
	}
}

func (t *trace) snapshot(snapshot *pb.Snapshot) {
	t.mark(labelSnapshot, snapshot.GetMetadata().GetIndex())
	t.number(labelTerm, snapshot.GetMetadata().GetTerm())
	t.confState(snapshot.GetMetadata().GetConfState())
	t.bytes(labelData, snapshot.GetData())
}

func (t *trace) message(label byte, message *pb.Message) {
	t.mark(label, uint64(message.GetType()))
	t.number(labelTo, message.GetTo())
	t.number(labelFrom, message.GetFrom())
	t.number(labelTerm, message.GetTerm())
	t.number(labelLogTerm, message.GetLogTerm())
	t.number(labelIndex, message.GetIndex())
	t.number(labelCommit, message.GetCommit())
	t.number(labelVote, message.GetVote())
	t.flag(labelReject, message.GetReject())
	t.number(labelRejectHint, message.GetRejectHint())
	t.bytes(labelContext, message.GetContext())
	t.entries(message.GetEntries())
	if message.GetSnapshot() != nil {
		t.snapshot(message.GetSnapshot())
	}
}
