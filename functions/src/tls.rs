//! Whom the handlers trust. A handful of embedded roots starts faster than a system's whole bundle; neither is touched
//! while every endpoint is plain http.

use std::sync::Arc;

use aws_smithy_http_client::tls::{TlsContext, TrustStore};
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use crate::settings::Roots;

/// Amazon Trust Services, by which every AWS endpoint is signed. Source and fingerprints: `roots/README.md`.
const EMBEDDED: [&str; 5] = [
    include_str!("roots/amazon-root-ca-1.pem"),
    include_str!("roots/amazon-root-ca-2.pem"),
    include_str!("roots/amazon-root-ca-3.pem"),
    include_str!("roots/amazon-root-ca-4.pem"),
    include_str!("roots/starfield-services-g2.pem"),
];

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
#[error("TLS cannot be set up: {0}")]
pub struct TlsError(String);

/// For the SDK, which reads the roots when it first connects.
///
/// # Errors
/// If the SDK does not take them.
pub fn sdk_context(roots: Roots) -> Result<TlsContext, TlsError> {
    let store = match roots {
        Roots::Embedded => {
            EMBEDDED.iter().fold(TrustStore::empty(), |store, pem| store.with_pem_certificate(*pem))
        }
        Roots::System => TrustStore::empty().with_native_roots(true),
    };
    let context = TlsContext::builder().with_trust_store(store).build();
    context.map_err(|why| TlsError(why.to_string()))
}

/// For the posts.
///
/// # Errors
/// If there is no root to trust.
pub fn client_config(roots: Roots) -> Result<Arc<rustls::ClientConfig>, TlsError> {
    let mut store = rustls::RootCertStore::empty();
    match roots {
        Roots::Embedded => {
            let certificates = EMBEDDED.iter().flat_map(|pem| CertificateDer::pem_slice_iter(pem.as_bytes()));
            store.add_parsable_certificates(certificates.filter_map(Result::ok));
        }
        Roots::System => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if store.is_empty() {
        return Err(TlsError("there is no root certificate on this system".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|why| TlsError(why.to_string()))?
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_root_is_a_certificate() {
        let mut store = rustls::RootCertStore::empty();
        for pem in EMBEDDED {
            let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
            let (added, ignored) = store.add_parsable_certificates(certificates.unwrap());
            assert_eq!((added, ignored), (1, 0));
        }
        assert!(client_config(Roots::Embedded).is_ok());
        assert!(sdk_context(Roots::Embedded).is_ok());
    }
}
