//! An HTTP server in the place of a database. It inflates and counts lines, and can be away or silent.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ha_ingestor::model::time::Timestamp;
use ha_ingestor::runtime::clock;
use libdeflater::Decompressor;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Takes every body, says 204.
    Up,
    /// The same, a tenth of a second later.
    Slow,
    /// Reads and never answers.
    Silent,
    /// Closes every connection at once.
    Away,
}

/// The hand on it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Database {
    pub(crate) address: SocketAddr,
    pub(crate) lines: Arc<AtomicU64>,
    pub(crate) bytes: Arc<AtomicU64>,
    mood: watch::Sender<Mood>,
    watched: Arc<Mutex<Watched>>,
}

/// What is looked at more closely while somebody wants it.
#[derive(Default)]
struct Watched {
    /// Events from then on are live.
    since: Option<Timestamp>,
    first: Option<Instant>,
    latest_backlog: Option<Instant>,
    backlog_lines: u64,
    latencies: Vec<Duration>,
}

/// What arrived since [`Database::watch`].
#[derive(Debug)]
pub(crate) struct Seen {
    /// From the first request to the last that held older lines.
    pub(crate) drained_in: Duration,
    pub(crate) backlog_lines: u64,
    /// Of live lines, from the event to the database; sorted.
    pub(crate) latencies: Vec<Duration>,
}

impl Database {
    pub(crate) async fn bind(mood: Mood) -> anyhow::Result<(Self, TcpListener)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let database = Self {
            address,
            lines: Arc::default(),
            bytes: Arc::default(),
            mood: watch::Sender::new(mood),
            watched: Arc::default(),
        };
        Ok((database, listener))
    }

    pub(crate) fn turn(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    pub(crate) fn lines(&self) -> u64 {
        self.lines.load(Ordering::Acquire)
    }

    /// From now on lines are timed; those of later events are live.
    pub(crate) fn watch(&self) {
        *self.watched() = Watched { since: Some(clock::now()), ..Watched::default() };
    }

    /// When the first lines came after [`Database::watch`].
    pub(crate) fn first(&self) -> Option<Instant> {
        self.watched().first
    }

    pub(crate) fn seen(&self) -> Seen {
        let mut watched = std::mem::take(&mut *self.watched());
        watched.latencies.sort_unstable();
        let (first, last) = (watched.first, watched.latest_backlog);
        Seen {
            drained_in: last.zip(first).map_or(Duration::ZERO, |(last, first)| last - first),
            backlog_lines: watched.backlog_lines,
            latencies: watched.latencies,
        }
    }

    /// Serves until it is told to stop.
    pub(crate) async fn run(self, listener: TcpListener, stop: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => if let Ok((stream, _)) = accepted
                    && *self.mood.borrow() != Mood::Away
                {
                    connections.spawn(self.clone().serve(stream));
                }
            }
        }
    }

    async fn serve(self, stream: TcpStream) -> anyhow::Result<()> {
        stream.set_nodelay(true)?;
        let mut mood = self.mood.subscribe();
        let mut stream = BufReader::new(stream);
        let mut inflate = Decompressor::new();
        let (mut body, mut text) = (Vec::new(), Vec::new());
        loop {
            let (mut length, mut gzip) = (0, false);
            loop {
                let mut line = String::new();
                if stream.read_line(&mut line).await? == 0 {
                    return Ok(());
                }
                let line = line.trim().to_ascii_lowercase();
                if line.is_empty() {
                    break;
                }
                if let Some(value) = line.strip_prefix("content-length:") {
                    length = value.trim().parse()?;
                }
                gzip |= line == "content-encoding: gzip";
            }
            body.resize(length, 0);
            stream.read_exact(&mut body).await?;
            if *mood.borrow() == Mood::Away {
                return Ok(());
            }
            let now = *mood.wait_for(|mood| matches!(mood, Mood::Up | Mood::Slow)).await?;
            if now == Mood::Slow {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            let lines = if gzip {
                // The last four bytes of a gzip body are the length of what it holds.
                let size = u32::from_le_bytes(body[length - 4..].try_into()?);
                text.resize(size as usize, 0);
                inflate.gzip_decompress(&body, &mut text)?;
                &text
            } else {
                &body
            };
            self.count(lines);
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
        }
    }

    fn count(&self, text: &[u8]) {
        let count = memchr::memchr_iter(b'\n', text).count() as u64;
        // A question such as `SHOW DATABASES` has no lines.
        if count > 0 {
            self.look(text, count);
        }
        self.bytes.fetch_add(text.len() as u64, Ordering::Release);
        self.lines.fetch_add(count, Ordering::Release);
    }

    fn look(&self, text: &[u8], count: u64) {
        let mut watched = self.watched();
        let Some(since) = watched.since else { return };
        let now = Instant::now();
        watched.first.get_or_insert(now);
        let mut times = text.split(|byte| *byte == b'\n').filter_map(time_of).peekable();
        // A request is live or backlog, never both.
        if times.peek().is_some_and(|first| *first < since.as_micros()) {
            watched.latest_backlog = Some(now);
            watched.backlog_lines += count;
        } else {
            let now = clock::now().as_micros();
            let latencies = times.map(|time| Duration::from_micros((now - time).max(0).unsigned_abs()));
            watched.latencies.extend(latencies);
        }
    }

    fn watched(&self) -> std::sync::MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The microseconds at the end of a line, which are nanoseconds there.
fn time_of(line: &[u8]) -> Option<i64> {
    let at = memchr::memrchr(b' ', line)?;
    let nanos: i64 = std::str::from_utf8(&line[at + 1..]).ok()?.parse().ok()?;
    Some(nanos / 1000)
}
