//! What the clients do: all kinds of calls, on few keys, through all members.

use std::sync::Arc;
use std::time::Duration;

use sim::rng::Rng;
use tokio::sync::watch;

use crate::caller::Caller;
use crate::cluster::Cluster;
use crate::failure::Outcome as Done;
use crate::liar::Liar;
use crate::memory::{Lease, Memory};
use crate::operation::{
    Call, Compare, Delete, Outcome, Put, Range, Relation, Revision, Span, Step, Target, Txn,
};

/// Keys that all clients fight for: few, but more than fit in the first piece of a streamed range.
const KEYS: u64 = 12;
/// A key that is never deleted. Compat: etcd's hash of a store whose compaction keeps nothing depends on
/// how far the compaction got; with one key kept it does not.
pub const ANCHOR: &str = "z/anchor";
/// Longer than an election, shorter than etcd's own limit of seven seconds: both ends are met.
const LIMITS: [Duration; 4] =
    [Duration::from_millis(1500), Duration::from_secs(3), Duration::from_secs(5), Duration::from_secs(8)];
/// Calls of one client are this far apart at least and at most. Milliseconds.
const PAUSE_MS: (u64, u64) = (5, 50);
/// A lease that is not renewed is forgotten so long after it should have ended. Microseconds.
const LEASE_AFTERLIFE: u64 = 4_000_000;

pub struct Client {
    caller: Caller,
    rng: Rng,
    id: u32,
    calls: u64,
    memory: Arc<Memory>,
    cluster: Arc<Cluster>,
}

impl Client {
    pub fn new(id: u32, seed: u64, cluster: &Arc<Cluster>, memory: &Arc<Memory>, liar: &Arc<Liar>) -> Client {
        Client {
            caller: Caller::new(id, cluster, liar),
            rng: Rng::new(seed ^ (u64::from(id) << 32)),
            id,
            calls: 0,
            memory: Arc::clone(memory),
            cluster: Arc::clone(cluster),
        }
    }

    /// Calls until it is told to stop.
    pub async fn run(mut self, stop: watch::Receiver<bool>) -> Done {
        while !*stop.borrow() {
            let call = self.next_call();
            self.perform(call).await?;
            let (least, most) = PAUSE_MS;
            let pause = least + self.rng.below(most - least);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        Ok(())
    }

    /// Renews what is to be kept until it is told to stop.
    pub async fn keep_leases(mut self, stop: watch::Receiver<bool>) -> Done {
        while !*stop.borrow() {
            for lease in self.memory.leases().into_iter().filter(|lease| lease.is_kept) {
                if !self.rng.chance(300) {
                    self.perform(Call::KeepAlive { lease: lease.id }).await?;
                }
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        Ok(())
    }

    async fn perform(&mut self, call: Call) -> Done {
        let members = self.cluster.members();
        // Mostly its own member, so that each is asked all the time.
        let own = members[self.id as usize % members.len()];
        let member = if self.rng.chance(800) { own } else { self.rng.pick(&members) };
        let limit = self.rng.pick(&LIMITS);
        let outcome = self.caller.call(member, call.clone(), limit).await?;
        let Outcome::Answered { revision, answer } = outcome else { return Ok(()) };
        self.memory.learn(&call, revision, &answer);
        if let Call::Grant { lease, ttl_secs } = call {
            let now = self.cluster.recorder.now();
            let is_kept = self.rng.chance(400);
            let life = if is_kept { 20 } else { u64::try_from(ttl_secs).unwrap_or(0) };
            let until = now + life * 1_000_000 + LEASE_AFTERLIFE;
            self.memory.add_lease(Lease { id: lease, is_kept, until }, now);
        }
        Ok(())
    }

    fn next_call(&mut self) -> Call {
        self.calls += 1;
        match self.rng.below(1000) {
            0..220 => Call::Put(self.put()),
            220..240 => Call::Put(self.put_of_parts()),
            240..300 => Call::Put(self.put_with_lease()),
            300..480 => Call::Range(Range::of(self.span())),
            480..540 => Call::Range(Range { serializable: true, ..Range::of(self.span()) }),
            540..580 => Call::Range(self.range_of_the_past()),
            580..620 => Call::Range(Range { limit: 1 + self.rng.below(4) as i64, ..Range::of(keys()) }),
            620..630 => Call::Range(Range { count_only: true, ..Range::of(keys()) }),
            630..640 => Call::Range(Range { streamed: true, ..Range::of(keys()) }),
            640..700 => Call::Delete(Delete { span: Span::one(self.key()), prev_kv: self.rng.chance(500) }),
            700..720 => Call::Delete(Delete { span: self.few_keys(), prev_kv: self.rng.chance(500) }),
            720..820 => Call::Txn(self.compare_and_put()),
            820..860 => Call::Txn(self.compare_and_delete()),
            860..910 => Call::Txn(self.many_steps()),
            910..940 => Call::Txn(self.nested()),
            940..970 => Call::Txn(self.reads()),
            970..990 => {
                // Positive and never used twice, as near as chance can tell.
                let lease = ((self.rng.draw() >> 2) | 1) as i64;
                Call::Grant { lease, ttl_secs: 1 + self.rng.below(4) as i64 }
            }
            _ => match self.lease() {
                Some(lease) => Call::Revoke { lease },
                None => Call::Put(self.put()),
            },
        }
    }

    fn key(&mut self) -> String {
        format!("k/{}", self.rng.below(KEYS))
    }

    fn value(&self) -> String {
        format!("c{}-{}", self.id, self.calls)
    }

    fn span(&mut self) -> Span {
        match self.rng.below(10) {
            0..6 => Span::one(self.key()),
            6..8 => keys(),
            8 => self.few_keys(),
            _ => Span::everything(),
        }
    }

    fn few_keys(&mut self) -> Span {
        let from = self.rng.below(KEYS);
        Span { key: format!("k/{from}"), end: format!("k/{}", from + 3) }
    }

    fn put(&mut self) -> Put {
        Put { key: self.key(), value: self.value(), prev_kv: self.rng.chance(400), ..Put::default() }
    }

    fn put_of_parts(&mut self) -> Put {
        let mut put = self.put();
        if self.rng.chance(500) {
            put.ignore_lease = true;
        } else {
            put.ignore_value = true;
            put.value = String::new();
        }
        put
    }

    fn put_with_lease(&mut self) -> Put {
        let lease = self.lease().unwrap_or(0);
        Put { lease, ..self.put() }
    }

    fn lease(&mut self) -> Option<i64> {
        let leases = self.memory.leases();
        (!leases.is_empty()).then(|| leases[self.rng.index(leases.len())].id)
    }

    fn range_of_the_past(&mut self) -> Range {
        let revision = self.memory.revision();
        let back = self.rng.below(60) as Revision;
        // Mostly what is still there; now and then compacted, or yet to come.
        let revision = if self.rng.chance(50) { revision + back } else { revision - back };
        let serializable = self.rng.chance(300);
        Range { revision: revision.max(1), serializable, ..Range::of(self.span()) }
    }

    /// A compare that mostly holds, of what was last seen of the key.
    fn compare(&mut self, key: &str) -> Compare {
        let known = self.memory.key(key);
        let relation = self.rng.weighted(&[
            (8, Relation::Equal),
            (1, Relation::NotEqual),
            (1, Relation::Less),
            (1, Relation::Greater),
        ]);
        let target = match (known, self.rng.below(6)) {
            (Some(kv), 0) => Target::Version(kv.version),
            (Some(kv), 1) => Target::Value(kv.value),
            (Some(kv), 2) => Target::Create(kv.create_revision),
            (Some(kv), 3) => Target::Lease(kv.lease),
            (Some(kv), _) => Target::Mod(kv.mod_revision),
            (None, 0) => Target::Version(0),
            (None, _) => Target::Mod(0),
        };
        Compare { span: Span::one(key), relation, target }
    }

    fn compare_and_put(&mut self) -> Txn {
        let put = if self.rng.chance(150) { self.put_with_lease() } else { self.put() };
        let read = Step::Range(Range::of(Span::one(put.key.clone())));
        Txn { compares: vec![self.compare(&put.key)], success: vec![Step::Put(put)], failure: vec![read] }
    }

    fn compare_and_delete(&mut self) -> Txn {
        let key = self.key();
        let compares = vec![self.compare(&key)];
        let span = Span::one(key);
        let read = Step::Range(Range::of(span.clone()));
        let delete = Step::Delete(Delete { span, prev_kv: true });
        Txn { compares, success: vec![delete, read.clone()], failure: vec![read] }
    }

    fn many_steps(&mut self) -> Txn {
        let first = self.rng.below(KEYS - 3);
        let key = |offset: u64| format!("k/{}", first + offset);
        let put = |offset, value| Step::Put(Put { key: key(offset), value, prev_kv: true, ..Put::default() });
        let read = || Step::Range(Range::of(keys()));
        let delete = Step::Delete(Delete { span: Span::one(key(2)), prev_kv: true });
        let compare = self.compare(&key(3));
        Txn {
            compares: vec![compare],
            success: vec![read(), put(0, self.value()), delete, put(1, self.value()), read()],
            failure: vec![put(3, self.value()), read()],
        }
    }

    fn nested(&mut self) -> Txn {
        let (inner, outer) = (self.compare_and_put(), self.put());
        let Step::Put(inside) = &inner.success[0] else { return inner };
        let key = inside.key.clone();
        let mut success = vec![Step::Txn(inner)];
        // Two puts of one key in one path are refused as a whole.
        if outer.key != key {
            success.insert(0, Step::Put(outer));
        }
        success.push(Step::Range(Range::of(keys())));
        let failure = vec![Step::Range(Range::of(Span::one(key.clone())))];
        Txn { compares: vec![self.compare(&key)], success, failure }
    }

    fn reads(&mut self) -> Txn {
        let compares =
            vec![Compare { span: keys(), relation: Relation::Greater, target: Target::Version(0) }];
        let serializable = self.rng.chance(200);
        let read = |span| Step::Range(Range { serializable, ..Range::of(span) });
        let (one, other) = (self.span(), self.span());
        Txn { compares, success: vec![read(one), read(other.clone())], failure: vec![read(other)] }
    }
}

/// All keys that clients fight for.
pub fn keys() -> Span {
    Span::prefix("k/")
}
