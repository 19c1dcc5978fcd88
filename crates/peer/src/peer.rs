//! One other member: the channels to it, and what is known of how it fares.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use membership::MemberId;
use parking_lot::Mutex;
use raft::{Message, MessageType};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::network::Shared;
use crate::outlet::Outlet;
use crate::stream::StreamKind;
use crate::{pipeline, probe, reader};

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
    standing: Mutex<Standing>,
    urls: Mutex<Vec<String>>,
    /// Which URL is tried first.
    preferred: AtomicUsize,
    message_stream: Slot,
    append_stream: Slot,
    pipeline: mpsc::Sender<Message>,
    pipeline_inbox: Mutex<Option<mpsc::Receiver<Message>>>,
    activity: Mutex<Activity>,
    /// When a remote called last.
    called_at: Mutex<Instant>,
    is_asked: AtomicBool,
    is_stopped: AtomicBool,
    tasks: Mutex<JoinSet<()>>,
}

/// The stream that the member has opened for one kind of messages.
type Slot = Mutex<Option<Arc<Outlet>>>;

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
            standing: Mutex::new(standing),
            urls: Mutex::new(urls),
            preferred: AtomicUsize::new(0),
            message_stream: Slot::default(),
            append_stream: Slot::default(),
            pipeline,
            pipeline_inbox: Mutex::new(Some(inbox)),
            activity: Mutex::default(),
            called_at: Mutex::new(Instant::now()),
            is_asked: AtomicBool::new(false),
            is_stopped: AtomicBool::new(false),
            tasks: Mutex::default(),
        }
    }

    /// It turns out to be part of the cluster: [`Peer::start`] must follow. What waits for it stays.
    pub fn make_known(&self) {
        *self.standing.lock() = Standing::Known;
    }

    /// Begins to talk, as far as its standing allows. What has begun goes on.
    pub fn start(self: &Arc<Peer>, shared: &Arc<Shared>) {
        let mut tasks = self.tasks.lock();
        if let Some(inbox) = self.pipeline_inbox.lock().take() {
            pipeline::start(shared, self, inbox, &mut tasks);
        }
        if *self.standing.lock() == Standing::Remote || self.is_asked.swap(true, Ordering::SeqCst) {
            return;
        }
        for kind in StreamKind::BOTH {
            tasks.spawn_on(reader::read_always(shared.clone(), self.clone(), kind), &shared.runtime);
        }
        tasks.spawn_on(probe::probe_always(shared.clone(), self.clone()), &shared.runtime);
    }

    /// Ends everything that goes on with this member.
    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        self.tasks.lock().abort_all();
        for slot in [&self.message_stream, &self.append_stream] {
            if let Some(stream) = slot.lock().take() {
                stream.close();
            }
        }
    }

    pub fn note_call(&self) {
        *self.called_at.lock() = Instant::now();
    }

    pub fn called_at(&self) -> Instant {
        *self.called_at.lock()
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

    /// Puts a message into the queue of the channel that is there for it; [`Peer::write_here`] must follow the last
    /// of those that go together. Never blocks.
    pub fn put(&self, message: Message) -> Sent {
        let message = match message.kind {
            MessageType::App => match put_into(&self.append_stream, message) {
                Ok(sent) => return sent,
                Err(message) => message,
            },
            _ => message,
        };
        let message = match put_into(&self.message_stream, message) {
            Ok(sent) => return sent,
            Err(message) => message,
        };
        match self.pipeline.try_send(message) {
            Ok(()) => Sent::Queued,
            Err(_) => Sent::Dropped,
        }
    }

    /// Whether [`Peer::put`] would take a message that is no append and carries so many bytes.
    pub fn has_room(&self, bytes: u64) -> bool {
        match self.message_stream.lock().as_ref() {
            Some(stream) => stream.has_room(bytes),
            None => self.pipeline.capacity() > 0,
        }
    }

    /// Has the streams write what waits. Never blocks.
    pub fn write_here(&self) {
        for slot in [&self.append_stream, &self.message_stream] {
            let stream = slot.lock().clone();
            if let Some(stream) = stream {
                stream.write_here();
            }
        }
    }

    /// The member has opened a stream: what is for it goes there from now on, and an older stream ends.
    pub fn attach(&self, kind: StreamKind, stream: Arc<Outlet>) {
        let older = self.slot(kind).lock().replace(stream.clone());
        if let Some(older) = older {
            older.close();
        }
        // It may have been stopped since it was looked up: nobody would end this stream.
        if self.is_stopped.load(Ordering::SeqCst) {
            stream.close();
        }
    }

    /// That stream has ended. Nothing happens when there is a newer one.
    pub fn detach(&self, kind: StreamKind, stream: &Arc<Outlet>) {
        self.slot(kind).lock().take_if(|attached| Arc::ptr_eq(attached, stream));
    }

    fn slot(&self, kind: StreamKind) -> &Slot {
        match kind {
            StreamKind::Message => &self.message_stream,
            StreamKind::Append => &self.append_stream,
        }
    }

    /// Runs something that ends when this peer is stopped.
    pub fn spawn(&self, shared: &Shared, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(task, &shared.runtime);
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

    /// Whether a stream of ours to it is open, or was until just now.
    pub fn is_open(&self, kind: StreamKind) -> bool {
        self.activity.lock().open[kind as usize]
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

/// Gives the message back when there is no stream.
#[expect(clippy::result_large_err, reason = "the message goes on to the next channel")]
fn put_into(slot: &Slot, message: Message) -> Result<Sent, Message> {
    match slot.lock().as_ref() {
        Some(stream) => stream.put(message),
        None => Err(message),
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use prometheus::Counter;
    use tokio::io::DuplexStream;

    use super::*;
    use crate::codec::message::MessageEncoder;
    use crate::outlet::{self, Framing};

    fn peer() -> Peer {
        Peer::new(MemberId(1), Standing::Known, vec!["http://a:1".to_owned(), "http://b:1".to_owned()])
    }

    fn message(kind: MessageType) -> Message {
        Message::new(kind, 1)
    }

    /// A stream that nobody writes yet, and its far end.
    fn stream() -> (Arc<Outlet>, DuplexStream) {
        let (wire, far_end) = tokio::io::duplex(1024);
        let sent_bytes = Counter::new("bytes", "sent").unwrap();
        let encoder = Box::new(MessageEncoder);
        let stream = Outlet::new(Box::new(wire), BytesMut::new(), Framing::Plain, encoder, sent_bytes);
        (Arc::new(stream), far_end)
    }

    #[test]
    fn each_kind_of_message_takes_the_channel_that_is_there() {
        let peer = peer();
        let mut pipeline = peer.pipeline_inbox.lock().take().unwrap();
        assert_eq!(peer.put(message(MessageType::App)), Sent::Queued);
        assert_eq!(pipeline.try_recv().unwrap().kind, MessageType::App);
        let (messages, _far_end) = stream();
        peer.attach(StreamKind::Message, messages.clone());
        assert_eq!(peer.put(message(MessageType::App)), Sent::Queued);
        assert_eq!(messages.waiting(), [MessageType::App]);
        let (appends, _far_end) = stream();
        peer.attach(StreamKind::Append, appends.clone());
        peer.put(message(MessageType::App));
        peer.put(message(MessageType::Heartbeat));
        assert_eq!(appends.waiting(), [MessageType::App]);
        assert_eq!(messages.waiting(), [MessageType::App, MessageType::Heartbeat]);
        // A newer stream takes over, and the end of the older one changes nothing.
        let (newer, _far_end) = stream();
        peer.attach(StreamKind::Append, newer.clone());
        peer.detach(StreamKind::Append, &appends);
        peer.put(message(MessageType::App));
        assert_eq!(appends.waiting().len(), 1);
        assert_eq!(newer.waiting(), [MessageType::App]);
        assert_eq!(
            appends.put(message(MessageType::App)).map_err(|message| message.kind),
            Err(MessageType::App)
        );
        // A stream that has ended is passed over.
        newer.close();
        peer.put(message(MessageType::App));
        assert_eq!(messages.waiting().len(), 3);
        // Whoever opens a stream of a peer that was stopped meanwhile gets none.
        peer.stop();
        let (late, _far_end) = stream();
        peer.attach(StreamKind::Message, late.clone());
        assert_eq!(peer.put(message(MessageType::Heartbeat)), Sent::Queued);
        assert_eq!(late.waiting(), []);
        assert_eq!(pipeline.try_recv().unwrap().kind, MessageType::Heartbeat);
    }

    /// A leader that has called this member before it knew the cluster may have a proposal of it already.
    #[test]
    fn what_waits_for_a_remote_stays_when_it_becomes_known() {
        let peer = Peer::new(MemberId(1), Standing::Remote, vec!["http://a:1".to_owned()]);
        let mut pipeline = peer.pipeline_inbox.lock().take().unwrap();
        peer.put(message(MessageType::Prop));
        peer.make_known();
        peer.put(message(MessageType::AppResp));
        assert_eq!(pipeline.try_recv().unwrap().kind, MessageType::Prop);
        assert_eq!(pipeline.try_recv().unwrap().kind, MessageType::AppResp);
    }

    #[test]
    fn a_full_queue_drops() {
        let peer = peer();
        let (messages, _far_end) = stream();
        peer.attach(StreamKind::Message, messages);
        let sent = (0..=outlet::QUEUE).map(|_| peer.put(message(MessageType::Heartbeat)));
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
