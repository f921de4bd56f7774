//! The names under which clients may call this service.
//!
//! A web page can point a name of its own at a loopback address (DNS rebinding). The browser then mistakes
//! this service for the page's server and lets the page send and read anything. Only the `Host` of such a
//! request still has the page's name, so a request under a name that is not this service's is refused.

use crate::problem::Problem;
use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, Uri, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::{net::IpAddr, sync::Arc};

/// The name of the loopback address on every system.
const LOCALHOST: &str = "localhost";

/// The names and addresses under which the service may be called. The port is ignored: port forwarding
/// changes it, and a page can't hide its name behind a port.
#[derive(Debug, Clone)]
pub struct Hosts {
    listen: IpAddr,
    names: Arc<[String]>,
}

/// A text that is not a host name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a host name; give names or addresses without a port, separated by commas")]
pub struct HostsError {
    /// The text.
    pub text: String,
}

impl Hosts {
    /// `localhost`, the loopback addresses, the address that the service listens on, and `more`: names
    /// or addresses separated by commas.
    ///
    /// # Errors
    /// A part of `more` is not a host name.
    pub fn new(listen: IpAddr, more: &str) -> Result<Self, HostsError> {
        let parts = more.split(',').map(str::trim);
        let names = parts.filter(|part| !part.is_empty()).map(|part| {
            let name = part
                .parse::<Authority>()
                .ok()
                .filter(|authority| authority.host() == part);
            name.map(|_| part.to_ascii_lowercase())
                .ok_or_else(|| HostsError {
                    text: part.to_owned(),
                })
        });
        Ok(Self {
            listen,
            names: names.collect::<Result<_, _>>()?,
        })
    }

    /// Whether a request with this target and these headers calls the service under one of its names.
    /// HTTP/2 has the name in the target, HTTP/1.1 in `Host`.
    fn serve(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let of_target = uri.authority().map(Authority::as_str);
        let of_headers: Vec<_> = headers.get_all(header::HOST).iter().collect();
        if of_headers.len() > 1 {
            return false;
        }
        let of_headers = of_headers
            .into_iter()
            .map(|value| value.to_str().unwrap_or_default());
        let mut found = of_headers.chain(of_target).peekable();
        found.peek().is_some() && found.all(|host| self.has(host))
    }

    fn has(&self, host: &str) -> bool {
        let Ok(authority) = host.parse::<Authority>() else {
            return false;
        };
        if host.contains('@') {
            return false;
        }
        let name = authority.host();
        let address = name.trim_start_matches('[').trim_end_matches(']');
        match address.parse::<IpAddr>() {
            Ok(address) if address.is_loopback() || address == self.listen => true,
            Ok(_) | Err(_) => self.has_name(&name.to_ascii_lowercase()),
        }
    }

    fn has_name(&self, name: &str) -> bool {
        name == LOCALHOST || self.names.iter().any(|known| known == name)
    }
}

/// A middleware that refuses a request under a name that is not this service's.
pub async fn check_host(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    match hosts.serve(request.uri(), request.headers()) {
        true => next.run(request).await,
        false => not_served().into_response(),
    }
}

fn not_served() -> Problem {
    let detail = "Host: this service does not have this name; call it as localhost or by the address it \
        listens on, or add the name to the setting http.hosts";
    Problem::new(StatusCode::MISDIRECTED_REQUEST, "HOST_NOT_SERVED", detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn hosts() -> Hosts {
        Hosts::new(IpAddr::from([10, 0, 0, 7]), "shop.example, [fd00::1]").unwrap()
    }

    fn served(target: &str, hosts_sent: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for host in hosts_sent {
            headers.append(header::HOST, HeaderValue::from_str(host).unwrap());
        }
        hosts().serve(&target.parse().unwrap(), &headers)
    }

    #[test]
    fn a_request_under_one_of_our_names_is_served() {
        for host in [
            "localhost",
            "LocalHost:9000",
            "127.0.0.1:8080",
            "127.9.9.9",
            "[::1]:8080",
            "10.0.0.7:8080",
            "shop.example",
            "SHOP.example:443",
            "[fd00::1]:80",
        ] {
            assert!(served("/", &[host]), "not served: {host}");
            assert!(
                served(&format!("http://{host}/"), &[]),
                "not served: {host}"
            );
        }
    }

    #[test]
    fn a_request_under_another_name_is_not_served() {
        for host in [
            "",
            "page.example",
            "page.example:8080",
            "localhost.page.example",
            "127.0.0.1.page.example:8080",
            "localhost@page.example",
            "page.example@localhost",
            "10.0.0.8:8080",
            "a b",
        ] {
            assert!(!served("/", &[host]), "served: {host}");
        }
        assert!(!served("http://page.example/", &[]));
    }

    #[test]
    fn every_name_in_a_request_must_be_one_of_ours() {
        assert!(!served("/", &[]));
        assert!(!served("/", &["localhost", "page.example"]));
        assert!(!served("/", &["localhost", "localhost"]));
        assert!(!served("http://page.example/", &["localhost"]));
        assert!(!served("http://localhost/", &["page.example"]));
    }

    #[test]
    fn an_invalid_host_in_the_setting_is_an_error_that_shows_it() {
        let localhost = IpAddr::from([127, 0, 0, 1]);
        for bad in ["http://shop.example", "shop.example:80", "a b", "x@y"] {
            let error = Hosts::new(localhost, bad).unwrap_err();
            assert_eq!(error.text, bad);
        }
    }
}
