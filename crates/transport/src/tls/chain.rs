//! Chains that webpki refuses by rule although Go accepts them: the leaf is flagged as CA, as etcd's
//! own self-signed certificates are. Everything else about such a chain is checked here.

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

/// Certificates between leaf and root, the leaf not counted. Go has no such limit but a budget of signature checks.
const DEPTH_MAX: usize = 8;
/// Signatures that one chain may cost. A client that needs no key of ours may send a hundred certificates of one
/// name and key, each a possible issuer of the others: they must not be tried in every order. Source: Go
/// `crypto/x509` maxChainSignatureChecks.
const SIGNATURES_MAX: u32 = 100;

/// Whether `leaf` is a root itself or leads to one through `intermediates`.
pub(super) fn leads_to_root(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &[CertificateDer<'_>],
    now: UnixTime,
    algorithms: &WebPkiSupportedAlgorithms,
) -> bool {
    let Some(parsed) = parse(leaf) else { return false };
    if !is_in_time(&parsed, now) || !may_be_client(&parsed) || has_unknown_critical(&parsed) {
        return false;
    }
    // Compat: Go takes a leaf that is in the pool for a chain of one.
    if roots.iter().any(|root| root.as_ref() == leaf.as_ref()) {
        return true;
    }
    Climb { roots, now, algorithms, signatures_left: SIGNATURES_MAX }.reaches_root(leaf, intermediates, 0)
}

/// The way from one certificate to a root.
struct Climb<'a> {
    roots: &'a [CertificateDer<'a>],
    now: UnixTime,
    algorithms: &'a WebPkiSupportedAlgorithms,
    signatures_left: u32,
}

impl Climb<'_> {
    /// `depth` is the number of intermediates behind us.
    fn reaches_root(
        &mut self,
        child: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        depth: usize,
    ) -> bool {
        if depth >= DEPTH_MAX {
            return false;
        }
        let roots = self.roots;
        if roots.iter().any(|root| self.has_signed(root, child, depth)) {
            return true;
        }
        // Each step leaves one intermediate behind, so a circle ends.
        intermediates.iter().enumerate().any(|(nth, candidate)| {
            if !self.has_signed(candidate, child, depth)
                || !parse(candidate).is_some_and(|c| may_be_client(&c))
            {
                return false;
            }
            let mut rest = intermediates.to_vec();
            rest.swap_remove(nth);
            self.reaches_root(candidate, &rest, depth + 1)
        })
    }

    fn has_signed(
        &mut self,
        issuer_der: &CertificateDer<'_>,
        child_der: &CertificateDer<'_>,
        depth: usize,
    ) -> bool {
        let (Some(issuer), Some(child)) = (parse(issuer_der), parse(child_der)) else { return false };
        if !may_issue(&issuer, &child, depth, self.now) {
            return false;
        }
        let Some(left) = self.signatures_left.checked_sub(1) else { return false };
        self.signatures_left = left;
        is_signed_by(child_der, &issuer, self.algorithms)
    }
}

/// All but the signature. `depth` is the number of intermediates below the issuer.
fn may_issue(issuer: &X509Certificate<'_>, child: &X509Certificate<'_>, depth: usize, now: UnixTime) -> bool {
    if issuer.subject().as_raw() != child.issuer().as_raw() || !is_in_time(issuer, now) {
        return false;
    }
    let Ok(Some(constraints)) = issuer.basic_constraints() else { return false };
    let depth_fits = constraints
        .value
        .path_len_constraint
        .is_none_or(|limit| u32::try_from(depth).is_ok_and(|depth| depth <= limit));
    // Compat: etcd's self-signed certificates have no keyCertSign, but those are roots and need no issuer.
    let may_sign = match issuer.key_usage() {
        Ok(usage) => usage.is_none_or(|usage| usage.value.key_cert_sign()),
        Err(_) => false,
    };
    // Name constraints are not judged here, so whoever has them is not believed.
    let unconstrained = matches!(issuer.name_constraints(), Ok(None));
    constraints.value.ca && depth_fits && may_sign && unconstrained && !has_unknown_critical(issuer)
}

fn is_signed_by(
    child_der: &CertificateDer<'_>,
    issuer: &X509Certificate<'_>,
    algorithms: &WebPkiSupportedAlgorithms,
) -> bool {
    let Some((signed, signature_algorithm, signature)) = signature_parts(child_der) else { return false };
    let Some(key_algorithm) = element(issuer.public_key().raw)
        .and_then(|spki| element(spki.content))
        .map(|algorithm| algorithm.content)
    else {
        return false;
    };
    let key = issuer.public_key().subject_public_key.data.as_ref();
    algorithms
        .all
        .iter()
        .filter(|a| {
            a.public_key_alg_id().as_ref() == key_algorithm
                && a.signature_alg_id().as_ref() == signature_algorithm
        })
        .any(|a| a.verify_signature(key, signed, signature).is_ok())
}

/// The signed octets, the content of the algorithm's identifier, and the signature.
fn signature_parts(der: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let certificate = element(der)?;
    let signed = element(certificate.content)?;
    let algorithm = element(signed.rest)?;
    let signature = element(algorithm.rest)?;
    // A bit string begins with the count of unused bits, which is none here.
    let (&unused, octets) = signature.content.split_first()?;
    let whole = &certificate.content[..certificate.content.len() - signed.rest.len()];
    (unused == 0).then_some((whole, algorithm.content, octets))
}

struct Element<'a> {
    content: &'a [u8],
    rest: &'a [u8],
}

/// The first DER element of `der`.
fn element(der: &[u8]) -> Option<Element<'_>> {
    let (&first, after) = der.get(1..)?.split_first()?;
    let (length, after) = if first < 0x80 {
        (usize::from(first), after)
    } else {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 {
            return None;
        }
        let (octets, after) = after.split_at_checked(count)?;
        (octets.iter().fold(0, |length, octet| length << 8 | usize::from(*octet)), after)
    };
    let (content, rest) = after.split_at_checked(length)?;
    Some(Element { content, rest })
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    X509Certificate::from_der(der.as_ref()).ok().map(|(_, certificate)| certificate)
}

fn is_in_time(certificate: &X509Certificate<'_>, now: UnixTime) -> bool {
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    ASN1Time::from_timestamp(seconds).is_ok_and(|now| certificate.validity().is_valid_at(now))
}

/// No extended key usage at all, or one that lets it be a client.
fn may_be_client(certificate: &X509Certificate<'_>) -> bool {
    match certificate.extended_key_usage() {
        Ok(usage) => usage.is_none_or(|usage| usage.value.client_auth || usage.value.any),
        Err(_) => false,
    }
}

fn has_unknown_critical(certificate: &X509Certificate<'_>) -> bool {
    certificate.extensions().iter().any(|extension| {
        extension.critical
            && !matches!(
                extension.parsed_extension(),
                ParsedExtension::BasicConstraints(_)
                    | ParsedExtension::KeyUsage(_)
                    | ParsedExtension::ExtendedKeyUsage(_)
                    | ParsedExtension::SubjectAlternativeName(_)
                    | ParsedExtension::AuthorityKeyIdentifier(_)
                    | ParsedExtension::SubjectKeyIdentifier(_)
                    | ParsedExtension::NameConstraints(_)
            )
    })
}
