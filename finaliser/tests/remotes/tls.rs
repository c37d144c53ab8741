//! https: which certificates are trusted.

use std::sync::Arc;

use finaliser::remote::Comparison;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::remotes::object::{PATIENT, bytes, later, object, open_http, refused, send, within};
use crate::remotes::storing_server::StoringServer;

/// A self-signed certificate, and its key.
pub(crate) fn pem(names: &[&str]) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// A TLS acceptor with such a certificate that offers these protocols, and the certificate.
pub(crate) fn acceptor(names: &[&str], protocols: &[&str]) -> (TlsAcceptor, String) {
    let (certificate, key) = pem(names);
    acceptor_with(certificate, key, protocols)
}

fn acceptor_with(certificate: String, key: String, protocols: &[&str]) -> (TlsAcceptor, String) {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    (TlsAcceptor::from(Arc::new(config)), certificate)
}

async fn server(names: &[&str]) -> (StoringServer, String) {
    let (acceptor, pem) = acceptor(names, &[]);
    (StoringServer::start(|habits| habits.tls = Some(acceptor)).await, pem)
}

#[tokio::test]
async fn a_certificate_in_ca_file_is_trusted() {
    let (server, pem) = server(&["127.0.0.1"]).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pem).unwrap();
    let remote = open_http(&server.url, PATIENT, Some(file.path())).unwrap();
    let content = bytes(3 * 1024 * 1024);
    let object = object("x", &content);
    send(&*remote, &object, &content).await.unwrap();
    assert!(server.stored("x").as_ref() == Some(&content), "other bytes");
    let found = within(remote.compare(&object)).await;
    assert!(matches!(found, Ok(Comparison::Equal(_))), "{found:?}");
}

#[tokio::test]
async fn a_refusal_before_the_body_was_read_counts() {
    let (acceptor, pem) = acceptor(&["127.0.0.1"], &[]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pem).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/in/", listener.local_addr().unwrap());
    let server = async {
        let (stream, _) = listener.accept().await.unwrap();
        // Otherwise the kernel holds the answer back until the session tickets are acknowledged, and the reset discards
        // it.
        stream.set_nodelay(true).unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        let mut head = Vec::new();
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            stream.read_buf(&mut head).await.unwrap();
        }
        stream.write_all(b"HTTP/1.1 401 No\r\nContent-Length: 9\r\n\r\nbad token").await.unwrap();
        stream.flush().await.unwrap();
        // The stream is dropped with most of the body unread, which resets the connection.
    };
    let content = vec![0; 32 * 1024 * 1024];
    let (object, remote) = (object("x", &content), open_http(&url, PATIENT, Some(file.path())).unwrap());
    let (sent, ()) = tokio::join!(send(&*remote, &object, &content), within(server));
    let detail = refused(sent);
    assert!(detail.contains("answered 401"), "{detail}");
}

#[tokio::test]
async fn a_certificate_of_an_authority_as_a_servers_own_is_explained() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut made = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    made.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = made.self_signed(&key).unwrap().pem();
    let (acceptor, pem) = acceptor_with(certificate, key.serialize_pem(), &[]);
    let server = StoringServer::start(|habits| habits.tls = Some(acceptor)).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pem).unwrap();
    let remote = open_http(&server.url, PATIENT, Some(file.path())).unwrap();
    let (detail, _) = later(send(&*remote, &object("x", b"abc"), b"abc").await);
    assert!(detail.contains("CA:TRUE") && detail.contains("basicConstraints=critical,CA:FALSE"), "{detail}");
}

#[tokio::test]
async fn any_other_certificate_is_not_trusted() {
    let (other, pem) = server(&["other.example"]).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pem).unwrap();
    let (unknown, _) = server(&["127.0.0.1"]).await;
    for (url, ca_file) in [(&unknown.url, None), (&unknown.url, Some(file.path())), (&other.url, Some(file.path()))] {
        let remote = open_http(url, PATIENT, ca_file).unwrap();
        let (detail, _) = later(send(&*remote, &object("x", b"abc"), b"abc").await);
        assert!(detail.contains("certificate"), "{detail}");
    }
    assert_eq!(unknown.count() + other.count(), 0);
}

#[tokio::test]
async fn a_ca_file_without_certificates_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for text in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        std::fs::write(file.path(), text).unwrap();
        refused(open_http("https://127.0.0.1/", PATIENT, Some(file.path())));
    }
    refused(open_http("https://127.0.0.1/", PATIENT, Some(&file.path().join("none"))));
}
