// SPDX-License-Identifier: GPL-2.0

//! The vendor's tree, at the other end of `https:`, `http:` or `file:`.
//!
//! Nothing that comes from here is believed: `kcare_tuf` verifies it. Nothing but the path of a file, the name of this
//! program and its version goes out.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use kcare_tuf::fetch::{self, url, Fetch, FetchError, Fetched};
use kcare_tuf::file;
use ureq::http::Uri;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};
use ureq::unversioned::resolver::DefaultResolver;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::{mirror, proxy};

/// For so long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// An answer has to begin in this part of the time for a whole file.
const BEGIN: u32 = 6;
/// How often a server may send us on to another address.
const REDIRECTS: u32 = 3;

/// Where files are fetched from.
#[derive(Debug)]
pub enum Server {
    /// A folder of this machine.
    Folder(PathBuf),
    /// What the service without privileges has downloaded.
    Cache(PathBuf),
    /// A web server.
    Web {
        /// Speaks with it.
        agent: ureq::Agent,
        /// The address of the tree.
        base: String,
    },
}

impl Server {
    /// The server of the settings.
    ///
    /// # Errors
    ///
    /// [`Kind::Config`](crate::error::Kind) without one, or if a proxy or the certificates cannot be used.
    pub fn new(config: &Config) -> Result<Self> {
        let base = config.server.as_deref().ok_or_else(|| {
            Error::config("no server is set.")
                .hint("write `PATCH_SERVER=https://…` to /etc/sysconfig/kcare/kcare.conf.")
        })?;
        if let Some(path) = base.strip_prefix("file://") {
            return Ok(Self::Folder(PathBuf::from(path)));
        }
        let uri: Uri = base
            .parse()
            .map_err(|e| Error::config("PATCH_SERVER is no address.").caused_by(e))
            .map_err(|error| error.hint("see `man kcare.conf` for what it may be."))?;
        let whole = Duration::from_secs(config.timeout);
        let mut builder = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT.min(whole)))
            .timeout_recv_response(Some(whole / BEGIN))
            .timeout_global(Some(whole))
            .max_redirects(REDIRECTS)
            .user_agent(concat!("kcare/", env!("CARGO_PKG_VERSION")));
        // Without one, ureq would look for one itself.
        builder = builder.proxy(proxy::of(config, &uri)?);
        if let Some(path) = &config.ca_bundle {
            let pem = std::fs::read(path).map_err(|e| {
                Error::config(format!("cannot read CA_BUNDLE {}.", path.display()))
                    .caused_by(e)
                    .hint("give a file that everybody may read: `_kcare` downloads, and not root.")
            })?;
            let certificates: Vec<Certificate<'static>> = ureq::tls::parse_pem(&pem)
                .filter_map(|item| match item {
                    Ok(PemItem::Certificate(certificate)) => Some(certificate),
                    _ => None,
                })
                .collect();
            if certificates.is_empty() {
                return Err(Error::config(format!(
                    "CA_BUNDLE {} has no certificate in PEM.",
                    path.display()
                ))
                .hint("give the file with the authority's certificate (`BEGIN CERTIFICATE`)."));
            }
            let roots = RootCerts::new_with_certs(&certificates);
            builder = builder.tls_config(TlsConfig::builder().root_certs(roots).build());
        }
        Ok(Self::Web {
            agent: ureq::Agent::with_parts(
                builder.build(),
                proxy::connector(),
                DefaultResolver::default(),
            ),
            base: base.to_owned(),
        })
    }

    /// What is below a folder of the tree.
    pub fn folder(&self, path: &str) -> Below<'_> {
        Below {
            server: self,
            path: path.to_owned(),
        }
    }
}

/// What is below a folder of the tree.
#[derive(Debug)]
pub struct Below<'a> {
    server: &'a Server,
    path: String,
}

impl Fetch for Below<'_> {
    fn fetch(&self, path: &str, limit: u64) -> std::result::Result<Vec<u8>, FetchError> {
        match self.fetch_if_changed(path, limit, None)? {
            Fetched::File { bytes, .. } => Ok(bytes),
            Fetched::NotModified => Err(FetchError::Other(
                "the server says that nothing changed, and was not asked".to_owned(),
            )),
        }
    }

    fn fetch_if_changed(
        &self,
        path: &str,
        limit: u64,
        etag: Option<&str>,
    ) -> std::result::Result<Fetched, FetchError> {
        let path = format!("{}/{path}", self.path);
        let (agent, base) = match self.server {
            Server::Folder(folder) => {
                let bytes = fetch::Folder::new(folder).fetch(&path, limit)?;
                return Ok(Fetched::File { bytes, etag: None });
            }
            Server::Cache(cache) => {
                let bytes = mirror::read(cache, &format!("tree/{path}"), limit)?;
                return Ok(Fetched::File { bytes, etag: None });
            }
            Server::Web { agent, base } => (agent, base),
        };
        let mut request = agent.get(url(base, &path));
        if let Some(etag) = etag {
            request = request.header("If-None-Match", etag);
        }
        let response = request.call().map_err(|e| other(&e))?;
        match response.status().as_u16() {
            200 => {}
            304 if etag.is_some() => return Ok(Fetched::NotModified),
            404 | 410 => return Err(FetchError::NotFound),
            status => {
                return Err(FetchError::Other(format!(
                    "the server answers with HTTP status {status}"
                )))
            }
        }
        let etag = response.headers().get("etag");
        let etag = etag
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let announced = response.body().content_length();
        let bytes = file::read_from(response.into_body().into_reader(), limit);
        let bytes = bytes.map_err(|e| other(&e))?.ok_or(FetchError::TooLong)?;
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if announced.is_some_and(|announced| announced > length) {
            return Err(FetchError::Other(
                "the answer ends before the length that the server announced".to_owned(),
            ));
        }
        Ok(Fetched::File { bytes, etag })
    }
}

/// An error with those underneath, which say what really was wrong with TLS.
fn other(error: &(dyn StdError + 'static)) -> FetchError {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    let timeout = error
        .downcast_ref::<io::Error>()
        .is_some_and(|e| e.kind() == io::ErrorKind::TimedOut);
    if timeout {
        text = "it took too long".to_owned();
    }
    FetchError::Other(text)
}
