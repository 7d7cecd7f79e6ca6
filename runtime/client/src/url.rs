//! `millstream://HOST[:PORT]?ca=FILE` or `?pin=sha256:HEX`: where a broker is and why to trust it.

use std::{fmt, path::PathBuf, str::FromStr};

use millstream_wire::DEFAULT_PORT;

const SCHEME: &str = "millstream://";
const FORM: &str = "write millstream://HOST[:PORT]?ca=FILE or millstream://HOST[:PORT]?pin=sha256:HEX, as \
                    `millstream serve` prints it and keeps it in DIR/client.url";

/// Why a text is not the URL of a broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("broker URL {value:?} {fault}; {FORM}")]
pub struct UrlError {
    value: String,
    fault: String,
}

/// Where a broker is and why to trust it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    host: String,
    port: u16,
    trust: Trust,
}

/// How the broker's certificate is recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// It is signed by a certificate in this PEM file, and made for the URL's host.
    CaFile(PathBuf),
    /// Its DER form has this SHA-256; host and dates do not matter.
    Pin([u8; 32]),
}

impl Url {
    /// A URL from its parts.
    pub fn new(host: impl Into<String>, port: u16, trust: Trust) -> Self {
        Self { host: host.into(), port, trust }
    }

    /// Host name or address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// UDP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How the broker's certificate is recognised.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// `HOST:PORT`, with brackets where the host is an IPv6 address.
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        parse(text.trim()).map_err(|fault| UrlError { value: text.chars().take(300).collect(), fault })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.authority())?;
        match &self.trust {
            Trust::CaFile(path) => write!(f, "?ca={}", percent_encode(&path.to_string_lossy())),
            Trust::Pin(digest) => write!(f, "?pin=sha256:{}", hex::encode(digest)),
        }
    }
}

fn parse(text: &str) -> Result<Url, String> {
    let rest = text.strip_prefix(SCHEME).ok_or("does not start with millstream://")?;
    let (authority, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (host, port) = parse_authority(authority.strip_suffix('/').unwrap_or(authority))?;
    Ok(Url { host, port, trust: parse_query(query)? })
}

fn parse_authority(authority: &str) -> Result<(String, u16), String> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or("has a [ without a ]")?;
            let port = match after {
                "" => None,
                after => Some(after.strip_prefix(':').ok_or("has text between ] and the port")?),
            };
            (host, port)
        }
        None => match authority.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err("has an IPv6 address without brackets: write [::1]".into());
            }
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if host.is_empty() {
        return Err("has no host".into());
    }
    if let Some(odd) =
        host.chars().find(|c| c.is_whitespace() || c.is_control() || matches!(c, '/' | '@' | '#'))
    {
        return Err(format!("has {odd:?} in its host"));
    }
    let port = match port {
        None => DEFAULT_PORT,
        Some(text) => match text.parse() {
            Ok(port) if port != 0 => port,
            _ => return Err(format!("has the port {text:?}, which is not a number from 1 to 65535")),
        },
    };
    Ok((host.to_owned(), port))
}

fn parse_query(query: &str) -> Result<Trust, String> {
    let mut trust = None;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let found = match name {
            "ca" if value.is_empty() => return Err("has ?ca= without a file".into()),
            "ca" => Trust::CaFile(PathBuf::from(percent_decode(value)?)),
            "pin" => Trust::Pin(parse_pin(value)?),
            other => return Err(format!("has the parameter {other:?}, which is not known")),
        };
        if trust.replace(found).is_some() {
            return Err("says twice what to trust".into());
        }
    }
    trust.ok_or_else(|| "does not say which certificate to trust".into())
}

fn parse_pin(value: &str) -> Result<[u8; 32], String> {
    let digits = value.strip_prefix("sha256:").ok_or("has a pin that does not start with sha256:")?;
    let mut digest = [0; 32];
    hex::decode_to_slice(digits, &mut digest)
        .map_err(|_| "has a pin that is not 64 hexadecimal digits".to_owned())?;
    Ok(digest)
}

fn percent_decode(value: &str) -> Result<String, String> {
    let mut out = Vec::with_capacity(value.len());
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        match (digit(bytes.next()), digit(bytes.next())) {
            (Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).expect("two digits of base 16"))
            }
            _ => return Err("has a % without two hexadecimal digits: write %25 for %".into()),
        }
    }
    String::from_utf8(out).map_err(|_| "has a file name that is not UTF-8".into())
}

fn percent_encode(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for c in path.chars() {
        match c {
            '%' | '&' | '#' | '?' | ' ' | '\'' | '"' => {
                out.push_str(&format!("%{:02X}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIN: &str = "pin=sha256:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    #[test]
    fn round_trips() {
        for (text, host, port) in [
            ("millstream://localhost?ca=/tmp/ca.pem".to_owned(), "localhost", 7433),
            (format!("millstream://127.0.0.1:9000?{PIN}"), "127.0.0.1", 9000),
            (format!("millstream://[::1]:9000/?{PIN}"), "::1", 9000),
            ("millstream://h?ca=a%20b%26c%25.pem".to_owned(), "h", 7433),
        ] {
            let url: Url = text.parse().unwrap();
            assert_eq!((url.host(), url.port()), (host, port), "{text}");
            assert_eq!(url.to_string().parse::<Url>().unwrap(), url, "{text}");
        }
        let url: Url = "millstream://h?ca=a%20b%26c%25.pem".parse().unwrap();
        assert_eq!(url.trust(), &Trust::CaFile("a b&c%.pem".into()));
    }

    #[test]
    fn faults_name_the_value_and_the_remedy() {
        for (text, fault) in [
            ("http://h?ca=x", "does not start"),
            ("millstream://h", "does not say which certificate"),
            ("millstream://?ca=x", "no host"),
            ("millstream://h:0?ca=x", "port \"0\""),
            ("millstream://h:x?ca=x", "port \"x\""),
            ("millstream://::1?ca=x", "brackets"),
            ("millstream://h?ca=", "without a file"),
            ("millstream://h?pin=abc", "sha256:"),
            ("millstream://h?pin=sha256:abc", "64 hexadecimal"),
            ("millstream://h?ca=a&pin=sha256:abc", "64 hexadecimal"),
            ("millstream://h?ca=a&ca=b", "twice"),
            ("millstream://h?cafile=a", "\"cafile\""),
            ("millstream://h?ca=%zz", "%25"),
        ] {
            let error = text.parse::<Url>().unwrap_err().to_string();
            assert!(error.contains(fault), "{text}: {error}");
            assert!(error.contains(text) && error.contains("client.url"), "{error}");
        }
    }
}
