//! Certificates for one test: an authority, and what it signs.

use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use redis::{ClientTlsConfig, TlsCertificates};

use crate::redis::server_program;

/// An authority, and the folder with its files.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

/// A certificate and its key, in files.
pub struct Certificate {
    /// The certificate, as PEM.
    pub cert: PathBuf,
    /// Its key, as PEM.
    pub key: PathBuf,
}

/// For how long a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Good {
    /// Now.
    Now,
    /// Expired some years ago.
    NoMore,
}

impl Authority {
    /// A new one, which nobody trusts yet.
    #[expect(clippy::new_without_default, reason = "it makes files")]
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "an authority of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate");
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).expect("a file");
        Self { issuer, folder }
    }

    /// The file of its own certificate.
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Signs a certificate for this host or client.
    pub fn sign(&self, name: &str, good: Good) -> Certificate {
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        if good == Good::NoMore {
            (params.not_before, params.not_after) = (date_time_ymd(2019, 1, 1), date_time_ymd(2020, 1, 1));
        }
        let key = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, &self.issuer).expect("a certificate");
        let file = |what: &str| self.folder.path().join(format!("{name}-{good:?}.{what}.pem"));
        std::fs::write(file("cert"), signed.pem()).expect("a file");
        std::fs::write(file("key"), key.serialize_pem()).expect("a file");
        Certificate { cert: file("cert"), key: file("key") }
    }

    /// A file with this text, beside the certificates.
    pub fn secret(&self, name: &str, text: &str) -> PathBuf {
        let file = self.folder.path().join(name);
        std::fs::write(&file, text).expect("a file");
        file
    }
}

/// Arguments for a server with this certificate, in addition to its plain port.
pub fn server_settings(port: u16, own: &Certificate, ca: &Path, more: &[&str]) -> &'static [&'static str] {
    let mut settings = vec!["--tls-port".to_owned(), port.to_string()];
    settings.extend(files(own, ca).into_iter().flat_map(|(name, file)| [format!("--{name}"), file]));
    settings.extend(more.iter().map(|setting| (*setting).to_owned()));
    let settings: Vec<&'static str> = settings.into_iter().map(|setting| &*setting.leak()).collect();
    settings.leak()
}

fn files(own: &Certificate, ca: &Path) -> [(&'static str, String); 3] {
    let text = |path: &Path| path.to_str().expect("a path").to_owned();
    [("tls-cert-file", text(&own.cert)), ("tls-key-file", text(&own.key)), ("tls-ca-cert-file", text(ca))]
}

/// For servers that speak nothing but TLS, also to each other, and ask for certificates: their authority, their certificate, and that
/// of their clients.
pub struct Protection {
    authority: Authority,
    server: Certificate,
    client: Certificate,
}

impl Protection {
    /// With an authority of its own.
    #[expect(clippy::new_without_default, reason = "it makes files")]
    pub fn new() -> Self {
        let authority = Authority::new();
        let (server, client) = (authority.sign("127.0.0.1", Good::Now), authority.sign("client", Good::Now));
        Self { authority, server, client }
    }

    /// The settings of a server or a Sentinel that listens on this port: names and values.
    pub fn settings(&self, port: u16) -> Vec<(&'static str, String)> {
        let mut settings = vec![("port", "0".to_owned()), ("tls-port", port.to_string())];
        settings.extend(files(&self.server, &self.authority.ca()));
        settings.extend(["tls-auth-clients", "tls-replication", "tls-cluster"].map(|name| (name, "yes".to_owned())));
        settings
    }

    /// What a fleet's URL says after its `?`.
    pub fn options(&self) -> String {
        self.options_with(&self.authority)
    }

    /// As [`Protection::options`], of somebody who trusts another authority.
    pub fn options_with(&self, trusted: &Authority) -> String {
        let Certificate { cert, key } = &self.client;
        format!("ca={}&cert={}&key={}", trusted.ca().display(), cert.display(), key.display())
    }

    /// A client for a test's own looks and levers.
    pub fn client(&self, url: &str) -> redis::Client {
        let read = |file: &Path| std::fs::read(file).expect("its own file");
        let own = ClientTlsConfig { client_cert: read(&self.client.cert), client_key: read(&self.client.key) };
        let certificates = TlsCertificates { client_tls: Some(own), root_cert: Some(read(&self.authority.ca())) };
        redis::Client::build_with_tls(url, certificates).expect("the test's own URL")
    }
}

/// Whether the servers here were built with TLS. A test that needs it says where they were not that it did not run.
pub fn servers_speak_tls() -> bool {
    // Whoever knows the setting does not take the value. Nobody starts.
    let output = Command::new(server_program()).args(["--tls-port", "none"]).output().expect("the server's program");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let speaks = !said.contains("Bad directive");
    if !speaks {
        eprintln!("NOT RUN: the server was built without TLS");
    }
    speaks
}
