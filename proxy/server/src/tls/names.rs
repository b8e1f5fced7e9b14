//! The name in a client's certificate that rustls has believed: the caller it is.
//!
//! Nothing is searched for: of several names the first of the best kind counts, so that a certificate is one caller always.

use std::sync::Arc;
use weir_engine::caller::is_name;
use x509_cert::Certificate;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::der::asn1::{Ia5StringRef, ObjectIdentifier, PrintableStringRef, Utf8StringRef};
use x509_cert::der::{Decode as _, Tag, Tagged as _};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// What all share whose certificate bears no name that can be a caller's.
pub const INVALID: &str = "_invalid";
/// Workload identities (SPIFFE).
const SPIFFE: &str = "spiffe://";
/// `id-at-commonName` (RFC 5280, appendix A.1).
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// Who a certificate (DER) is: its first `spiffe://` URI, else its first DNS name, else the common name of its subject.
/// [`INVALID`] where that is none, or cannot be a caller's name (`[A-Za-z0-9._:/@-]{1,64}`, no `uid:`, no leading `_`).
#[must_use]
pub fn caller_of(certificate: &[u8]) -> Arc<str> {
    let name = Certificate::from_der(certificate).ok().and_then(|read| name_of(&read));
    let reserved = |name: &str| name.starts_with("uid:") || name.starts_with('_');
    name.filter(|name| is_name(name) && !reserved(name)).map_or_else(|| INVALID.into(), Into::into)
}

fn name_of(certificate: &Certificate) -> Option<String> {
    let told = &certificate.tbs_certificate;
    // what cannot be read counts as no name: a worse one must not stand in for it
    let alternatives = match told.get::<SubjectAltName>() {
        Ok(found) => found.map_or_else(Vec::new, |(_, names)| names.0),
        Err(_) => return None,
    };
    let uri = alternatives.iter().find_map(|name| match name {
        GeneralName::UniformResourceIdentifier(uri) if uri.as_str().starts_with(SPIFFE) => Some(uri.as_str()),
        _ => None,
    });
    let host = || {
        alternatives.iter().find_map(|name| match name {
            GeneralName::DnsName(host) => Some(host.as_str()),
            _ => None,
        })
    };
    let common = || told.subject.0.iter().flat_map(|part| part.0.iter()).find_map(common_name);
    uri.or_else(host).map(str::to_owned).or_else(common)
}

fn common_name(part: &AttributeTypeAndValue) -> Option<String> {
    if part.oid != COMMON_NAME {
        return None;
    }
    let text = match part.value.tag() {
        Tag::Utf8String => part.value.decode_as::<Utf8StringRef<'_>>().ok()?.as_str().to_owned(),
        Tag::PrintableString => part.value.decode_as::<PrintableStringRef<'_>>().ok()?.as_str().to_owned(),
        Tag::Ia5String => part.value.decode_as::<Ia5StringRef<'_>>().ok()?.as_str().to_owned(),
        _ => return None,
    };
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    fn made(common: Option<&str>, names: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(common) = common {
            params.distinguished_name.push(DnType::CommonName, common);
        }
        params.subject_alt_names = names;
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().to_vec()
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().expect("ASCII"))
    }

    fn host(text: &str) -> SanType {
        SanType::DnsName(text.try_into().expect("ASCII"))
    }

    #[test]
    fn a_workload_goes_before_a_host_and_a_host_before_the_common_name() {
        let feed = "spiffe://weir.test/ns/prod/sa/feed";
        let all = vec![host("a.test"), uri("https://a.test/"), uri(feed), uri("spiffe://weir.test/other")];
        assert_eq!(&*caller_of(&made(Some("common"), all)), feed);
        let hosts = vec![uri("https://a.test/"), host("a.test"), host("b.test")];
        assert_eq!(&*caller_of(&made(Some("common"), hosts)), "a.test");
        assert_eq!(&*caller_of(&made(Some("common"), vec![uri("https://a.test/")])), "common");
        assert_eq!(&*caller_of(&made(Some("common"), vec![])), "common");
    }

    #[test]
    fn what_cannot_be_a_callers_name_is_shared() {
        for hostile in ["uid:0", "_other", "", "a b", "a\u{1b}[31m", "<script>", &"x".repeat(65)] {
            assert_eq!(&*caller_of(&made(Some(hostile), vec![])), INVALID, "{hostile:?}");
        }
        // a wildcard is nobody, and the common name does not stand in
        assert_eq!(&*caller_of(&made(Some("common"), vec![host("*.a.test")])), INVALID);
        assert_eq!(&*caller_of(&made(None, vec![])), INVALID);
    }

    #[test]
    fn bytes_that_are_no_certificate_are_nobody() {
        let good = made(Some("common"), vec![host("a.test"), uri("spiffe://weir.test/feed")]);
        for cut in 0..good.len() {
            assert_eq!(&*caller_of(&good[..cut]), INVALID);
        }
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut hostile = good.clone();
                hostile[at] ^= 1 << bit;
                let name = caller_of(&hostile); // whatever it is: no panic, and a name
                assert!(*name == *INVALID || is_name(&name), "{name}");
            }
        }
    }
}
