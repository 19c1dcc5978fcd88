//! From global flags and environment to a client and an output format.

use std::sync::Arc;
use std::time::Duration;

use client::{Client, Config, Endpoint, Tls, Warning};
use cobra::{Exit, Flags, Invocation, exit};
use tokio::time::Instant;

use crate::log;
use crate::output::Format;
use crate::output::terminal;
use crate::{discovery, environment};

/// What a command works with: how to reach members, how long it may take, how to print.
pub struct Session {
    config: Config,
    endpoints: Vec<String>,
    command_timeout: Duration,
    /// Whether the timeout was asked for, rather than the default.
    pub timeout_given: bool,
    pub format: Format,
}

impl Session {
    /// Reads global flags and `ETCDCTL_*`; `known_variables` are others that the command reads itself.
    pub async fn new(invocation: &mut Invocation, known_variables: &[&str]) -> Result<Session, Exit> {
        let flags = &mut invocation.flags;
        let variables: Vec<_> = std::env::vars_os().collect();
        environment::apply(flags, &variables, known_variables)?;
        if flags.bool("debug") {
            for (flag, value, _) in flags.inherited() {
                eprintln!("{}={value}", environment::variable(flag.name));
            }
        }
        let endpoints = discovery::endpoints(flags).await;
        let tls = tls(flags)?;
        let (user, token) = credentials(flags)?;
        let hex = flags.bool("hex");
        let format = Format::parse(&flags.text("write-out"), hex)
            .ok_or_else(|| Exit::new(exit::BAD_FEATURE, "unsupported output format"))?;
        let mut config = Config::to(&endpoints);
        config.tls = tls;
        config.dial_timeout = flags.duration("dial-timeout");
        config.keepalive_time = flags.duration("keepalive-time");
        config.keepalive_timeout = flags.duration("keepalive-timeout");
        set_limits(&mut config, flags)?;
        (config.user, config.token) = (user, token);
        config.on_warning = Some(Arc::new(warn));
        Ok(Session {
            config,
            endpoints,
            command_timeout: flags.duration("command-timeout"),
            timeout_given: flags.changed("command-timeout"),
            format,
        })
    }

    /// A client for all endpoints, already known to the members if it has a name.
    pub async fn client(&self) -> Result<Client, Exit> {
        self.client_to(&self.endpoints).await
    }

    /// A client for these endpoints.
    pub async fn client_to(&self, endpoints: &[String]) -> Result<Client, Exit> {
        let mut config = self.config.clone();
        config.endpoints = endpoints.iter().map(|text| Endpoint::parse(text)).collect();
        let client = Client::new(config).map_err(|error| match error {
            client::Error::Tls { .. } => Exit::bad_args(error),
            error => Exit::new(exit::BAD_CONNECTION, error),
        })?;
        client.log_in().await.map_err(|error| Exit::new(exit::BAD_CONNECTION, error))?;
        Ok(client)
    }

    /// The time by which a command that begins now must be through.
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.command_timeout
    }

    /// A client whose calls together have the command's timeout.
    pub async fn timed_client(&self) -> Result<Client, Exit> {
        let client = self.client().await?;
        Ok(client.with_deadline(self.deadline()))
    }

    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }
}

fn tls(flags: &Flags) -> Result<Option<Tls>, Exit> {
    let file = |name: &str| match (flags.text(name), flags.changed(name)) {
        (path, true) if path.is_empty() => {
            Err(Exit::bad_args(format!("empty string is passed to --{name} option")))
        }
        (path, _) => Ok(Some(path).filter(|path| !path.is_empty())),
    };
    let (cert, key, ca) = (file("cert")?, file("key")?, file("cacert")?);
    if cert.is_some() != key.is_some() {
        let (cert, key) = (cert.unwrap_or_default(), key.unwrap_or_default());
        let message = format!("KeyFile and CertFile must both be present[key: {key}, cert: {cert}]");
        return Err(Exit::bad_args(message));
    }
    let skip = flags.bool("insecure-skip-tls-verify");
    let wanted = cert.is_some() || ca.is_some() || skip || !flags.bool("insecure-transport");
    Ok(wanted.then(|| Tls {
        ca_file: ca.map(Into::into),
        cert_file: cert.map(Into::into),
        key_file: key.map(Into::into),
        insecure_skip_verify: skip,
        server_name: discovery::server_name(flags),
    }))
}

type Credentials = (Option<(String, String)>, Option<String>);

fn credentials(flags: &Flags) -> Result<Credentials, Exit> {
    let (user, password, token) = (flags.text("user"), flags.text("password"), flags.text("auth-jwt-token"));
    if !token.is_empty() {
        return Ok((None, Some(token)));
    }
    if user.is_empty() {
        return Ok((None, None));
    }
    let (user, password) = match user.split_once(':') {
        _ if !password.is_empty() => (user, password),
        Some((user, password)) => (user.to_owned(), password.to_owned()),
        None => {
            let password = terminal::ask_secret("Password: ").map_err(Exit::error)?;
            (user, password)
        }
    };
    // Compat: without a password there is nothing to exchange, and nobody is asked.
    let complete = !user.is_empty() && !password.is_empty();
    Ok((complete.then_some((user, password)), None))
}

fn set_limits(config: &mut Config, flags: &Flags) -> Result<(), Exit> {
    let (send, recv) = (flags.int("max-request-bytes"), flags.int("max-recv-bytes"));
    if recv > 0 && send > recv {
        let message =
            format!("gRPC message recv limit ({recv} bytes) must be greater than send limit ({send} bytes)");
        return Err(Exit::new(exit::BAD_CONNECTION, message));
    }
    if let Some(send) = usize::try_from(send).ok().filter(|&send| send > 0) {
        config.max_send_bytes = send;
    }
    if let Some(recv) = usize::try_from(recv).ok().filter(|&recv| recv > 0) {
        config.max_recv_bytes = recv;
    }
    Ok(())
}

fn warn(warning: &Warning<'_>) {
    let fields = [
        ("target", format!("etcd-endpoints://{}", warning.target)),
        ("method", warning.method.to_owned()),
        ("attempt", warning.attempt.to_string()),
        ("error", warning.error.clone()),
    ];
    log::line("warn", Some("etcd-client"), "client/call.rs", "retrying of unary invoker failed", &fields);
}
