package main

import (
	"encoding/binary"
	"errors"
	"fmt"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// What a command does. Each is followed by the member's id, by the timeouts that it may draw (a length and
// bytes) and by what it needs.
const (
	commandBoot = iota
	commandTick
	commandCampaign
	commandPropose
	commandProposeConfChange
	commandProposeConfChangeV2
	commandStep
	commandReady
	commandPersisted
	commandApplied
	commandReadIndex
	commandTransferLeader
	commandReportUnreachable
	commandReportSnapshot
	commandForgetLeader
	commandCompact
	commandRestart
)

// input reads a frame of commands. Our only caller is a test on the same machine: what does not parse ends
// the run.
type input []byte

func (in *input) number() uint64 {
	value, length := binary.Uvarint(*in)
	if length <= 0 {
		fail("a command ends early")
	}
	*in = (*in)[length:]
	return value
}

func (in *input) bytes() []byte {
	length := in.number()
	if length > uint64(len(*in)) {
		fail("a command ends early")
	}
	if length == 0 {
		// Not an empty slice: raftpb counts a present but empty field.
		return nil
	}
	value := (*in)[:length:length]
	*in = (*in)[length:]
	return value
}

func (in *input) ids() []uint64 {
	ids := make([]uint64, in.number())
	for i := range ids {
		ids[i] = in.number()
	}
	return ids
}

func (in *input) message(message proto.Message) {
	if err := proto.Unmarshal(in.bytes(), message); err != nil {
		fail("decode %T: %v", message, err)
	}
}

// cluster holds the members by id.
type cluster struct {
	members map[uint64]*member
}

func newCluster() *cluster {
	return &cluster{members: map[uint64]*member{}}
}

// run answers a frame of commands with the trace of each, preceded by its length.
func (c *cluster) run(frame []byte) []byte {
	var answer []byte
	in := input(frame)
	for len(in) > 0 {
		command := in.number()
		id := in.number()
		dictated.left = in.bytes()
		dictated.missing = 0
		// The arguments of a command are taken apart before it runs: a panic must not leave any behind.
		arguments := input(in.bytes())
		var out trace
		c.runOne(command, id, arguments, &out)
		answer = binary.AppendUvarint(answer, uint64(len(out)))
		answer = append(answer, out...)
	}
	return answer
}

func (c *cluster) runOne(command, id uint64, in input, out *trace) {
	defer func() {
		if reason := recover(); reason != nil {
			*out = (*out)[:0]
			out.bytes(labelPanic, []byte(fmt.Sprint(reason)))
		}
	}()
	if command == commandBoot {
		c.members[id] = boot(id, &in, out)
	} else {
		c.members[id].run(command, &in, out)
	}
	out.number(labelDrawsLeft, uint64(len(dictated.left)))
	out.number(labelDrawsMissing, dictated.missing)
	c.members[id].status(out)
}

func (m *member) run(command uint64, in *input, out *trace) {
	node := m.node
	var err error
	switch command {
	case commandTick:
		node.Tick()
	case commandCampaign:
		err = node.Campaign()
	case commandPropose:
		err = node.Propose(in.bytes())
	case commandProposeConfChange:
		change := &pb.ConfChange{}
		in.message(change)
		err = node.ProposeConfChange(change)
	case commandProposeConfChangeV2:
		change := &pb.ConfChangeV2{}
		in.message(change)
		err = node.ProposeConfChange(change)
	case commandStep:
		message := &pb.Message{}
		in.message(message)
		err = node.Step(message)
	case commandReady:
		m.ready(out)
	case commandPersisted:
		m.persisted(out)
	case commandApplied:
		m.applied(out)
	case commandReadIndex:
		node.ReadIndex(in.bytes())
	case commandTransferLeader:
		node.TransferLeader(in.number())
	case commandReportUnreachable:
		node.ReportUnreachable(in.number())
	case commandReportSnapshot:
		to, status := in.number(), raft.SnapshotFinish
		if in.number() == 0 {
			status = raft.SnapshotFailure
		}
		node.ReportSnapshot(to, status)
	case commandForgetLeader:
		err = node.ForgetLeader()
	case commandCompact:
		m.compact(in)
	case commandRestart:
		m.restart(in.number())
	default:
		fail("no command %d", command)
	}
	switch {
	case err == nil:
	case errors.Is(err, raft.ErrProposalDropped):
		out.number(labelError, errorProposalDropped)
	case errors.Is(err, raft.ErrStepPeerNotFound):
		out.number(labelError, errorPeerNotFound)
	default:
		out.number(labelError, errorOther)
	}
}
