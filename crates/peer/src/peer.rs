//! One other member: the channels to it, and what is known of how it fares.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use membership::MemberId;
use parking_lot::Mutex;
use raft::{Message, MessageType};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::JoinSet;

use crate::network::Shared;
use crate::stream::StreamKind;
use crate::{pipeline, probe, reader};

/// Messages that may wait for one stream. Full: dropped, and raft is told that the member is unreachable.
/// Source: etcd `server/etcdserver/api/rafthttp/stream.go`, `streamBufSize`.
pub const STREAM_QUEUE: usize = 4096;

/// Whether a member is part of the cluster, as this one knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Known,
    /// It has called, and is not known yet: this member is behind. What it says must be answered, so that it
    /// can help to catch up, but nothing is asked of it.
    Remote,
}

/// Another member.
pub struct Peer {
    pub id: MemberId,
    pub standing: Standing,
    urls: Mutex<Vec<String>>,
    /// Which URL is tried first.
    preferred: AtomicUsize,
    message_stream: Slot,
    append_stream: Slot,
    pipeline: mpsc::Sender<Message>,
    pipeline_inbox: Mutex<Option<mpsc::Receiver<Message>>>,
    activity: Mutex<Activity>,
    tasks: Mutex<JoinSet<()>>,
}

/// The stream that the member has opened for one kind of messages.
#[derive(Default)]
struct Slot {
    attached: Mutex<Option<Attached>>,
    next: AtomicU64,
}

struct Attached {
    number: u64,
    queue: mpsc::Sender<Message>,
}

/// Whether its messages come in.
#[derive(Default)]
struct Activity {
    open: [bool; 2],
    since: Option<Instant>,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    Queued,
    Dropped,
}

impl Peer {
    pub fn new(id: MemberId, standing: Standing, urls: Vec<String>) -> Peer {
        let (pipeline, inbox) = mpsc::channel(pipeline::QUEUE);
        Peer {
            id,
            standing,
            urls: Mutex::new(urls),
            preferred: AtomicUsize::new(0),
            message_stream: Slot::default(),
            append_stream: Slot::default(),
            pipeline,
            pipeline_inbox: Mutex::new(Some(inbox)),
            activity: Mutex::default(),
            tasks: Mutex::default(),
        }
    }

    /// Begins to talk, once.
    pub fn start(self: &Arc<Peer>, shared: &Arc<Shared>) {
        let Some(inbox) = self.pipeline_inbox.lock().take() else { return };
        let mut tasks = self.tasks.lock();
        pipeline::start(shared, self, inbox, &mut tasks);
        if self.standing == Standing::Remote {
            return;
        }
        for kind in StreamKind::BOTH {
            tasks.spawn_on(reader::read_always(shared.clone(), self.clone(), kind), &shared.runtime);
        }
        tasks.spawn_on(probe::probe_always(shared.clone(), self.clone()), &shared.runtime);
    }

    /// Ends everything that goes on with this member.
    pub fn stop(&self) {
        self.tasks.lock().abort_all();
        for slot in [&self.message_stream, &self.append_stream] {
            slot.attached.lock().take();
        }
    }

    pub fn set_urls(&self, urls: &[String]) {
        let mut known = self.urls.lock();
        if known.as_slice() != urls {
            *known = urls.to_vec();
            self.preferred.store(0, Ordering::Relaxed);
        }
    }

    /// The URL to try now; none when the member has none.
    pub fn url(&self) -> Option<String> {
        let urls = self.urls.lock();
        let at = self.preferred.load(Ordering::Relaxed);
        urls.get(at % urls.len().max(1)).cloned()
    }

    /// That URL did not work: the next one has its turn.
    pub fn give_up_url(&self, url: &str) {
        if self.url().as_deref() == Some(url) {
            self.preferred.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Puts a message into the queue of the channel that is there for it. Never blocks.
    pub fn send(&self, message: Message) -> Sent {
        let message = match message.kind {
            MessageType::App => match self.append_stream.send(message) {
                Ok(sent) => return sent,
                Err(message) => message,
            },
            _ => message,
        };
        let message = match self.message_stream.send(message) {
            Ok(sent) => return sent,
            Err(message) => message,
        };
        match self.pipeline.try_send(message) {
            Ok(()) => Sent::Queued,
            Err(_) => Sent::Dropped,
        }
    }

    /// The member has opened a stream: what is for it goes there from now on, and an older stream ends.
    pub fn attach(&self, kind: StreamKind) -> (u64, mpsc::Receiver<Message>) {
        self.slot(kind).attach()
    }

    /// That stream has ended. Nothing happens when there is a newer one.
    pub fn detach(&self, kind: StreamKind, number: u64) {
        self.slot(kind).detach(number);
    }

    fn slot(&self, kind: StreamKind) -> &Slot {
        match kind {
            StreamKind::Message => &self.message_stream,
            StreamKind::Append => &self.append_stream,
        }
    }

    // --- activity ---

    /// A stream of ours to it is open. True when none was before.
    pub fn note_open(&self, kind: StreamKind) -> bool {
        let mut activity = self.activity.lock();
        activity.open[kind as usize] = true;
        let is_news = activity.since.is_none();
        activity.since.get_or_insert_with(Instant::now);
        is_news
    }

    /// A stream of ours to it has ended, or was not open. True when the member counted as active until now.
    pub fn note_closed(&self, kind: StreamKind) -> bool {
        let mut activity = self.activity.lock();
        if !std::mem::replace(&mut activity.open[kind as usize], false) {
            return false;
        }
        // Compat: one broken stream counts as a member that is not there, until the other one speaks.
        activity.since.take().is_some()
    }

    /// What comes in shows that it is there, also while its other stream is broken.
    pub fn note_alive(&self) -> bool {
        let mut activity = self.activity.lock();
        let is_news = activity.since.is_none() && activity.open.iter().any(|open| *open);
        if is_news {
            activity.since = Some(Instant::now());
        }
        is_news
    }

    pub fn active_for(&self) -> Option<Duration> {
        self.activity.lock().since.map(|since| since.elapsed())
    }
}

impl Slot {
    /// Gives the message back when there is no stream.
    #[expect(clippy::result_large_err, reason = "the message goes on to the next channel")]
    fn send(&self, message: Message) -> Result<Sent, Message> {
        let mut attached = self.attached.lock();
        let Some(stream) = attached.as_ref() else { return Err(message) };
        match stream.queue.try_send(message) {
            Ok(()) => Ok(Sent::Queued),
            Err(TrySendError::Full(_)) => Ok(Sent::Dropped),
            Err(TrySendError::Closed(message)) => {
                *attached = None;
                Err(message)
            }
        }
    }

    fn attach(&self) -> (u64, mpsc::Receiver<Message>) {
        let (queue, inbox) = mpsc::channel(STREAM_QUEUE);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        *self.attached.lock() = Some(Attached { number, queue });
        (number, inbox)
    }

    fn detach(&self, number: u64) {
        let mut attached = self.attached.lock();
        if attached.as_ref().is_some_and(|stream| stream.number == number) {
            *attached = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Peer {
        Peer::new(MemberId(1), Standing::Known, vec!["http://a:1".to_owned(), "http://b:1".to_owned()])
    }

    fn message(kind: MessageType) -> Message {
        Message::new(kind, 1)
    }

    #[test]
    fn each_kind_of_message_takes_the_channel_that_is_there() {
        let peer = peer();
        let mut pipeline = peer.pipeline_inbox.lock().take().unwrap();
        assert_eq!(peer.send(message(MessageType::App)), Sent::Queued);
        assert_eq!(pipeline.try_recv().unwrap().kind, MessageType::App);
        let (_, mut messages) = peer.attach(StreamKind::Message);
        assert_eq!(peer.send(message(MessageType::App)), Sent::Queued);
        assert_eq!(messages.try_recv().unwrap().kind, MessageType::App);
        let (number, mut appends) = peer.attach(StreamKind::Append);
        peer.send(message(MessageType::App));
        peer.send(message(MessageType::Heartbeat));
        assert_eq!(appends.try_recv().unwrap().kind, MessageType::App);
        assert_eq!(messages.try_recv().unwrap().kind, MessageType::Heartbeat);
        // A newer stream takes over, and the end of the older one changes nothing.
        let (_, mut newer) = peer.attach(StreamKind::Append);
        peer.detach(StreamKind::Append, number);
        peer.send(message(MessageType::App));
        assert!(appends.try_recv().is_err());
        assert_eq!(newer.try_recv().unwrap().kind, MessageType::App);
        // A stream whose writer is gone is passed over.
        drop(newer);
        peer.send(message(MessageType::App));
        assert_eq!(messages.try_recv().unwrap().kind, MessageType::App);
    }

    #[test]
    fn a_full_queue_drops() {
        let peer = peer();
        let (_, _inbox) = peer.attach(StreamKind::Message);
        let sent = (0..=STREAM_QUEUE).map(|_| peer.send(message(MessageType::Heartbeat)));
        let dropped = sent.filter(|sent| *sent == Sent::Dropped).count();
        assert_eq!(dropped, 1);
    }

    #[test]
    fn urls_are_tried_in_turn() {
        let peer = peer();
        assert_eq!(peer.url().as_deref(), Some("http://a:1"));
        peer.give_up_url("http://a:1");
        peer.give_up_url("http://a:1");
        assert_eq!(peer.url().as_deref(), Some("http://b:1"));
        peer.set_urls(&["http://c:1".to_owned()]);
        assert_eq!(peer.url().as_deref(), Some("http://c:1"));
        peer.set_urls(&[]);
        assert_eq!(peer.url(), None);
    }
}
