//! TLS, and who may call.

use crate::flag::{Flag, Section, Slot};

pub const FLAGS: &[Flag] = &[
    Flag::new(
        "cert-file",
        Section::Security,
        |s| Slot::Text(&mut s.client_tls.cert_file),
        "Certificate of the client listeners.",
    )
    .in_file(&["client-transport-security", "cert-file"]),
    Flag::new(
        "key-file",
        Section::Security,
        |s| Slot::Text(&mut s.client_tls.key_file),
        "Private key of the client listeners.",
    )
    .in_file(&["client-transport-security", "key-file"]),
    Flag::new(
        "client-cert-auth",
        Section::Security,
        |s| Slot::Bool(&mut s.client_tls.client_cert_auth),
        "Require a verified certificate from every client.",
    )
    .in_file(&["client-transport-security", "client-cert-auth"]),
    Flag::new(
        "client-cert-file",
        Section::Security,
        |s| Slot::Text(&mut s.client_tls.client_cert_file),
        "Certificate this server shows when it connects to a client port.",
    )
    .in_file(&["client-transport-security", "client-cert-file"])
    .inert("this server opens no connections to its own client port"),
    Flag::new(
        "client-key-file",
        Section::Security,
        |s| Slot::Text(&mut s.client_tls.client_key_file),
        "Key of that certificate.",
    )
    .in_file(&["client-transport-security", "client-key-file"])
    .inert("this server opens no connections to its own client port"),
    Flag::new(
        "client-crl-file",
        Section::Security,
        |s| Slot::Text(&mut s.client_tls.crl_file),
        "Revocation list for client certificates.",
    )
    .not_in_file(),
    Flag::new(
        "client-cert-allowed-hostname",
        Section::Security,
        |s| Slot::List(&mut s.client_tls.allowed_hostname),
        "Host names of which a client certificate must be valid for one.",
    )
    .in_file(&["client-transport-security", "allowed-hostname"]),
    Flag::new(
        "trusted-ca-file",
        Section::Security,
        |s| Slot::Text(&mut s.client_tls.trusted_ca_file),
        "CA certificates that verify client certificates; naming one makes them mandatory.",
    )
    .in_file(&["client-transport-security", "trusted-ca-file"]),
    Flag::new(
        "auto-tls",
        Section::Security,
        |s| Slot::Bool(&mut s.client_tls.auto_tls),
        "Serve clients with a certificate that the server makes itself.",
    )
    .in_file(&["client-transport-security", "auto-tls"]),
    Flag::new(
        "peer-cert-file",
        Section::Security,
        |s| Slot::Text(&mut s.peer_tls.cert_file),
        "Certificate of the peer listeners.",
    )
    .in_file(&["peer-transport-security", "cert-file"]),
    Flag::new(
        "peer-key-file",
        Section::Security,
        |s| Slot::Text(&mut s.peer_tls.key_file),
        "Private key of the peer listeners.",
    )
    .in_file(&["peer-transport-security", "key-file"]),
    Flag::new(
        "peer-client-cert-auth",
        Section::Security,
        |s| Slot::Bool(&mut s.peer_tls.client_cert_auth),
        "Require a verified certificate from every peer.",
    )
    .in_file(&["peer-transport-security", "client-cert-auth"]),
    Flag::new(
        "peer-client-cert-file",
        Section::Security,
        |s| Slot::Text(&mut s.peer_tls.client_cert_file),
        "Certificate this server shows when it connects to a peer port.",
    )
    .in_file(&["peer-transport-security", "client-cert-file"]),
    Flag::new(
        "peer-client-key-file",
        Section::Security,
        |s| Slot::Text(&mut s.peer_tls.client_key_file),
        "Key of that certificate.",
    )
    .in_file(&["peer-transport-security", "client-key-file"]),
    Flag::new(
        "peer-crl-file",
        Section::Security,
        |s| Slot::Text(&mut s.peer_tls.crl_file),
        "Revocation list for peer certificates.",
    )
    .not_in_file(),
    Flag::new(
        "peer-cert-allowed-hostname",
        Section::Security,
        |s| Slot::List(&mut s.peer_tls.allowed_hostname),
        "Host names of which a peer certificate must be valid for one.",
    )
    .in_file(&["peer-transport-security", "allowed-hostname"]),
    Flag::new(
        "peer-trusted-ca-file",
        Section::Security,
        |s| Slot::Text(&mut s.peer_tls.trusted_ca_file),
        "CA certificates that verify peer certificates; naming one makes them mandatory.",
    )
    .in_file(&["peer-transport-security", "trusted-ca-file"]),
    Flag::new(
        "peer-auto-tls",
        Section::Security,
        |s| Slot::Bool(&mut s.peer_tls.auto_tls),
        "Serve peers with a certificate that the server makes itself.",
    )
    .in_file(&["peer-transport-security", "auto-tls"]),
    Flag::new(
        "peer-cert-allowed-cn",
        Section::Security,
        |s| Slot::List(&mut s.peer_tls.allowed_cn),
        "Common names of which a peer certificate must carry one.",
    )
    .in_file(&["peer-transport-security", "allowed-cn"]),
    Flag::new(
        "peer-skip-client-san-verification",
        Section::Security,
        |s| Slot::Bool(&mut s.peer_skip_client_san_verification),
        "Do not compare a peer's address with its certificate.",
    )
    .in_file(&["peer-transport-security", "skip-client-san-verification"]),
    Flag::new(
        "self-signed-cert-validity",
        Section::Security,
        |s| Slot::Uint(&mut s.self_signed_cert_validity),
        "Years that certificates of --auto-tls and --peer-auto-tls are valid.",
    ),
    Flag::new(
        "cipher-suites",
        Section::Security,
        |s| Slot::List(&mut s.cipher_suites),
        "TLS 1.2 cipher suites, by Go's names (empty takes the library's choice).",
    ),
    Flag::new(
        "cors",
        Section::Security,
        |s| Slot::Origins(&mut s.cors),
        "Web origins that may read answers ('*' allows all).",
    ),
    Flag::new(
        "host-whitelist",
        Section::Security,
        |s| Slot::Set(&mut s.host_whitelist),
        "Host names that HTTP requests on plain listeners may carry ('*' allows all).",
    ),
    Flag::new(
        "tls-min-version",
        Section::Security,
        |s| Slot::Text(&mut s.tls_min_version),
        "Lowest TLS version: TLS1.2 or TLS1.3.",
    ),
    Flag::new(
        "tls-max-version",
        Section::Security,
        |s| Slot::Text(&mut s.tls_max_version),
        "Highest TLS version: TLS1.2 or TLS1.3 (empty means the highest there is).",
    ),
    // --- Auth ---
    Flag::new(
        "auth-token",
        Section::Auth,
        |s| Slot::Text(&mut s.auth_token),
        "Kind of authentication token: simple or jwt with options.",
    )
    .refused_unless(|s| s.auth_token == "simple" || s.auth_token.is_empty(), "jwt tokens are not built yet"),
    Flag::new(
        "bcrypt-cost",
        Section::Auth,
        |s| Slot::Uint(&mut s.bcrypt_cost),
        "Cost of hashing passwords, 4 to 31.",
    )
    .refused_unless(|s| s.bcrypt_cost == 10, "authentication is not built yet"),
    Flag::new(
        "auth-token-ttl",
        Section::Auth,
        |s| Slot::Uint(&mut s.auth_token_ttl),
        "Seconds that a simple token lives.",
    )
    .refused_unless(|s| s.auth_token_ttl == 300, "authentication is not built yet"),
];
