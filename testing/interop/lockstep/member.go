package main

import (
	"math"
	"slices"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"google.golang.org/protobuf/proto"
)

// member is one raft node, its log, and the work that it handed out and that is not acknowledged.
type member struct {
	config  raft.Config
	storage *raft.MemoryStorage
	// What a restart finds. Another than storage when writes are put there before they are durable.
	disk    *raft.MemoryStorage
	node    *raft.RawNode
	appends []*pb.Message
	applies []*pb.Message
}

// boot makes a member. Those that the cluster begins with share a snapshot that names them.
func boot(id uint64, in *input, out *trace) *member {
	m := &member{storage: raft.NewMemoryStorage()}
	m.config = raft.Config{
		ID:                        id,
		ElectionTick:              int(in.number()),
		HeartbeatTick:             int(in.number()),
		PreVote:                   in.number() == 1,
		CheckQuorum:               in.number() == 1,
		MaxSizePerMsg:             in.number(),
		MaxInflightMsgs:           int(in.number()),
		MaxInflightBytes:          in.number(),
		MaxUncommittedEntriesSize: in.number(),
		MaxCommittedSizePerReady:  in.number(),
		DisableProposalForwarding: in.number() == 1,
		StepDownOnRemoval:         in.number() == 1,
		AsyncStorageWrites:        true,
		Logger:                    quiet{},
	}
	if in.number() == 1 {
		m.config.ReadOnlyOption = raft.ReadOnlyLeaseBased
	}
	m.config.DisableConfChangeValidation = in.number() == 1
	isEager := in.number() == 1
	first, voters, learners := in.number(), in.ids(), in.ids()
	if len(voters) > 0 {
		snapshot := &pb.Snapshot{Metadata: &pb.SnapshotMetadata{
			Index:     new(first),
			Term:      new(uint64(1)),
			ConfState: &pb.ConfState{Voters: voters, Learners: learners},
		}}
		must(m.storage.ApplySnapshot(snapshot))
		must(m.storage.SetHardState(hardState(1, 0, first)))
	}
	m.disk = m.storage
	if isEager {
		m.storage = clone(m.disk)
	}
	m.start()
	return m
}

// start makes a node that continues from the storage, with all that the snapshot holds applied.
func (m *member) start() {
	snapshot, err := m.storage.Snapshot()
	must(err)
	config := m.config
	config.Storage = m.storage
	config.Applied = snapshot.GetMetadata().GetIndex()
	m.appends, m.applies = nil, nil
	m.node, err = raft.NewRawNode(&config)
	must(err)
}

// restart forgets all but what is durable, after `count` more writes became durable unnoticed.
func (m *member) restart(count uint64) {
	for _, message := range m.appends[:count] {
		write(m.disk, message)
	}
	if m.isEager() {
		m.storage = clone(m.disk)
	}
	m.start()
}

func (m *member) isEager() bool { return m.disk != m.storage }

func (m *member) ready(out *trace) {
	ready := m.node.Ready()
	if ready.SoftState != nil {
		out.mark(labelSoftState, uint64(ready.RaftState))
		out.number(labelLead, ready.Lead)
	}
	for _, state := range ready.ReadStates {
		out.mark(labelReadState, state.Index)
		out.bytes(labelContext, state.RequestCtx)
	}
	var votes []*pb.Message
	for _, message := range ready.Messages {
		switch message.GetType() {
		case pb.MsgStorageAppend:
			m.appends = append(m.appends, message)
			if m.isEager() {
				write(m.storage, message)
			}
		case pb.MsgStorageApply:
			m.applies = append(m.applies, message)
		case pb.MsgVote:
			// Ours asks for votes only when its term is durable: compared with what waits for that.
			votes = append(votes, message)
		default:
			out.message(labelMessage, message)
		}
	}
	if n := len(m.appends); n > 0 && slices.Contains(ready.Messages, m.appends[n-1]) {
		out.mark(labelPersist, 1)
		if !raft.IsEmptyHardState(ready.HardState) {
			state := ready.HardState
			out.hardState(state.GetTerm(), state.GetVote(), state.GetCommit())
		}
		out.entries(ready.Entries)
		if !raft.IsEmptySnap(ready.Snapshot) {
			out.snapshot(ready.Snapshot)
		} else {
			out.flag(labelMustSync, ready.MustSync)
		}
		m.promises(votes, m.appends[n-1], out)
	}
	if len(ready.CommittedEntries) > 0 {
		out.mark(labelCommitted, uint64(len(ready.CommittedEntries)))
		out.entries(ready.CommittedEntries)
	}
}

func (m *member) promises(votes []*pb.Message, write *pb.Message, out *trace) {
	for _, message := range votes {
		out.message(labelPromise, message)
	}
	for _, message := range write.GetResponses() {
		if message.GetTo() != m.config.ID {
			out.message(labelPromise, message)
		}
	}
}

// persisted carries out the oldest write and delivers its acknowledgements.
func (m *member) persisted(out *trace) {
	oldest := m.appends[0]
	m.appends = m.appends[1:]
	write(m.disk, oldest)
	for _, message := range oldest.GetResponses() {
		if message.GetTo() == m.config.ID {
			// As our driver does: what is late is ignored.
			_ = m.node.Step(message)
		}
	}
}

func write(storage *raft.MemoryStorage, message *pb.Message) {
	if snapshot := message.GetSnapshot(); !raft.IsEmptySnap(snapshot) {
		must(storage.ApplySnapshot(snapshot))
	}
	must(storage.Append(message.GetEntries()))
	state := hardState(message.GetTerm(), message.GetVote(), message.GetCommit())
	if !raft.IsEmptyHardState(state) {
		must(storage.SetHardState(state))
	}
}

func clone(storage *raft.MemoryStorage) *raft.MemoryStorage {
	copied := raft.NewMemoryStorage()
	snapshot, err := storage.Snapshot()
	must(err)
	first, err := storage.FirstIndex()
	must(err)
	last, err := storage.LastIndex()
	must(err)
	base := proto.Clone(snapshot).(*pb.Snapshot)
	if first > 1 {
		term, err := storage.Term(first - 1)
		must(err)
		base.Metadata.Index, base.Metadata.Term = new(first-1), new(term)
		must(copied.ApplySnapshot(base))
	}
	if last >= first {
		entries, err := storage.Entries(first, last+1, math.MaxUint64)
		must(err)
		must(copied.Append(entries))
	}
	if snapshot.GetMetadata().GetIndex() > base.GetMetadata().GetIndex() {
		metadata := snapshot.GetMetadata()
		_, err := copied.CreateSnapshot(metadata.GetIndex(), metadata.GetConfState(), snapshot.GetData())
		must(err)
	}
	state, _, err := storage.InitialState()
	must(err)
	if !raft.IsEmptyHardState(state) {
		must(copied.SetHardState(state))
	}
	return copied
}

// applied carries out the oldest batch of committed entries and acknowledges it.
func (m *member) applied(out *trace) {
	batch := m.applies[0]
	m.applies = m.applies[1:]
	for _, entry := range batch.GetEntries() {
		switch entry.GetType() {
		case pb.EntryConfChange:
			change := &pb.ConfChange{}
			must(proto.Unmarshal(entry.GetData(), change))
			m.applyConfChange(entry, change, out)
		case pb.EntryConfChangeV2:
			change := &pb.ConfChangeV2{}
			must(proto.Unmarshal(entry.GetData(), change))
			m.applyConfChange(entry, change, out)
		}
	}
	for _, message := range batch.GetResponses() {
		must(m.node.Step(message))
	}
}

// applyConfChange skips what raft refuses by a panic, as an application that looks before it leaps would.
func (m *member) applyConfChange(entry *pb.Entry, change pb.ConfChangeI, out *trace) {
	defer func() {
		if recover() != nil {
			out.mark(labelRefused, entry.GetIndex())
		}
	}()
	state := m.node.ApplyConfChange(change)
	out.mark(labelConfChange, entry.GetIndex())
	out.confState(state)
}

// compact makes a snapshot and drops entries.
func (m *member) compact(in *input) {
	state := &pb.ConfState{}
	index, end := in.number(), in.number()
	in.message(state)
	data := in.bytes()
	compact(m.storage, index, end, state, data)
	if m.isEager() {
		compact(m.disk, index, end, state, data)
	}
}

func compact(storage *raft.MemoryStorage, index, end uint64, state *pb.ConfState, data []byte) {
	_, err := storage.CreateSnapshot(index, state, data)
	must(err)
	first, err := storage.FirstIndex()
	must(err)
	if end >= first {
		must(storage.Compact(end))
	}
}

func (m *member) status(out *trace) {
	status := m.node.Status()
	out.hardState(status.GetTerm(), status.GetVote(), status.GetCommit())
	out.number(labelLead, status.Lead)
	out.number(labelRole, uint64(status.RaftState))
	out.number(labelApplied, status.Applied)
	out.number(labelTransferee, status.LeadTransferee)
	out.flag(labelHasReady, m.node.HasReady())
	out.mark(labelConfig, 0)
	out.ids(labelVoter, sorted(status.Config.Voters[0]))
	out.ids(labelOutgoing, sorted(status.Config.Voters[1]))
	out.ids(labelLearner, sorted(status.Config.Learners))
	out.ids(labelLearnerNext, sorted(status.Config.LearnersNext))
	for _, id := range sorted(status.Progress) {
		progress(id, status.Progress[id], out)
	}
}

func progress(id uint64, progress tracker.Progress, out *trace) {
	out.mark(labelProgress, id)
	out.number(labelMatch, progress.Match)
	out.number(labelNext, progress.Next)
	out.number(labelState, uint64(progress.State))
	out.number(labelPendingSnapshot, progress.PendingSnapshot)
	out.flag(labelRecentActive, progress.RecentActive)
	out.flag(labelPaused, progress.MsgAppFlowPaused)
	out.number(labelInflights, uint64(progress.Inflights.Count()))
	out.flag(labelIsLearner, progress.IsLearner)
}

func sorted[V any](members map[uint64]V) []uint64 {
	ids := make([]uint64, 0, len(members))
	for id := range members {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func hardState(term, vote, commit uint64) *pb.HardState {
	return &pb.HardState{Term: new(term), Vote: new(vote), Commit: new(commit)}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
