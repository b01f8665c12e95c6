//! A TCP connection to a host that may have addresses of both families.
//!
//! Home Assistant's internal network has IPv6 beside IPv4, and an address that nobody answers must not eat the time that a
//! connection may take: the second family is tried 300 ms after the first (RFC 8305), and who answers first is taken. The
//! connector of `hyper-util` does that.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::future::{Ready, ready};
use std::io;
use std::iter;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::vec;

use hyper::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, lookup_host};
use tower_service::Service;

/// Failure to connect to a host.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("the host name is not known")]
    NoSuchHost,
    #[error("nothing listens there")]
    Refused,
    #[error("{0}")]
    Unreachable(String),
}

/// Returns the TCP connector below HTTP and HTTPS clients.
#[must_use]
pub fn connector() -> HttpConnector {
    prepared(HttpConnector::new())
}

fn prepared<R>(mut connector: HttpConnector<R>) -> HttpConnector<R> {
    // https is for the layer above.
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector
}

/// Connects without a time limit of its own. `host`: a name or an address; an IPv6 address may be in brackets.
pub async fn connect(host: &str, port: u16) -> Result<TcpStream, ConnectError> {
    first_of(addresses(host, port).await?).await
}

/// Connects to the first of these addresses of one host that answers, without a time limit of its own.
pub async fn first_of(addresses: Vec<SocketAddr>) -> Result<TcpStream, ConnectError> {
    // The connector asks the resolver for any name; an address keeps its port where the URI has none.
    let connecting = prepared(HttpConnector::new_with_resolver(Known(addresses))).call(Uri::from_static("tcp://host"));
    connecting.await.map(TokioIo::into_inner).map_err(|err| explain(&err))
}

/// Addresses of a host, in the order of the resolver. `host` as for [`connect`].
pub async fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let found: Vec<_> = lookup_host((name, port)).await.map(Iterator::collect).unwrap_or_default();
    if found.is_empty() { Err(ConnectError::NoSuchHost) } else { Ok(found) }
}

/// An IPv6 address as it stands next to a port.
#[must_use]
pub fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}

/// A resolver that was asked already.
#[derive(Clone)]
struct Known(Vec<SocketAddr>);

impl Service<Name> for Known {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Name) -> Self::Future {
        ready(Ok(self.0.clone().into_iter()))
    }
}

/// The one place that reads the library's errors.
fn explain(error: &(dyn StdError + 'static)) -> ConnectError {
    let chain = || iter::successors(Some(error), |outer| StdError::source(*outer));
    let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    if chain().filter_map(|error| error.downcast_ref::<io::Error>()).any(refused) {
        return ConnectError::Refused;
    }
    ConnectError::Unreachable(chain().last().map_or_else(String::new, ToString::to_string))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
    use std::time::Duration;

    use tokio::net::{TcpListener, TcpSocket, TcpStream};
    use tokio::time::timeout;

    use super::{ConnectError, addresses, bracketed, connect, first_of};

    /// Listens, and takes nobody any more: whoever comes waits for an answer. Those who fill it must not go.
    async fn silent() -> (SocketAddr, Vec<TcpStream>, TcpListener) {
        let socket = TcpSocket::new_v6().unwrap();
        socket.bind(SocketAddr::from((Ipv6Addr::LOCALHOST, 0))).unwrap();
        let address = socket.local_addr().unwrap();
        let listener = socket.listen(1).unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            waiting.push(stream.unwrap());
        }
        (address, waiting, listener)
    }

    #[tokio::test]
    async fn an_address_that_says_nothing_does_not_keep_the_other_family_from_answering() {
        let (silent, _waiting, _listener) = silent().await;
        let answers = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let answering = answers.local_addr().unwrap();
        let connecting = first_of(vec![silent, answering]);
        let stream = timeout(Duration::from_secs(20), connecting).await.expect("the other answers").unwrap();
        assert_eq!(stream.peer_addr().unwrap(), answering);
    }

    #[tokio::test]
    async fn who_is_not_there_is_told_apart_from_who_does_not_listen() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(connect("127.0.0.1", port).await.is_ok());
        drop(listener);
        assert!(matches!(connect("127.0.0.1", port).await, Err(ConnectError::Refused)));
        for host in ["there-is-no-such-host.invalid", ""] {
            assert!(matches!(connect(host, 1).await, Err(ConnectError::NoSuchHost)), "{host}");
            assert!(matches!(addresses(host, 1).await, Err(ConnectError::NoSuchHost)), "{host}");
        }
    }

    #[tokio::test]
    async fn an_address_of_the_newer_family_may_be_in_brackets() {
        let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["::1", "[::1]"] {
            assert_eq!(bracketed(host), "[::1]");
            assert!(connect(host, port).await.is_ok(), "{host}");
            assert_eq!(addresses(host, port).await.unwrap(), [listener.local_addr().unwrap()]);
        }
    }
}
