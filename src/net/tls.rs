//! TLS as the options want it.

use std::fs;
use std::io;
use std::path::PathBuf;

use native_tls::{Certificate, TlsConnector};
use tokio::task::spawn_blocking;

use crate::config::settings::Tls;

/// Failure to set up TLS, before any connection is made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    #[error("cannot use the CA certificate {}: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error("cannot use the CA certificate {}: there is no certificate in it", path.display())]
    NoCertificate { path: PathBuf },
    #[error("cannot set up TLS: {0}")]
    Library(String),
}

/// Calls [`connector`] on a blocking thread: a file on a network share that is away may never answer.
pub async fn connector_beside(tls: &Tls) -> Result<TlsConnector, TlsError> {
    let tls = tls.clone();
    let made = spawn_blocking(move || connector(&tls)).await;
    made.unwrap_or_else(|_| Err(TlsError::Library("the service is ending".to_owned())))
}

/// Trusts the authorities of this machine, and the one that the options name, whose file is read.
pub fn connector(tls: &Tls) -> Result<TlsConnector, TlsError> {
    let mut builder = TlsConnector::builder();
    builder.danger_accept_invalid_certs(!tls.verify).danger_accept_invalid_hostnames(!tls.verify);
    if let Some(path) = &tls.ca_certificate {
        let unreadable = |err: io::Error| TlsError::Unreadable { path: path.clone(), reason: err.to_string() };
        let pem = fs::read(path).map_err(unreadable)?;
        let authorities = Certificate::stack_from_pem(&pem).unwrap_or_default();
        if authorities.is_empty() {
            return Err(TlsError::NoCertificate { path: path.clone() });
        }
        for authority in authorities {
            builder.add_root_certificate(authority);
        }
    }
    builder.build().map_err(|err| TlsError::Library(err.to_string()))
}
