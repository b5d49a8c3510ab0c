//! Where to listen, as people write it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The address that `text` means: `ADDR:PORT`, or a port of this machine's loopback as `PORT`, `:PORT` or `localhost:PORT`.
/// Port 0 is any that is free.
///
/// # Errors
/// When it is none of these; says what is missing.
pub fn parse(text: &str) -> Result<SocketAddr, String> {
    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        let whole = SocketAddr::new(ip, 9793);
        return Err(format!("{text} names no port; write {whole} for example"));
    }
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let port: u16 = port.parse().map_err(|_| {
        format!("\"{port}\" is no port, 0 to 65535; write 127.0.0.1:9793 or 9793 for example")
    })?;
    match host {
        "" | "localhost" => Ok(SocketAddr::new(LOOPBACK, port)),
        _ => Err(format!(
            "\"{host}\" is no IP address; write one of this machine's, 0.0.0.0 for all, or leave it out for loopback"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_meant_unless_another_address_is_named() {
        for (text, meant) in [
            ("9793", "127.0.0.1:9793"),
            (":9793", "127.0.0.1:9793"),
            ("localhost:0", "127.0.0.1:0"),
            ("0.0.0.0:80", "0.0.0.0:80"),
            ("[::1]:9793", "[::1]:9793"),
        ] {
            assert_eq!(parse(text), Ok(meant.parse().expect(meant)), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_told_with_what_would_be() {
        for (text, told) in [
            ("127.0.0.1", "names no port; write 127.0.0.1:9793"),
            ("::1", "names no port; write [::1]:9793"),
            ("70000", "\"70000\" is no port, 0 to 65535"),
            ("127.0.0.1:", "\"\" is no port"),
            ("", "\"\" is no port"),
            ("http", "\"http\" is no port"),
            ("example.org:80", "\"example.org\" is no IP address"),
            ("256.0.0.1:80", "\"256.0.0.1\" is no IP address"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
