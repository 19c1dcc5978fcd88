// Command bolt does with bbolt what crates/bolt/examples/bolttool.rs does with our engine: dump, check,
// work and bench. The work for a seed is the same in both, so both must end with the same dump.
package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"os"
	"strconv"
	"time"

	bolt "go.etcd.io/bbolt"
)

// random is xorshift64*, as in bolttool.rs.
type random uint64

func (r *random) next(below uint64) uint64 {
	x := uint64(*r)
	x ^= x >> 12
	x ^= x << 25
	x ^= x >> 27
	*r = random(x)
	return (x * 0x2545F4914F6CDD1D) >> 11 % below
}

func main() {
	if len(os.Args) < 3 {
		fail(fmt.Errorf("usage: bolt dump|check|work|bench FILE [SEED TRANSACTIONS OPERATIONS] [freelist]"))
	}
	command, path := os.Args[1], os.Args[2]
	sync := os.Args[len(os.Args)-1] == "freelist"
	options := &bolt.Options{
		NoFreelistSync: !sync,
		FreelistType:   bolt.FreelistMapType,
		ReadOnly:       command == "dump",
	}
	db, err := bolt.Open(path, 0o600, options)
	fail(err)
	switch command {
	case "dump":
		out := bufio.NewWriter(os.Stdout)
		fail(db.View(func(tx *bolt.Tx) error {
			return tx.ForEach(func(name []byte, b *bolt.Bucket) error { return dump(out, fmt.Sprintf("%x", name), b) })
		}))
		fail(out.Flush())
	case "check":
		findings := 0
		fail(db.View(func(tx *bolt.Tx) error {
			for err := range tx.Check() {
				fmt.Println(err)
				findings++
			}
			return nil
		}))
		if findings > 0 {
			os.Exit(1)
		}
	case "work":
		r := random(number(3) | 1)
		for range number(4) {
			fail(db.Update(func(tx *bolt.Tx) error { return work(tx, &r, number(5)) }))
		}
	case "thin":
		fail(thin(db, number(3)))
	case "bench", "lookups":
		fail(bench(db, number(3)))
	default:
		fail(fmt.Errorf("no command %q", command))
	}
	fail(db.Close())
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}

func number(at int) uint64 {
	n, err := strconv.ParseUint(os.Args[at], 10, 64)
	fail(err)
	return n
}

func dump(out *bufio.Writer, path string, b *bolt.Bucket) error {
	fmt.Fprintf(out, "%s bucket %d\n", path, b.Sequence())
	return b.ForEach(func(k, v []byte) error {
		if v == nil {
			return dump(out, fmt.Sprintf("%s/%x", path, k), b.Bucket(k))
		}
		hash := fnv.New64a()
		hash.Write(v)
		_, err := fmt.Fprintf(out, "%s %x %d %016x\n", path, k, len(v), hash.Sum64())
		return err
	})
}

func key(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func value(n uint64, size uint64) []byte {
	v := make([]byte, size)
	for i := range v {
		v[i] = byte(n + uint64(i)*7)
	}
	return v
}

// work is one transaction; bolttool.rs has the same steps in the same order.
func work(tx *bolt.Tx, r *random, operations uint64) error {
	top := [][]byte{[]byte("key"), []byte("lease"), []byte("nest")}
	buckets := make([]*bolt.Bucket, len(top))
	for i, name := range top {
		b, err := tx.CreateBucketIfNotExists(name)
		if err != nil {
			return err
		}
		buckets[i] = b
	}
	buckets[0].FillPercent = 0.9
	for range operations {
		what, which := r.next(100), r.next(uint64(len(top)))
		b := buckets[which]
		switch {
		case what < 60:
			n, err := b.NextSequence()
			if err != nil {
				return err
			}
			size := r.next(1300)
			if r.next(60) == 0 {
				size = r.next(60000)
			}
			if err := b.Put(key(n), value(n, size)); err != nil {
				return err
			}
		case what < 80:
			n := r.next(3000)
			k := append([]byte("r"), key(n)...)
			if err := b.Put(k[:1+8-n%3], value(n, r.next(80))); err != nil {
				return err
			}
		case what < 86:
			start, step, count := r.next(b.Sequence()+1), 1+r.next(4), r.next(40)
			for i := range count {
				if err := b.Delete(key(start + i*step)); err != nil {
					return err
				}
			}
		case what < 97:
			inner, err := buckets[2].CreateBucketIfNotExists([]byte(fmt.Sprintf("in-%d", r.next(6))))
			if err != nil {
				return err
			}
			for range r.next(20) {
				n := r.next(400)
				if err := inner.Put(key(n), value(n, r.next(30))); err != nil {
					return err
				}
			}
		default:
			name := []byte(fmt.Sprintf("in-%d", r.next(6)))
			if buckets[2].Bucket(name) != nil {
				if err := buckets[2].DeleteBucket(name); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// bench appends records of 1 KiB in transactions of 10k, as etcd's backend would.
func bench(db *bolt.DB, records uint64) error {
	start := time.Now()
	v := value(1, 1024)
	for first := uint64(0); first < records && os.Args[1] == "bench"; first += 10000 {
		err := db.Update(func(tx *bolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("key"))
			if err != nil {
				return err
			}
			b.FillPercent = 0.9
			for n := first; n < min(first+10000, records); n++ {
				k := append(append(key(n), '_'), key(0)...)
				if err := b.Put(k, v); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	fmt.Printf("append: %v\n", time.Since(start))
	start = time.Now()
	r := random(77)
	lookups := uint64(1000000)
	found := 0
	err := db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte("key"))
		for range lookups {
			if b.Get(append(append(key(r.next(records)), '_'), key(0)...)) != nil {
				found++
			}
		}
		fmt.Printf("size: %d\n", tx.Size())
		return nil
	})
	took := time.Since(start)
	fmt.Printf("lookups: %d found, %.0f/s\n", found, float64(lookups)/took.Seconds())
	return err
}

// thin deletes nine of ten records in transactions of 10k, as compaction would.
func thin(db *bolt.DB, records uint64) error {
	start := time.Now()
	for first := uint64(0); first < records; first += 10000 {
		err := db.Update(func(tx *bolt.Tx) error {
			b := tx.Bucket([]byte("key"))
			b.FillPercent = 0.9
			for n := first; n < first+10000; n++ {
				if n%10 == 0 {
					continue
				}
				if err := b.Delete(append(append(key(n), '_'), key(0)...)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	fmt.Printf("thin: %v, free pages %d\n", time.Since(start), db.Stats().FreePageN)
	return nil
}
