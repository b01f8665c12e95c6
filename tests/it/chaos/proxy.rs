//! A network between two programs that the test can take away.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::process::wait_until;

/// How soon a change of the network is noticed.
const NOTICE: Duration = Duration::from_millis(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    Up,
    /// Connections are dropped, and new ones refused.
    Cut,
    /// Connections stay, and new ones are accepted, but no byte arrives.
    BlackHole,
}

pub struct Proxy {
    address: SocketAddr,
    line: Arc<Line>,
}

struct Line {
    target: SocketAddr,
    network: AtomicUsize,
    listens: AtomicBool,
    ended: AtomicBool,
}

impl Proxy {
    /// To the server at `target`, which need not run yet.
    pub fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let network = AtomicUsize::new(Network::Up as usize);
        let line = Arc::new(Line { target, network, listens: AtomicBool::new(true), ended: AtomicBool::new(false) });
        let served = Arc::clone(&line);
        thread::spawn(move || served.serve(listener, address));
        Self { address, line }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns once new connections meet it.
    pub fn turn(&self, network: Network) {
        self.line.network.store(network as usize, Ordering::SeqCst);
        wait_until("the proxy listens, or does not", Duration::from_secs(30), || {
            (self.line.listens.load(Ordering::SeqCst) == (network != Network::Cut)).then_some(())
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.line.ended.store(true, Ordering::SeqCst);
    }
}

impl Line {
    fn network(&self) -> Network {
        match self.network.load(Ordering::SeqCst) {
            up if up == Network::Up as usize => Network::Up,
            cut if cut == Network::Cut as usize => Network::Cut,
            _ => Network::BlackHole,
        }
    }

    fn is(&self, network: Network) -> bool {
        self.network() == network && !self.ended.load(Ordering::SeqCst)
    }

    fn serve(self: &Arc<Self>, listener: TcpListener, address: SocketAddr) {
        listener.set_nonblocking(true).unwrap();
        let mut listener = Some(listener);
        while !self.ended.load(Ordering::SeqCst) {
            if self.is(Network::Cut) {
                listener = None;
                self.listens.store(false, Ordering::SeqCst);
            } else if listener.is_none() {
                listener = TcpListener::bind(address).ok();
                if let Some(listener) = &listener {
                    listener.set_nonblocking(true).unwrap();
                }
                self.listens.store(listener.is_some(), Ordering::SeqCst);
            }
            match listener.as_ref().map(TcpListener::accept) {
                Some(Ok((client, _))) => {
                    let line = Arc::clone(self);
                    thread::spawn(move || line.connect(&client));
                }
                _ => thread::park_timeout(NOTICE),
            }
        }
    }

    fn connect(self: Arc<Self>, client: &TcpStream) {
        client.set_nonblocking(false).unwrap();
        // What connects into a black hole is never heard of.
        while self.is(Network::BlackHole) {
            thread::park_timeout(NOTICE);
        }
        if !self.is(Network::Up) {
            return;
        }
        let Ok(server) = TcpStream::connect_timeout(&self.target, Duration::from_secs(2)) else { return };
        let (Ok(client_too), Ok(server_too)) = (client.try_clone(), server.try_clone()) else { return };
        let back = Arc::clone(&self);
        thread::spawn(move || back.carry(&server_too, &client_too));
        self.carry(client, &server);
    }

    fn carry(&self, from: &TcpStream, to: &TcpStream) {
        self.carry_until_the_end(from, to);
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }

    fn carry_until_the_end(&self, mut from: &TcpStream, mut to: &TcpStream) {
        let mut bytes = vec![0; 64 * 1024];
        from.set_read_timeout(Some(NOTICE)).unwrap();
        let mut swallowed = false;
        loop {
            let read = match from.read(&mut bytes) {
                Ok(0) => return,
                Ok(read) => read,
                Err(err) if matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => 0,
                Err(_) => return,
            };
            match self.network() {
                _ if self.ended.load(Ordering::SeqCst) => return,
                Network::Cut => return,
                Network::BlackHole => swallowed |= read > 0,
                // Nobody may see a stream with a hole in it.
                Network::Up if swallowed => return,
                Network::Up => {
                    if to.write_all(&bytes[..read]).is_err() {
                        return;
                    }
                }
            }
        }
    }
}
