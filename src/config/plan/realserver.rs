//! `realserver.toml` → [`RealserverPlan`].

use std::net::IpAddr;

use ipnet::IpNet;
use toml::Spanned;

use super::super::file::{self, RealserverFile};
use super::super::{ConfigError, Source, clipped};
use super::{METRICS_REALSERVER, Mss, RealserverPlan, TUN_REALSERVER, words};
use crate::packet::Protocol;
use crate::realserver::guard::{GuardConfig, Service};
use crate::realserver::mss::{MSS_MAX, MSS_MIN};

/// Reads a real server's configuration. `vips` and `directors` (from the command line) are added to the
/// file's; `is_insecure` allows a prefix that includes everybody.
///
/// # Errors
/// The first error, with its line.
pub fn realserver(
    source: &Source,
    vips: &[String],
    directors: &[String],
    is_insecure: bool,
) -> Result<RealserverPlan, ConfigError> {
    let file: RealserverFile = file::parse(source)?;
    let unplaced =
        |words: &[String]| words.iter().map(|word| Spanned::new(0..0, word.clone())).collect::<Vec<_>>();
    let given = Source { name: "command line", text: "" };
    let mut plan_vips = addresses(source, "vips", &file.vips)?;
    let more = addresses(&given, "--vip", &unplaced(vips)).map_err(without_line)?;
    let more: Vec<IpAddr> = more.into_iter().filter(|vip| !plan_vips.contains(vip)).collect();
    plan_vips.extend(more);
    let mut plan_directors = prefixes(source, "directors", &file.directors, is_insecure)?;
    let more = prefixes(&given, "--director", &unplaced(directors), is_insecure).map_err(without_line)?;
    let more: Vec<IpNet> = more.into_iter().filter(|prefix| !plan_directors.contains(prefix)).collect();
    plan_directors.extend(more);
    if plan_vips.is_empty() {
        let message =
            "no VIP given; a real server serves only the VIPs listed: vips = [\"172.25.3.100\"] or --vip";
        return Err(source.error_whole(message));
    }
    if plan_directors.is_empty() {
        let message = "no director given; only directors may send encapsulated packets and there is no \
                       default: directors = [\"172.25.3.1\"] or --director";
        return Err(source.error_whole(message));
    }
    if let Some(vip) = plan_vips.iter().find(|vip| plan_directors.iter().any(|d| d.addr() == **vip)) {
        return Err(
            source.error_whole(format!("{vip} is given as a VIP and as a director; it can only be one"))
        );
    }
    let rips = addresses(source, "rips", &file.rips)?;
    if let Some(rip) = rips.iter().find(|rip| plan_vips.contains(rip)) {
        return Err(source.error_whole(format!("{rip} is given as a VIP and as a RIP; it can only be one")));
    }
    let services = file.services.iter().map(|word| service(source, word)).collect::<Result<Vec<_>, _>>()?;
    let mss = file.mss.as_ref().map(|value| mss(source, value)).transpose()?;
    let tun = file.tun.as_ref().map(|word| words::interface(source, "tun", word)).transpose()?;
    let metrics = file.metrics.as_ref().map(|word| words::listen(source, "metrics", word)).transpose()?;
    Ok(RealserverPlan {
        tun: tun.unwrap_or_else(|| TUN_REALSERVER.to_owned()),
        metrics: metrics
            .unwrap_or_else(|| METRICS_REALSERVER.parse().expect("because the constant is an address")),
        mss: mss.unwrap_or(Mss::Auto),
        guard: GuardConfig { vips: plan_vips, directors: plan_directors, rips, services },
    })
}

fn without_line(error: ConfigError) -> ConfigError {
    ConfigError { line: None, ..error }
}

fn addresses(source: &Source, key: &str, written: &[Spanned<String>]) -> Result<Vec<IpAddr>, ConfigError> {
    let mut found: Vec<IpAddr> = Vec::new();
    for word in written {
        let address = words::address_v4(source, key, word)?.into();
        if found.contains(&address) {
            return Err(source.error(word.span(), format!("{key}: {address} is listed twice; remove one")));
        }
        found.push(address);
    }
    Ok(found)
}

fn prefixes(
    source: &Source,
    key: &str,
    written: &[Spanned<String>],
    is_insecure: bool,
) -> Result<Vec<IpNet>, ConfigError> {
    let mut found = Vec::new();
    for word in written {
        let prefix = prefix(source, key, word, is_insecure)?;
        if found.contains(&prefix) {
            let message = format!("{key}: {} is listed twice; remove one", words::quoted(word.get_ref()));
            return Err(source.error(word.span(), message));
        }
        found.push(prefix);
    }
    Ok(found)
}

/// Who may send encapsulated packets: one address, or a prefix that does not include everybody.
fn prefix(
    source: &Source,
    key: &str,
    word: &Spanned<String>,
    is_insecure: bool,
) -> Result<IpNet, ConfigError> {
    /// RFC 1918: 10.0.0.0/8 is the largest block that a private network can use.
    const PREFIX_LENGTH_MIN: u8 = 8;
    let text = word.get_ref();
    let refuse = |what: &str| source.error(word.span(), format!("{key} = {}: {what}", words::quoted(text)));
    let address = |address: String| words::address_v4(source, key, &Spanned::new(word.span(), address));
    if text.parse::<IpAddr>().is_ok() {
        return Ok(IpNet::from(IpAddr::V4(address(text.clone())?)));
    }
    let prefix = text.parse::<IpNet>().map_err(|_| {
        refuse("expected an IPv4 address or prefix, such as \"172.25.3.1\" or \"10.0.0.0/24\"")
    })?;
    let prefix = prefix.trunc();
    if prefix.prefix_len() < PREFIX_LENGTH_MIN {
        return if is_insecure {
            Ok(prefix)
        } else {
            Err(refuse(
                "lets anybody inject packets (CVE-2020-10136); list the directors, or add --insecure if the network \
                 is trusted",
            ))
        };
    }
    address(prefix.addr().to_string()).map_err(|_| {
        refuse("no director can have an address in this prefix; expected unicast IPv4 addresses")
    })?;
    Ok(prefix)
}

fn mss(source: &Source, written: &Spanned<toml::Value>) -> Result<Mss, ConfigError> {
    match written.get_ref() {
        toml::Value::String(word) if word == "auto" => Ok(Mss::Auto),
        toml::Value::String(word) if word == "off" => Ok(Mss::Off),
        toml::Value::Integer(mss) if (MSS_MIN.into()..=MSS_MAX.into()).contains(mss) => {
            Ok(Mss::Fixed(*mss as u16))
        }
        other => {
            let message = format!(
                "mss = {}: expected \"auto\", \"off\" or a number of bytes from {MSS_MIN} to {MSS_MAX}",
                clipped(&other.to_string())
            );
            Err(source.error(written.span(), message))
        }
    }
}

/// "tcp/80".
fn service(source: &Source, written: &Spanned<String>) -> Result<Service, ConfigError> {
    let word = written.get_ref();
    let parsed = word.split_once('/').and_then(|(protocol, port)| {
        let protocol = [Protocol::Tcp, Protocol::Udp].into_iter().find(|p| p.name() == protocol)?;
        let port = port.parse::<u16>().ok().filter(|port| *port > 0)?;
        Some(Service { protocol, port })
    });
    parsed.ok_or_else(|| {
        let message = format!(
            "services: {}: expected PROTOCOL/PORT, such as \"tcp/80\" or \"udp/53\"",
            words::quoted(word)
        );
        source.error(written.span(), message)
    })
}
