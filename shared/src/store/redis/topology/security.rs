//! The TLS files and secrets that a URL names by their paths.

use std::fmt;
use std::fs::File;
use std::io::Read;

use redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo, TlsCertificates,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::address::Address;
use super::tls::Tls;
use crate::error::{Error, Result};

/// The options that name files.
pub(super) const OPTIONS: [&str; 4] = ["ca", "cert", "key", "password_file"];

/// More than the certificates of all authorities that there are.
const MOST_BYTES: u64 = 1024 * 1024;

/// How connections to the servers are protected, and how to log in there.
#[derive(Clone)]
pub(super) struct Security {
    /// None for plain TCP.
    tls: Option<Certificates>,
    /// As the file has it.
    password: Option<String>,
}

#[derive(Clone)]
struct Certificates {
    /// None for what the system trusts, and no certificate of our own.
    own: Option<TlsCertificates>,
    tls: Tls,
}

/// Nothing of what the files say.
impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Security").field("scheme", &self.scheme()).finish_non_exhaustive()
    }
}

impl Security {
    /// `options` are those among [`OPTIONS`], with their values.
    pub(super) fn read(is_tls: bool, options: &[(String, String)]) -> Result<Self> {
        let given = |name: &str| options.iter().find(|(option, _)| option == name).map(|(_, path)| path.as_str());
        let file = |name: &str| given(name).map(|path| read_file(name, path)).transpose();
        if let Some(name) = ["ca", "cert", "key"].into_iter().find(|name| !is_tls && given(name).is_some()) {
            return Err(unusable(&format!("its option {name} is for TLS; write rediss:// in place of redis://")));
        }
        let own = match (file("cert")?, file("key")?) {
            (Some(client_cert), Some(client_key)) => Some(ClientTlsConfig { client_cert, client_key }),
            (None, None) => None,
            (Some(_), None) => return Err(unusable("it has a certificate and no key; give both, with cert= and key=")),
            (None, Some(_)) => return Err(unusable("it has a key and no certificate; give both, with cert= and key=")),
        };
        let ca = file("ca")?;
        if ca.as_ref().is_some_and(|ca| !has_certificate(ca)) {
            return Err(unusable("the file of its option ca holds no certificate in PEM format"));
        }
        let own = (own.is_some() || ca.is_some()).then_some(TlsCertificates { client_tls: own, root_cert: ca });
        let password = file("password_file")?.map(|bytes| password_of(&bytes)).transpose()?;
        let tls = is_tls.then(|| Tls::new(own.as_ref())).transpose()?;
        Ok(Self { tls: tls.map(|tls| Certificates { own, tls }), password })
    }

    /// The scheme of a URL of one server.
    pub(super) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "rediss" } else { "redis" }
    }

    /// None for plain TCP.
    pub(super) fn tls(&self) -> Option<Tls> {
        self.tls.as_ref().map(|certificates| certificates.tls.clone())
    }

    /// With certificates, and with the password where a file has it.
    pub(super) fn apply(&self, info: ConnectionInfo) -> Result<ConnectionInfo> {
        let info = self.certify(info)?;
        let Some(password) = &self.password else { return Ok(info) };
        let settings = info.redis_settings().clone().set_password(password);
        Ok(info.set_redis_settings(settings))
    }

    /// The same for a server whose login is another's.
    pub(super) fn certify(&self, info: ConnectionInfo) -> Result<ConnectionInfo> {
        let Some(own) = self.tls.as_ref().and_then(|tls| tls.own.clone()) else { return Ok(info) };
        let client = Client::build_with_tls(info, own)
            .map_err(|error| unusable(&format!("its certificates cannot be used: {error}")))?;
        Ok(client.get_connection_info().clone())
    }

    /// Where a server of the deployment is, with how to log in there.
    pub(super) fn at(&self, address: &Address, login: &RedisConnectionInfo) -> Result<ConnectionInfo> {
        let Address { host, port } = address.clone();
        let address = match self.tls {
            None => ConnectionAddr::Tcp(host, port),
            Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
        };
        self.certify(address.into_connection_info()?.set_redis_settings(login.clone()))
    }
}

/// The library takes a file without one for an authority that has signed nothing.
fn has_certificate(pem: &[u8]) -> bool {
    CertificateDer::pem_slice_iter(pem).next().is_some_and(|first| first.is_ok())
}

fn read_file(option: &str, path: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MOST_BYTES).read_to_end(&mut bytes));
    read.map_err(|error| unusable(&format!("the file of its option {option}, {path}, cannot be read: {error}")))?;
    Ok(bytes)
}

/// Editors and secret stores end files with a line feed.
fn password_of(bytes: &[u8]) -> Result<String> {
    let text = std::str::from_utf8(bytes).map_err(|_| unusable("the file of its option password_file is not text"))?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        Err(unusable("the file of its option password_file is empty"))
    } else {
        Ok(password.to_owned())
    }
}

pub(super) fn unusable(why: &str) -> Error {
    Error::invalid(format!("the Redis URL cannot be used: {why}"))
}
