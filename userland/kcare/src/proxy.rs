// SPDX-License-Identifier: GPL-2.0

//! Which proxy stands in front of the vendor's server, and how an `http:` server is asked through it.
//!
//! A server at `https:` is reached by a tunnel (`CONNECT`), which ureq makes. One at `http:` is not: proxies allow a
//! tunnel to port 443 alone as a rule, so the proxy itself is asked for the whole address (`GET http://…`), as RFC 9112,
//! 3.2.2, has it. ureq cannot do that, but lets a connector of ours stand in front of its own.

use base64::prelude::{Engine, BASE64_STANDARD};
use ureq::http::Uri;
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, NextTimeout, RustlsConnector,
    TcpConnector, Transport,
};
use ureq::{Proxy, ProxyProtocol};

use crate::config::Config;
use crate::error::{Error, Result};

/// The address of the proxy for the server of the settings, and the setting or variable that has it.
///
/// As soon as the file names a proxy, or says that there is none, the environment's are not looked at. A host that is
/// in `NO_PROXY`, there or here, is asked directly.
pub fn choose(
    config: &Config,
    server: &Uri,
    variable: impl Fn(&str) -> Option<String>,
) -> Option<(String, String)> {
    let scheme = server.scheme_str().unwrap_or_default();
    let given = |name: &str| {
        [name.to_owned(), name.to_ascii_lowercase()]
            .into_iter()
            .find_map(|name| Some((name.clone(), variable(&name).filter(|v| !v.is_empty())?)))
    };
    let own = format!("{}_PROXY", scheme.to_ascii_uppercase());
    let found = match config.proxies.is_empty() {
        true => given(&own).or_else(|| given("ALL_PROXY")),
        false => config.proxies.get(scheme).cloned().map(|it| (own, it)),
    };
    let spared = given("NO_PROXY")
        .map(|(_, hosts)| hosts)
        .unwrap_or_default();
    let mut spared = spared
        .split([',', ' '])
        .chain(config.no_proxy.iter().map(String::as_str));
    let host = server.host().unwrap_or_default();
    found
        .filter(|(_, address)| !address.is_empty())
        .filter(|_| !spared.any(|name| spares(name, host)))
}

/// Whether an entry of `NO_PROXY` is about a host: its name, the end of it behind a dot, or `*` for all.
fn spares(name: &str, host: &str) -> bool {
    let bare = |text: &str| text.trim_matches(['[', ']']).to_ascii_lowercase();
    let (name, host) = (bare(name), bare(host));
    match name.strip_prefix('*').unwrap_or(&name) {
        "" => name == "*",
        end if end.starts_with('.') => host.ends_with(end),
        _ => host == name,
    }
}

/// Understands the address of a proxy.
///
/// # Errors
///
/// What it may be.
pub fn parse(address: &str) -> std::result::Result<Proxy, &'static str> {
    const MAY: &str = "a proxy at http:// or https://, such as http://proxy.example:3128";
    let proxy = Proxy::new(address).map_err(|_| MAY)?;
    let fits = matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https);
    match fits && !proxy.host().is_empty() {
        true => Ok(proxy),
        false => Err(MAY),
    }
}

/// The proxy for the server of the settings, if there is one.
///
/// # Errors
///
/// [`Kind::Config`](crate::error::Kind) if the environment's is none that can be used.
pub fn of(config: &Config, server: &Uri) -> Result<Option<Proxy>> {
    let Some((name, address)) = choose(config, server, |name| std::env::var(name).ok()) else {
        return Ok(None);
    };
    // Its value may have a password.
    parse(&address).map(Some).map_err(|may| {
        Error::config(format!("the value of {name} is not {may}."))
            .hint("correct it, or set HTTP_PROXY and HTTPS_PROXY in /etc/sysconfig/kcare/kcare.conf; empty is none.")
    })
}

/// All that ureq does to connect, behind our own way to a proxy.
pub fn connector() -> impl Connector {
    Forward
        .chain(ConnectProxyConnector::default())
        .chain(TcpConnector::default())
        .chain(RustlsConnector::default())
}

/// Connects to the proxy of an `http:` server without a tunnel.
#[derive(Debug)]
struct Forward;

impl Connector for Forward {
    type Out = Forwarded;

    fn connect(
        &self,
        details: &ConnectionDetails,
        _: Option<()>,
    ) -> std::result::Result<Option<Forwarded>, ureq::Error> {
        let plain = details.uri.scheme_str() == Some("http");
        let proxy = details
            .config
            .proxy()
            .filter(|proxy| plain && proxy.protocol() == ProxyProtocol::Http);
        let (Some(proxy), Some(server)) = (proxy, details.uri.authority()) else {
            return Ok(None);
        };
        let there = ConnectionDetails {
            uri: proxy.uri(),
            addrs: details
                .resolver
                .resolve(proxy.uri(), details.config, details.timeout)?,
            config: details.config,
            request_level: details.request_level,
            resolver: details.resolver,
            now: details.now,
            timeout: details.timeout,
            current_time: details.current_time.clone(),
            run_connector: details.run_connector.clone(),
            register_shutdown: details.register_shutdown.clone(),
        };
        // A name and a password for the server are in a header of their own.
        let server = server.as_str().rsplit('@').next().unwrap_or_default();
        let credentials = proxy.username().map(|name| {
            let both = format!("{name}:{}", proxy.password().unwrap_or_default());
            format!(
                "Proxy-Authorization: Basic {}\r\n",
                BASE64_STANDARD.encode(both)
            )
        });
        let transport = TcpConnector::default().connect(&there, None::<()>)?;
        Ok(transport.map(|transport| Forwarded {
            transport: Box::new(transport),
            server: format!("http://{server}"),
            credentials: credentials.unwrap_or_default(),
        }))
    }
}

/// A connection to a proxy, on which each request names the whole address.
#[derive(Debug)]
struct Forwarded {
    transport: Box<dyn Transport>,
    server: String,
    credentials: String,
}

impl Forwarded {
    /// The head of a request for the proxy. Everything else stays as it is.
    fn rewrite(&self, head: &[u8]) -> Option<Vec<u8>> {
        let head = std::str::from_utf8(head).ok()?;
        let (line, rest) = head.strip_prefix("GET /")?.split_once("\r\n")?;
        let text = format!("GET {}/{line}\r\n{}{rest}", self.server, self.credentials);
        Some(text.into_bytes())
    }
}

impl Transport for Forwarded {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.transport.buffers()
    }

    fn transmit_output(
        &mut self,
        amount: usize,
        timeout: NextTimeout,
    ) -> std::result::Result<(), ureq::Error> {
        let head = self
            .transport
            .buffers()
            .output()
            .get(..amount)
            .map(<[u8]>::to_vec);
        let Some(head) = head.and_then(|head| self.rewrite(&head)) else {
            return self.transport.transmit_output(amount, timeout);
        };
        let output = self.transport.buffers().output();
        let output = output
            .get_mut(..head.len())
            .ok_or(ureq::Error::Io(std::io::ErrorKind::StorageFull.into()))?;
        output.copy_from_slice(&head);
        self.transport.transmit_output(head.len(), timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> std::result::Result<bool, ureq::Error> {
        self.transport.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.transport.is_open()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The proxy for a server, with settings and an environment, each `NAME=VALUE` and separated by blanks.
    fn chosen(server: &str, settings: &str, environment: &str) -> String {
        let config = Config::with(settings);
        let variable = |name: &str| {
            let pairs = environment
                .split(' ')
                .filter_map(|pair| pair.split_once('='));
            pairs
                .into_iter()
                .find(|(n, _)| *n == name)
                .map(|(_, value)| value.to_owned())
        };
        let found = choose(&config, &server.parse().unwrap(), variable);
        found.map(|(_, address)| address).unwrap_or_default()
    }

    #[test]
    fn the_file_decides_and_then_the_environment() {
        let (http, https) = ("http://a.example", "https://a.example");
        for (server, settings, environment, proxy) in [
            (http, "", "", ""),
            (http, "", "HTTP_PROXY=e", "e"),
            (http, "", "http_proxy=e", "e"),
            (http, "", "ALL_PROXY=e", "e"),
            (http, "", "HTTP_PROXY= ALL_PROXY=e", "e"),
            // That of the other scheme is none.
            (http, "", "HTTPS_PROXY=e", ""),
            (https, "", "HTTP_PROXY=e", ""),
            (https, "", "HTTPS_PROXY=e", "e"),
            (http, "HTTP_PROXY=f", "HTTP_PROXY=e ALL_PROXY=e", "f"),
            (https, "HTTP_PROXY=f", "HTTPS_PROXY=e", ""),
            // Empty in the file is none.
            (http, "HTTP_PROXY=", "HTTP_PROXY=e", ""),
            (https, "HTTPS_PROXY=", "ALL_PROXY=e", ""),
        ] {
            assert_eq!(
                chosen(server, settings, environment),
                proxy,
                "{server} {settings} / {environment}"
            );
        }
    }

    #[test]
    fn a_spared_host_has_no_proxy_wherever_that_is_said() {
        for (server, name, spared) in [
            ("http://a.example:8080", "a.example", true),
            ("http://user:pass@a.example/x", "a.example", true),
            ("http://user:pass@a.example/x", "user", false),
            ("http://A.example", "a.EXAMPLE", true),
            ("http://b.a.example", "a.example", false),
            ("http://b.a.example", ".a.example", true),
            ("http://b.a.example", "*.a.example", true),
            ("http://a.example", ".a.example", false),
            ("http://a.example", "x,a.example", true),
            ("http://a.example", "*", true),
            ("http://a.example", ",", false),
            ("http://[::1]:80", "::1", true),
            ("http://127.0.0.1:80", "127.0.0.1", true),
        ] {
            let no_proxy = format!("NO_PROXY={name}");
            for (settings, environment) in [
                (
                    format!("HTTP_PROXY=p {no_proxy}"),
                    "HTTP_PROXY=e".to_owned(),
                ),
                (no_proxy.clone(), "HTTP_PROXY=p".to_owned()),
                ("HTTP_PROXY=p".to_owned(), no_proxy.clone()),
                (String::new(), format!("HTTP_PROXY=p no_proxy={name}")),
            ] {
                let proxy = if spared { "" } else { "p" };
                assert_eq!(
                    chosen(server, &settings, &environment),
                    proxy,
                    "{server}: {settings} / {environment}"
                );
            }
        }
    }

    #[test]
    fn what_is_a_proxy() {
        for good in [
            "http://p:3128",
            "https://p",
            "p:3128",
            "http://user:p%40ss@p:3128",
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in ["socks5://p", "ftp://p", "http://", "http:///x", "a b", "/x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    /// What a proxy is asked for one file of a server, and what the client makes of its answer.
    fn asked(server: &str, user: &str) -> (String, Vec<u8>) {
        use crate::server::Server;
        use kcare_tuf::fetch::Fetch;
        use std::io::{BufRead, BufReader, Write};

        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{user}{}", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let head: Vec<String> = lines
                .map(|line| line.unwrap())
                .take_while(|l| !l.is_empty())
                .collect();
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")
                .unwrap();
            head.join("\n")
        });
        let config = Config::with(&format!("PATCH_SERVER={server} HTTP_PROXY={address}"));
        let server = Server::new(&config).unwrap();
        let bytes = server.folder("k").fetch("timestamp.json", 10).unwrap();
        (thread.join().unwrap(), bytes)
    }

    #[test]
    fn a_proxy_is_asked_for_the_whole_address() {
        // No such host is there: the proxy looks for it.
        let (head, bytes) = asked("http://patches.invalid:8080/tree", "");
        assert!(
            head.starts_with("GET http://patches.invalid:8080/tree/k/timestamp.json HTTP/1.1\n"),
            "{head}"
        );
        assert!(
            head.to_lowercase().contains("\nhost: patches.invalid:8080"),
            "{head}"
        );
        assert!(!head.contains("Proxy-Authorization"), "{head}");
        assert_eq!(bytes, b"good");
    }

    #[test]
    fn each_password_goes_where_it_belongs() {
        let (head, _) = asked("http://me:mine@patches.invalid", "you:p%40ss@");
        assert!(
            head.starts_with("GET http://patches.invalid/k/timestamp.json HTTP/1.1\n"),
            "{head}"
        );
        let encoded = |text: &str| BASE64_STANDARD.encode(text);
        assert!(
            head.contains(&format!(
                "\nProxy-Authorization: Basic {}\n",
                encoded("you:p@ss")
            )),
            "{head}"
        );
        assert!(
            head.to_lowercase().contains(&format!(
                "\nauthorization: basic {}",
                encoded("me:mine").to_lowercase()
            )),
            "{head}"
        );
    }
}
