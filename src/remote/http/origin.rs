//! Where requests may go: the service's own origin, and the links that its answers name.
//!
//! Credentials go to the API's origin only. A link from an answer is believed if its scheme is no
//! weaker than the API's and its host is the service's or at least public; the addresses that a
//! name resolves to are checked at the moment of connecting, so a second look-up cannot differ.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::remote::{ErrorKind, RemoteError, Result};

/// The origins of one account.
#[derive(Clone, Debug)]
pub struct Origins {
    api: Url,
    /// Domains of the service; their subdomains belong to them.
    domains: Vec<String>,
    private_allowed: bool,
}

impl Origins {
    /// `private_allowed` also holds by itself if the API is at a private address.
    pub fn new(api: Url, domains: &[&str], private_allowed: bool) -> Origins {
        let private_allowed = private_allowed || is_private_host(&api);
        let domains = domains.iter().map(|d| (*d).to_owned()).collect();
        Origins { api, domains, private_allowed }
    }

    pub fn api(&self) -> &Url {
        &self.api
    }

    pub fn private_allowed(&self) -> bool {
        self.private_allowed
    }

    /// Whether credentials of the account may be sent there.
    pub fn is_api(&self, url: &Url) -> bool {
        url.origin() == self.api.origin()
    }

    /// Whether the host is the service's own, though perhaps not the API's.
    pub fn is_service(&self, url: &Url) -> bool {
        if url.host_str() == self.api.host_str() {
            return true;
        }
        let Some(Host::Domain(host)) = url.host() else { return false };
        self.domains.iter().any(|domain| {
            host.strip_suffix(domain.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    }

    /// Checks a link that an answer of the service contains. The error does not repeat it.
    pub fn admit(&self, link: &str) -> Result<Url> {
        let refuse = |why: &str| {
            let context = format!("the service named an address that is not used: {why}");
            Err(RemoteError::new(ErrorKind::Protocol, context))
        };
        let Ok(url) = Url::parse(link) else { return refuse("not a link") };
        match (url.scheme(), self.api.scheme()) {
            ("https", _) | ("http", "http") => {}
            ("http", _) => return refuse("plain http, while the service itself uses https"),
            _ => return refuse("neither http nor https"),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("it carries a user name");
        }
        if url.host_str().is_none_or(str::is_empty) {
            return refuse("no host");
        }
        if is_private_host(&url) && !self.private_allowed && url.host_str() != self.api.host_str() {
            return refuse("a private network");
        }
        Ok(url)
    }
}

/// Whether the host is, without asking anybody, not on the public internet.
fn is_private_host(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => is_private(IpAddr::V4(ip)),
        Some(Host::Ipv6(ip)) => is_private(IpAddr::V6(ip)),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        None => false,
    }
}

/// Loopback, private, link-local and every other address that no public service has.
pub fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_private_v4(ip),
        IpAddr::V6(ip) => is_private_v6(ip),
    }
}

fn is_private_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_broadcast()
        || ip.is_documentation()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19))
}

fn is_private_v6(ip: Ipv6Addr) -> bool {
    let segments = ip.segments();
    // Addresses that carry a v4 address are as private as that one.
    let embedded = match segments {
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] => Some((high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some((high, low)),
        [0x2002, high, low, ..] => Some((high, low)),
        _ => None,
    };
    if let Some((high, low)) = embedded {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        return is_private_v4(Ipv4Addr::new(a, b, c, d));
    }
    let first = segments[0];
    first & 0xfe00 == 0xfc00
        || first & 0xffc0 == 0xfe80
        || first & 0xff00 == 0xff00
        || (first == 0x2001 && segments[1] == 0x0db8)
        || ip.is_loopback()
        || ip.is_unspecified()
}

/// Resolves names to public addresses only.
#[derive(Debug)]
pub(super) struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|at| !is_private(at.ip())).collect();
            if public.is_empty() {
                let refused = io::Error::other("the name belongs to a private network");
                return Err(refused.into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(api: &str) -> Origins {
        Origins::new(Url::parse(api).unwrap(), &["disk.top", "disk-api.com"], false)
    }

    // SE-15
    #[test]
    fn a_link_into_a_private_network_or_another_scheme_is_refused() {
        let origins = origins("https://openapi.disk.top");
        for link in [
            "http://169.254.169.254/latest",
            "https://169.254.169.254/latest",
            "https://127.0.0.1:6379/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://[64:ff9b::7f00:1]/",
            "https://[fd00::1]/",
            "https://localhost/",
            "https://db.localhost./",
            "https://100.64.0.1/",
            "https://user:pw@dl.disk-api.com/",
            "http://dl.disk-api.com/",
            "file:///etc/passwd",
            "unix:/run/x",
            "ftp://dl.disk-api.com/",
            "//dl.disk-api.com/",
            "",
        ] {
            assert!(origins.admit(link).is_err(), "{link}");
        }
    }

    #[test]
    fn links_of_the_service_and_public_ones_are_used() {
        let origins = origins("https://openapi.disk.top");
        for link in
            ["https://openapi-upload.disk.top", "https://dl.disk-api.com/a", "https://1.1.1.1/a"]
        {
            assert!(origins.admit(link).is_ok(), "{link}");
        }
    }

    #[test]
    fn a_private_api_may_name_private_addresses() {
        let origins = origins("http://127.0.0.1:8081");
        assert!(origins.admit("http://127.0.0.1:9000/x").is_ok());
        assert!(origins.admit("ftp://127.0.0.1:9000/x").is_err());
    }

    // SE-17
    #[test]
    fn only_the_api_origin_gets_credentials() {
        let origins = origins("https://openapi.disk.top");
        let url = |text: &str| Url::parse(text).unwrap();
        assert!(origins.is_api(&url("https://openapi.disk.top/v1")));
        assert!(!origins.is_api(&url("https://openapi.disk.top:8443/v1")));
        assert!(!origins.is_api(&url("http://openapi.disk.top/v1")));
        assert!(origins.is_service(&url("https://openapi-upload.disk.top/u")));
        assert!(!origins.is_service(&url("https://evil-disk.top/u")));
        assert!(!origins.is_service(&url("https://disk.top.evil.example/u")));
    }

    // SE-15
    #[tokio::test]
    async fn a_name_that_resolves_to_a_private_address_is_not_connected_to() {
        let refused = PublicOnly.resolve("localhost".parse().unwrap()).await;
        assert!(refused.is_err());
    }
}
