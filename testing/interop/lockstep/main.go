// Command lockstep hosts members of Go's raft and does with them what it is told on standard input.
//
// Both directions carry frames: a length (uint32, little-endian) and as many bytes. A frame of commands is
// answered by one frame with a trace for each command (see trace.go), so the other side can think ahead
// while we work. It ends when its input ends.
package main

import (
	"bufio"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"os"

	"go.etcd.io/raft/v3"
)

// Longest frame that we take, in bytes: far above what the other side sends, far below what would hurt.
const frameMax = 1 << 28

func main() {
	raft.SetLogger(quiet{})
	// Election timeouts are all the randomness in raft, one byte each. The other side dictates them.
	rand.Reader = dictated

	frames := make(chan []byte, 4)
	go readFrames(os.Stdin, frames)
	cluster := newCluster()
	out := bufio.NewWriter(os.Stdout)
	for frame := range frames {
		writeFrame(out, cluster.run(frame))
	}
}

func readFrames(in io.Reader, frames chan<- []byte) {
	defer close(frames)
	for {
		var size [4]byte
		if _, err := io.ReadFull(in, size[:]); err != nil {
			return
		}
		length := binary.LittleEndian.Uint32(size[:])
		if length > frameMax {
			fail("frame of %d bytes", length)
		}
		frame := make([]byte, length)
		if _, err := io.ReadFull(in, frame); err != nil {
			fail("read a frame: %v", err)
		}
		frames <- frame
	}
}

func writeFrame(out *bufio.Writer, frame []byte) {
	var size [4]byte
	binary.LittleEndian.PutUint32(size[:], uint32(len(frame)))
	out.Write(size[:])
	out.Write(frame)
	// A writer that failed before fails here as well.
	if err := out.Flush(); err != nil {
		fail("write a frame: %v", err)
	}
}

func fail(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, "lockstep: "+format+"\n", arguments...)
	os.Exit(1)
}

// draws serves bytes that were put there, and counts what was asked for beyond them.
type draws struct {
	left    []byte
	missing uint64
}

var dictated = &draws{}

func (d *draws) Read(p []byte) (int, error) {
	for i := range p {
		if len(d.left) == 0 {
			d.missing++
			p[i] = 0
			continue
		}
		p[i] = d.left[0]
		d.left = d.left[1:]
	}
	return len(p), nil
}

// quiet logs nothing, and panics where raft wants to.
type quiet struct{}

func (quiet) Debug(...any)            {}
func (quiet) Debugf(string, ...any)   {}
func (quiet) Info(...any)             {}
func (quiet) Infof(string, ...any)    {}
func (quiet) Warning(...any)          {}
func (quiet) Warningf(string, ...any) {}
func (quiet) Error(...any)            {}
func (quiet) Errorf(string, ...any)   {}
func (quiet) Fatal(v ...any)          { panic(fmt.Sprint(v...)) }
func (quiet) Panic(v ...any)          { panic(fmt.Sprint(v...)) }

func (quiet) Fatalf(format string, v ...any) { panic(fmt.Sprintf(format, v...)) }
func (quiet) Panicf(format string, v ...any) { panic(fmt.Sprintf(format, v...)) }
