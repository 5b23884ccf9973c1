//! The parts of a URL that validation looks at.
//!
//! ```
//! use kthena_api::url::{InvalidUrl, Url, parse};
//!
//! let Url { host, path, .. } = parse("https://[::1]/v1")?;
//! assert_eq!((host, path), ("::1", "/v1"));
//! assert_eq!(parse("example.com"), Err(InvalidUrl::Scheme));
//! # Ok::<(), InvalidUrl>(())
//! ```

/// A URL, divided but not decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Url<'a> {
    /// What stands before `://`.
    pub scheme: &'a str,
    /// What stands before `@`, where there is one.
    pub user: Option<&'a str>,
    /// Host without port; an IPv6 address without its brackets.
    pub host: &'a str,
    /// Port, where there is one.
    pub port: Option<u16>,
    /// Path, with its leading slash; may be empty.
    pub path: &'a str,
    /// What stands between `?` and `#`; empty for a bare `?`.
    pub query: Option<&'a str>,
    /// What stands behind `#`.
    pub fragment: Option<&'a str>,
}

/// Why a text is not a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// It does not begin with a scheme and `://`.
    #[error("does not begin with a scheme and \"://\"")]
    Scheme,
    /// It contains spaces or control characters.
    #[error("contains spaces or control characters")]
    Character,
    /// A percent sign is not followed by two hexadecimal digits.
    #[error("contains a '%' without two hexadecimal digits behind it")]
    Escape,
    /// The host has characters that no host has.
    #[error("has an invalid host")]
    Host,
    /// The port is not a number up to 65535.
    #[error("has an invalid port")]
    Port,
}

/// Divides an absolute URL into its parts.
///
/// ```
/// use kthena_api::url;
///
/// let url = url::parse("https://api.example.com:8443/v1?beta=1")?;
/// assert_eq!((url.host, url.port, url.path, url.query), ("api.example.com", Some(8443), "/v1", Some("beta=1")));
/// # Ok::<(), url::InvalidUrl>(())
/// ```
pub fn parse(text: &str) -> Result<Url<'_>, InvalidUrl> {
    if text.bytes().any(|b| b.is_ascii_control() || b == b' ') {
        return Err(InvalidUrl::Character);
    }
    let (text_before, fragment) = divide(text, '#');
    let (before, query) = divide(text_before, '?');
    let (scheme, rest) = before.split_once("://").ok_or(InvalidUrl::Scheme)?;
    if !is_scheme(scheme) {
        return Err(InvalidUrl::Scheme);
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (user, address) = match authority.rsplit_once('@') {
        Some((user, address)) => (Some(user), address),
        None => (None, authority),
    };
    let (host, port) = host_and_port(address)?;
    check_escapes(path)?;
    check_escapes(fragment.unwrap_or_default())?;
    Ok(Url {
        scheme,
        user,
        host,
        port,
        path,
        query,
        fragment,
    })
}

/// Whether this begins like a URL or like a path, which is what the API server asks of `format: uri`.
pub(crate) fn is_request_uri(text: &str) -> bool {
    if text.bytes().any(|b| b.is_ascii_control()) {
        return false;
    }
    if text.contains("://") {
        return parse(text).is_ok();
    }
    text.starts_with('/') || text.split_once(':').is_some_and(|(scheme, _)| is_scheme(scheme))
}

fn divide(text: &str, separator: char) -> (&str, Option<&str>) {
    text.split_once(separator)
        .map_or((text, None), |(before, after)| (before, Some(after)))
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

fn host_and_port(address: &str) -> Result<(&str, Option<u16>), InvalidUrl> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or(InvalidUrl::Host)?;
            host.parse::<std::net::Ipv6Addr>()
                .map_err(|_no_address| InvalidUrl::Host)?;
            match rest.strip_prefix(':') {
                Some(port) => (host, port),
                None if rest.is_empty() => (host, ""),
                None => return Err(InvalidUrl::Port),
            }
        }
        None => {
            let (host, port) = divide(address, ':');
            (host, port.unwrap_or_default())
        }
    };
    if host.bytes().any(|b| br#""<>\^`{|}[]"#.contains(&b)) {
        return Err(InvalidUrl::Host);
    }
    check_escapes(host)?;
    if port.is_empty() {
        return Ok((host, None));
    }
    let number = port
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| port.parse().ok())
        .flatten();
    Ok((host, Some(number.ok_or(InvalidUrl::Port)?)))
}

fn check_escapes(text: &str) -> Result<(), InvalidUrl> {
    let complete = text.split('%').skip(1).all(|after| {
        after
            .as_bytes()
            .get(..2)
            .is_some_and(|code| code.iter().all(u8::is_ascii_hexdigit))
    });
    if complete { Ok(()) } else { Err(InvalidUrl::Escape) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_apart() {
        let url = parse("https://user:pass@[::1]:8443/a%20b?q#f").unwrap();
        assert_eq!(
            url,
            Url {
                scheme: "https",
                user: Some("user:pass"),
                host: "::1",
                port: Some(8443),
                path: "/a%20b",
                query: Some("q"),
                fragment: Some("f"),
            }
        );
        assert_eq!(parse("https://x/v1?").unwrap().query, Some(""));
        assert_eq!(parse("https://x:").unwrap().port, None);
        assert_eq!(parse("https:///v1").unwrap().host, "");
    }

    #[test]
    fn what_is_no_url_is_refused() {
        let check = |text: &str, error: InvalidUrl| assert_eq!(parse(text), Err(error), "{text}");
        check("api.example.com", InvalidUrl::Scheme);
        check("1https://x", InvalidUrl::Scheme);
        check("https://a b", InvalidUrl::Character);
        check("https://a\n", InvalidUrl::Character);
        check("https://x/%zz", InvalidUrl::Escape);
        check("https://x:port", InvalidUrl::Port);
        check("https://x:70000", InvalidUrl::Port);
        check("https://[::1", InvalidUrl::Host);
        check("https://[x]", InvalidUrl::Host);
        check("https://[::1]8", InvalidUrl::Port);
        check("https://a{b}", InvalidUrl::Host);
    }

    #[test]
    fn request_uris_are_urls_or_paths() {
        for text in ["http://prometheus:9090", "prometheus:9090", "/metrics"] {
            assert!(is_request_uri(text), "{text}");
        }
        for text in ["prometheus", "", "http://a b", "1:2"] {
            assert!(!is_request_uri(text), "{text}");
        }
    }
}
