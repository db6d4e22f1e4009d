// SPDX-License-Identifier: GPL-2.0

//! A client for any TUF repository, with the command line that the TUF conformance tests expect:
//!
//! ```text
//! tuf_client --metadata-dir D init ROOT
//! tuf_client --metadata-dir D --metadata-url U refresh
//! tuf_client --metadata-dir D --metadata-url U --target-name T --target-base-url B --target-dir F download
//! ```
//!
//! It answers with the exit status 0 or 1, and tells its reasons on stderr. The trusted metadata are in D, without
//! versions in their names. A target is written below F, under its name with all but letters, digits and `-._~`
//! percent-encoded; one that is there already is not fetched again.
//!
//! Not supported: delegations (a target of a delegated role is not found), keys that `kcare-tuf` does not know, hashes
//! other than SHA-256 and SHA-512, DSSE envelopes, and target files of more than 64 MiB.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use kcare_tuf::fetch::{url, Fetch, FetchError};
use kcare_tuf::file;
use kcare_tuf::metadata::Unverified;
use kcare_tuf::store::{Folder, Store};
use kcare_tuf::{Client, Limits, Role, Time};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A client for any TUF repository.
#[derive(Parser)]
struct Arguments {
    /// Where the trusted metadata are kept.
    #[arg(long)]
    metadata_dir: PathBuf,
    /// Base of the metadata.
    #[arg(long)]
    metadata_url: Option<String>,
    /// Name of a file to download.
    #[arg(long)]
    target_name: Vec<String>,
    /// Base of the files.
    #[arg(long)]
    target_base_url: Option<String>,
    /// Where files are written.
    #[arg(long)]
    target_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Trust this root.
    Init {
        /// The file.
        root: PathBuf,
    },
    /// Update the metadata.
    Refresh,
    /// Update the metadata and download files.
    Download,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nothing can be done about a closed stream.
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tuf_client: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let folder = &arguments.metadata_dir;
    match &arguments.command {
        Command::Init { root } => {
            let bytes = std::fs::read(root)?;
            Unverified::parse(Role::Root, &bytes)?.into_initial_root()?;
            std::fs::create_dir_all(folder)?;
            Folder::new(folder).save(Role::Root, &bytes)?;
            Ok(())
        }
        Command::Refresh => refresh(arguments).map(drop),
        Command::Download => {
            let client = refresh(arguments)?;
            let http = Http::new(wanted(&arguments.target_base_url, "--target-base-url")?);
            let folder = wanted(&arguments.target_dir, "--target-dir")?;
            for name in &arguments.target_name {
                download(&client, &http, folder, name)?;
            }
            Ok(())
        }
    }
}

fn refresh(arguments: &Arguments) -> Result<Client<Folder>> {
    let folder = &arguments.metadata_dir;
    let http = Http::new(wanted(&arguments.metadata_url, "--metadata-url")?);
    let root = std::fs::read(folder.join(Role::Root.file_name()))?;
    let mut client = Client::open(Folder::new(folder), &root, Time::now(), Limits::default())?;
    let result = client.refresh(&http);
    for finding in client.findings() {
        eprintln!("tuf_client: {finding}");
    }
    result?;
    Ok(client)
}

fn download(client: &Client<Folder>, http: &Http, folder: &Path, name: &str) -> Result<()> {
    let path = folder.join(file_name(name));
    let target = client.target(name)?;
    if std::fs::read(&path).is_ok_and(|bytes| target.check(name, &bytes).is_ok()) {
        return Ok(());
    }
    let bytes = client.download(http, name)?;
    let temporary = folder.join(".download.new");
    std::fs::write(&temporary, bytes)?;
    std::fs::rename(temporary, path)?;
    Ok(())
}

/// The name with all but unreserved characters percent-encoded: one part of a path, never another folder.
fn file_name(name: &str) -> String {
    let mut encoded = String::new();
    for byte in name.bytes() {
        match byte {
            b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => encoded.push(char::from(byte)),
            _ => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}

fn wanted<'a, T>(value: &'a Option<T>, option: &str) -> Result<&'a T> {
    value
        .as_ref()
        .ok_or_else(|| format!("{option} is missing").into())
}

/// Files below a URL.
struct Http<'a> {
    agent: ureq::Agent,
    base: &'a str,
}

impl<'a> Http<'a> {
    fn new(base: &'a str) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_recv_response(Some(Duration::from_secs(10)))
            .timeout_global(Some(Duration::from_secs(60)))
            .max_redirects(5)
            .user_agent("kcare-tuf")
            .build();
        Self {
            agent: config.into(),
            base,
        }
    }
}

impl Fetch for Http<'_> {
    fn fetch(&self, path: &str, limit: u64) -> std::result::Result<Vec<u8>, FetchError> {
        let other = |error: &dyn Error| FetchError::Other(error.to_string());
        let response = self
            .agent
            .get(url(self.base, path))
            .call()
            .map_err(|error| other(&error))?;
        match response.status().as_u16() {
            200 => {}
            403 | 404 => return Err(FetchError::NotFound),
            status => return Err(FetchError::Other(format!("the server says {status}"))),
        }
        file::read_from(response.into_body().into_reader(), limit)
            .map_err(|error| other(&error))?
            .ok_or(FetchError::TooLong)
    }
}
