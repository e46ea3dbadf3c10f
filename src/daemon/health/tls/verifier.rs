//! Verifies certificates, or does without; and reports which expire soon.

use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::words;

/// With or without authorities.
#[derive(Debug)]
pub(super) struct Verifier {
    /// `None`: there is no authority to verify a certificate with.
    inner: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
    verifies: bool,
}

impl Verifier {
    pub(super) fn new(
        roots: RootCertStore,
        verifies: bool,
        provider: Arc<CryptoProvider>,
    ) -> Result<Verifier, String> {
        let inner = if roots.is_empty() { None } else { Some(with(roots, &provider)?) };
        Ok(Verifier { inner, provider, verifies })
    }

    /// A warning if a certificate that is valid today is not so after this time.
    pub(super) fn expires_within(
        &self,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        time: Duration,
    ) -> Option<String> {
        let (end_entity, intermediates) = chain.split_first().filter(|_| !time.is_zero())?;
        let later = UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs()) + time);
        // The dates of a certificate are looked at before its issuer.
        let inner = self.inner.clone().or_else(|| {
            let mut itself = RootCertStore::empty();
            itself.add(end_entity.clone().into_owned()).ok()?;
            with(itself, &self.provider).ok()
        });
        let verified = inner?.verify_server_cert(end_entity, intermediates, name, &[], later);
        match verified {
            Err(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
                let verb = if not_after > UnixTime::now() { "expires" } else { "expired" };
                Some(format!("the certificate {verb} on {}", words::day(not_after)))
            }
            _ => None,
        }
    }
}

fn with(roots: RootCertStore, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, String> {
    let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    builder.build().map_err(|error| error.to_string())
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.inner {
            Some(inner) if self.verifies => {
                inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        tokio_rustls::rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        tokio_rustls::rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
