//! TLS of probes: connectors from the options of checks, kept until a file that they were made of changes.

mod verifier;
mod words;

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use self::verifier::Verifier;
use super::failure::Stage;
use crate::health::check::Tls;
use crate::health::{Failure, FailureClass};

/// Between two looks at the files of one connector.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// The options of a check without the name of the server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    verify: bool,
    ca_file: Option<PathBuf>,
    client: Option<(PathBuf, PathBuf)>,
    protocols: Vec<String>,
    expiry_warning: Duration,
}

impl Key {
    pub(super) fn of(tls: &Tls) -> Key {
        let Tls { verify, ca_file, client, protocols, expiry_warning, .. } = tls.clone();
        Key { verify, ca_file, client, protocols, expiry_warning }
    }

    fn files(&self) -> impl Iterator<Item = &Path> {
        let client = self.client.iter().flat_map(|(chain, key)| [chain, key]);
        self.ca_file.iter().chain(client).map(PathBuf::as_path)
    }

    /// Why no connector could be made of its files; `None`: it could be, or it has none.
    pub(super) fn missing(&self) -> Option<String> {
        let mut files = self.files().peekable();
        files.peek()?;
        // A file of another kind may have no end.
        let wrong = files.find_map(|path| match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => None,
            Ok(_) => Some(format!("{} is no regular file", path.display())),
            Err(error) => Some(format!("cannot read {}: {error}", path.display())),
        });
        let why = wrong.or_else(|| make(self).err())?;
        Some(format!("{why}; correct the path or the file"))
    }
}

/// By which a changed file is recognised: its length and the time of its last change.
type Stamp = Option<(u64, SystemTime)>;

#[derive(Clone)]
struct Kept {
    made: Made,
    stamps: Vec<Stamp>,
    looked_at: Instant,
}

#[derive(Clone)]
struct Made {
    config: Arc<ClientConfig>,
    verifier: Arc<Verifier>,
}

/// The connectors of all checks.
#[derive(Default)]
pub(super) struct Connectors {
    kept: Mutex<HashMap<Key, Kept>>,
}

impl Connectors {
    /// Completes a handshake over the stream. The second value is a warning about the certificate.
    pub(super) async fn connect<T: AsyncRead + AsyncWrite + Unpin>(
        &self,
        tls: &Tls,
        address: IpAddr,
        stream: T,
    ) -> Result<(TlsStream<T>, Option<String>), Failure> {
        let name = server_name(tls, address)?;
        let made = self.made(tls).await?;
        let connector = TlsConnector::from(made.config);
        let stream = connector
            .connect(name.clone(), stream)
            .await
            .map_err(|error| words::of_error(&error, Stage::Handshake))?;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let warning = made.verifier.expires_within(chain, &name, tls.expiry_warning);
        Ok((stream, warning))
    }

    /// Forgets the connectors of checks that no longer exist.
    pub(super) fn keep<'a>(&self, used: impl Iterator<Item = &'a Tls>) {
        let used: std::collections::HashSet<Key> = used.map(Key::of).collect();
        self.lock().retain(|key, _| used.contains(key));
    }

    async fn made(&self, tls: &Tls) -> Result<Made, Failure> {
        let (key, now) = (Key::of(tls), Instant::now());
        let kept = self.lock().get(&key).cloned();
        if let Some(kept) = &kept
            && now.duration_since(kept.looked_at) < LOOK_PAUSE
        {
            return Ok(kept.made.clone());
        }
        // A file may be on a host that does not answer.
        let built = tokio::task::spawn_blocking(move || {
            let stamps: Vec<Stamp> = key.files().map(stamp).collect();
            let made = match kept.filter(|kept| kept.stamps == stamps) {
                Some(kept) => Ok(kept.made),
                None => make(&key),
            };
            made.map(|made| (key, Kept { made, stamps, looked_at: now }))
        });
        let local = |why: String| Failure::new(FailureClass::Local, why);
        let (key, kept) = built.await.map_err(|error| local(error.to_string()))?.map_err(local)?;
        let made = kept.made.clone();
        self.lock().insert(key, kept);
        Ok(made)
    }

    /// A poisoned lock is used anyway: the map is whole at every moment.
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why question and answer failed after the handshake.
pub(super) fn of_error(error: &io::Error) -> Failure {
    words::of_error(error, Stage::Answer)
}

fn stamp(path: &Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}

fn server_name(tls: &Tls, address: IpAddr) -> Result<ServerName<'static>, Failure> {
    match &tls.server_name {
        None => Ok(ServerName::IpAddress(address.into())),
        Some(name) => ServerName::try_from(name.clone())
            .map_err(|_| Failure::new(FailureClass::Local, format!("{name:?} is not the name of a host"))),
    }
}

fn make(key: &Key) -> Result<Made, String> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(verifier(key, &provider)?);
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone());
    let mut config = match &key.client {
        None => builder.with_no_client_auth(),
        Some((chain, private)) => builder
            .with_client_auth_cert(certificates(chain)?, private_key(private)?)
            .map_err(|error| format!("{} and {} do not fit: {error}", chain.display(), private.display()))?,
    };
    config.alpn_protocols = key.protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    // A resumed connection would show the certificate of an earlier handshake.
    config.resumption = tokio_rustls::rustls::client::Resumption::disabled();
    Ok(Made { config: Arc::new(config), verifier })
}

fn verifier(key: &Key, provider: &Arc<CryptoProvider>) -> Result<Verifier, String> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &key.ca_file {
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    } else if key.verify {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err("this host has no certificates of authorities; install the package ca-certificates, or set ca_file or \
                verify = false"
                .to_owned());
        }
    }
    Verifier::new(roots, key.verify, provider.clone())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read.map_err(|error| unreadable(path, &error))? {
        none if none.is_empty() => Err(format!("{} contains no certificate in PEM", path.display())),
        certificates => Ok(certificates),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| match error {
        PemError::NoItemsFound => format!("{} contains no private key in PEM", path.display()),
        error => unreadable(path, &error),
    })
}

fn unreadable(path: &Path, error: &PemError) -> String {
    match error {
        PemError::Io(error) => format!("cannot read {}: {error}", path.display()),
        _ => format!("{} is no PEM file: {error}", path.display()),
    }
}

#[cfg(test)]
mod tests;
