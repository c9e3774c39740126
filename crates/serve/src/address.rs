//! Listening addresses in Go's spelling: `0.0.0.0:10901`, `:10901`, `[::1]:0`, `localhost:9090`.

use std::net::TcpListener;

use crate::{Error, Kind, Result};

/// Binds at once, so that the caller knows the port when it asked for port 0. An empty host means
/// every interface, IPv6 included where the machine has it.
pub(crate) fn bind(address: &str) -> Result<TcpListener> {
    let (host, port) = split(address).ok_or_else(|| {
        let text = format!("address {address:?}: expected host:port or :port");
        Error::new(Kind::Invalid, text)
    })?;
    let listener = if host.is_empty() {
        TcpListener::bind(("::", port)).or_else(|_| TcpListener::bind(("0.0.0.0", port)))
    } else {
        TcpListener::bind((host, port))
    };
    let listen_error = |e| Error::caused(Kind::Unavailable, format!("listen on {address:?}"), e);
    let listener = listener.map_err(listen_error)?;
    listener.set_nonblocking(true).map_err(listen_error)?;
    Ok(listener)
}

fn split(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    Some((host, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_spellings_are_understood() {
        assert_eq!(split(":10901"), Some(("", 10901)));
        assert_eq!(split("0.0.0.0:10902"), Some(("0.0.0.0", 10902)));
        assert_eq!(split("[::1]:0"), Some(("::1", 0)));
        assert_eq!(split("::1:0"), None);
        assert_eq!(split("localhost"), None);
        assert_eq!(split("localhost:http"), None);
    }

    #[test]
    fn port_zero_gets_a_port() {
        let listener = bind("127.0.0.1:0").unwrap();
        assert_ne!(listener.local_addr().unwrap().port(), 0);
    }

    #[test]
    fn a_taken_port_is_an_error_that_names_the_address() {
        let first = bind("127.0.0.1:0").unwrap();
        let address = first.local_addr().unwrap().to_string();
        assert!(bind(&address).unwrap_err().to_string().contains(&address));
    }
}
