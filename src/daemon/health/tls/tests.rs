//! Tests with a TLS server on loopback, and certificates of an authority that the test makes.

use std::net::Ipv4Addr;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::server::WebPkiClientVerifier;

use super::*;
use crate::daemon::health::probe::tests::{Ask, probe};
use crate::health::{Outcome, Transport};

/// An authority, and a directory for its files.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Authority { issuer, directory: tempfile::tempdir().unwrap() };
        std::fs::write(authority.path("ca.pem"), authority.issuer.pem()).unwrap();
        authority
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A certificate for a name, and its key, both in PEM and DER.
    fn issue(
        &self,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn tls(&self, name: &str) -> Tls {
        Tls {
            server_name: Some(name.to_owned()),
            verify: true,
            ca_file: Some(self.path("ca.pem")),
            client: None,
            protocols: Vec::new(),
            expiry_warning: Duration::ZERO,
        }
    }
}

/// A TLS server that answers "PONG" to every connection; its port.
async fn serve((certificate, key): (rcgen::Certificate, KeyPair), clients: Option<&Authority>) -> u16 {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.issuer.der().clone()).unwrap();
            let provider = Arc::new(ring::default_provider());
            let verifier =
                WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut config = builder.with_single_cert(vec![certificate.der().clone()], private).unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.read(&mut [0; 64]).await;
                // Closed without a close_notify, as many servers do.
                let _ = stream.write_all(b"PONG").await;
                let _ = stream.flush().await;
            }
        }
    });
    port
}

async fn outcome(tls: Tls, port: u16) -> Outcome {
    let ask = Ask {
        question: vec![b"PING".to_vec()],
        expected: b"PONG".to_vec(),
        tls: Some(tls),
        ..Ask::default()
    };
    probe(Transport::Tls, &ask, port).await
}

async fn why(tls: Tls, port: u16) -> String {
    let failure = outcome(tls, port).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Tls, "{}", failure.text);
    failure.text
}

#[tokio::test]
async fn a_valid_certificate_of_the_authority_is_accepted_and_answers_are_read() {
    let authority = Authority::new("first");
    let port = serve(authority.issue("www.example.com", |_| {}), None).await;
    assert!(outcome(authority.tls("www.example.com"), port).await.is_ok());
    let with_protocol = Tls { protocols: vec!["http/1.1".to_owned()], ..authority.tls("www.example.com") };
    assert!(outcome(with_protocol, port).await.is_ok());
    let other = Tls { protocols: vec!["h2".to_owned()], ..authority.tls("www.example.com") };
    assert_eq!(why(other, port).await, "the real server refuses TLS: it has no protocol of ALPN in common");
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_is_said_in_words() {
    let authority = Authority::new("first");
    let port = serve(authority.issue("www.example.com", |_| {}), None).await;
    assert_eq!(
        why(authority.tls("api.example.com"), port).await,
        "the certificate is for www.example.com, not api.example.com"
    );
    assert_eq!(
        why(Authority::new("second").tls("www.example.com"), port).await,
        "the certificate is signed by an unknown authority; set ca_file or verify = false"
    );
    assert_eq!(
        why(Authority::new("first").tls("www.example.com"), port).await,
        "the certificate's signature is wrong; is ca_file of another authority with the same name?"
    );
    let expired = |params: &mut CertificateParams| {
        (params.not_before, params.not_after) = (date_time_ymd(2025, 1, 1), date_time_ymd(2026, 1, 2));
    };
    let port = serve(authority.issue("www.example.com", expired), None).await;
    assert_eq!(why(authority.tls("www.example.com"), port).await, "the certificate expired on 2026-01-02");
    let early = |params: &mut CertificateParams| params.not_before = date_time_ymd(2400, 1, 2);
    let port = serve(authority.issue("www.example.com", early), None).await;
    assert_eq!(
        why(authority.tls("www.example.com"), port).await,
        "the certificate is not valid before 2400-01-02"
    );
}

#[tokio::test]
async fn without_verification_every_certificate_is_accepted() {
    let authority = Authority::new("first");
    let expired = |params: &mut CertificateParams| params.not_after = date_time_ymd(2026, 1, 2);
    let port = serve(authority.issue("www.example.com", expired), None).await;
    let tls = Tls { verify: false, ca_file: None, server_name: None, ..authority.tls("") };
    assert_eq!(outcome(tls.clone(), port).await.unwrap().warning, None);
    let warned = Tls { expiry_warning: Duration::from_secs(1), ..tls };
    let warning = outcome(warned, port).await.unwrap().warning;
    assert_eq!(warning.as_deref(), Some("the certificate expired on 2026-01-02"));
}

#[tokio::test]
async fn a_certificate_that_expires_soon_is_a_warning() {
    let authority = Authority::new("first");
    let end = (SystemTime::now() + Duration::from_secs(10 * 86_400)).into();
    let port = serve(authority.issue("www.example.com", |params| params.not_after = end), None).await;
    let within = |days: u64| {
        let expiry_warning = Duration::from_secs(days * 86_400);
        outcome(Tls { expiry_warning, ..authority.tls("www.example.com") }, port)
    };
    assert_eq!(within(9).await.unwrap().warning, None);
    let warning = within(11).await.unwrap().warning.unwrap();
    assert_eq!(
        warning,
        format!("the certificate expires on {:04}-{:02}-{:02}", end.year(), u8::from(end.month()), end.day())
    );
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_the_server_requires_one() {
    let authority = Authority::new("first");
    let port = serve(authority.issue("www.example.com", |_| {}), Some(&authority)).await;
    let tls = authority.tls("www.example.com");
    let failure = outcome(tls.clone(), port).await.unwrap_err();
    assert!(failure.text.contains("it requires a client certificate"), "{failure:?}");
    let (certificate, key) = authority.issue("director", |_| {});
    let files = (authority.path("client.pem"), authority.path("client.key"));
    std::fs::write(&files.0, certificate.pem()).unwrap();
    std::fs::write(&files.1, key.serialize_pem()).unwrap();
    assert!(outcome(Tls { client: Some(files), ..tls }, port).await.is_ok());
}

#[tokio::test]
async fn a_port_without_tls_is_named_so() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await;
            let _ = stream.read(&mut [0; 1024]).await;
        }
    });
    let text = why(Authority::new("first").tls("www.example.com"), port).await;
    assert_eq!(text, "the answer is no TLS; does the port use TLS?");
}

#[tokio::test]
async fn a_file_that_this_host_does_not_have_says_nothing_about_the_real_server() {
    let authority = Authority::new("first");
    let port = serve(authority.issue("www.example.com", |_| {}), None).await;
    let missing = Tls { ca_file: Some(authority.path("no.pem")), ..authority.tls("www.example.com") };
    let failure = outcome(missing, port).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Local);
    assert!(failure.text.starts_with("cannot read ") && failure.text.contains("no.pem"), "{}", failure.text);
    std::fs::write(authority.path("empty.pem"), "").unwrap();
    let empty = Tls { ca_file: Some(authority.path("empty.pem")), ..authority.tls("www.example.com") };
    assert!(
        outcome(empty, port).await.unwrap_err().text.ends_with("empty.pem contains no certificate in PEM")
    );
}

#[tokio::test(start_paused = true)]
async fn a_changed_file_is_read_again_within_a_second() {
    let (old, new) = (Authority::new("first"), Authority::new("first"));
    let connectors = Connectors::default();
    let tls = old.tls("www.example.com");
    let first = connectors.made(&tls).await.unwrap();
    assert!(Arc::ptr_eq(&first.config, &connectors.made(&tls).await.unwrap().config));
    let text = format!("{}# changed\n", new.issuer.pem());
    std::fs::write(old.path("ca.pem"), text).unwrap();
    assert!(
        Arc::ptr_eq(&first.config, &connectors.made(&tls).await.unwrap().config),
        "not looked at again yet"
    );
    tokio::time::advance(LOOK_PAUSE).await;
    let second = connectors.made(&tls).await.unwrap();
    assert!(!Arc::ptr_eq(&first.config, &second.config));
    tokio::time::advance(LOOK_PAUSE).await;
    assert!(
        Arc::ptr_eq(&second.config, &connectors.made(&tls).await.unwrap().config),
        "the file is the same"
    );
    connectors.keep(std::iter::once(&Tls { server_name: None, ..tls.clone() }));
    assert_eq!(connectors.lock().len(), 1);
    connectors.keep(std::iter::empty());
    assert_eq!(connectors.lock().len(), 0);
}
