//! Certificates for one test: an authority, and what it signs.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};

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
    let text = |path: &Path| path.to_str().expect("a path").to_owned();
    let mut settings = vec!["--tls-port".to_owned(), port.to_string()];
    for (name, file) in [("cert", &own.cert), ("key", &own.key)] {
        settings.extend([format!("--tls-{name}-file"), text(file)]);
    }
    settings.extend(["--tls-ca-cert-file".to_owned(), text(ca)]);
    settings.extend(more.iter().map(|setting| (*setting).to_owned()));
    let settings: Vec<&'static str> = settings.into_iter().map(|setting| &*setting.leak()).collect();
    settings.leak()
}
