//! TLS for connections that the library cannot open as they are needed: it does not report when one is closed.

use std::fmt;
use std::io;
use std::sync::{Arc, Once};

use redis::TlsCertificates;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::security::unusable;
use crate::error::Result;

/// Whom to trust, and with which certificate to answer a server that asks for one.
#[derive(Clone)]
pub(super) struct Tls(Arc<ClientConfig>);

/// Nothing of the key.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// With the system's authorities where none are given.
    pub(super) fn new(own: Option<&TlsCertificates>) -> Result<Self> {
        install_provider();
        let unfit = |error: &dyn fmt::Display| unusable(&format!("its certificates cannot be used: {error}"));
        let read = |pem: &[u8]| CertificateDer::pem_slice_iter(pem).collect::<std::result::Result<Vec<_>, _>>();
        let mut roots = RootCertStore::empty();
        match own.and_then(|own| own.root_cert.as_ref()) {
            Some(pem) => {
                for authority in read(pem).map_err(|error| unfit(&error))? {
                    roots.add(authority).map_err(|error| unfit(&error))?;
                }
            }
            None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
        }
        let config = ClientConfig::builder().with_root_certificates(roots);
        let config = match own.and_then(|own| own.client_tls.as_ref()) {
            Some(client) => {
                let chain = read(&client.client_cert).map_err(|error| unfit(&error))?;
                let key = PrivateKeyDer::from_pem_slice(&client.client_key).map_err(|error| unfit(&error))?;
                config.with_client_auth_cert(chain, key).map_err(|error| unfit(&error))?
            }
            None => config.with_no_client_auth(),
        };
        Ok(Self(Arc::new(config)))
    }

    pub(super) async fn connect(&self, host: &str, port: u16) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        TlsConnector::from(self.0.clone()).connect(name, TcpStream::connect((host, port)).await?).await
    }
}

/// A process may have chosen another one; that is as good.
fn install_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}
