//! `-L -c`: connections and templates, one row each (print_conn() in ipvsadm.c).

use std::net::{IpAddr, Ipv4Addr};

use super::names::{Names, place_text, port_text};
use super::served::transport_of;
use crate::control::model::{Connection, Protocol};

/// The header lines. There are no persistence engines; `--persistent-conn` shows their columns anyway.
pub fn header(has_persistence_engines: bool) -> String {
    let engines = if has_persistence_engines {
        format!(" {:<18} {:<16} {}", "destination", "pe name", "pe_data")
    } else {
        " destination".to_owned()
    };
    let (state, source, virtual_) = ("state", "source", "virtual");
    format!("IPVS connection entries\npro expire {state:<11} {source:<18} {virtual_:<18}{engines}\n")
}

/// One row, with its line feed.
pub fn row(connection: &Connection, names: &dyn Names) -> String {
    let protocol = match connection.protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
    };
    let transport = transport_of(connection.protocol);
    let place = |address: IpAddr, port: u16| place_text(address, &port_text(port, transport, names), names);
    let expire = format!("{:02}:{:02}", connection.expires_in / 60, connection.expires_in % 60);
    let source = place(connection.client, connection.client_port);
    let vip = place(connection.vip, connection.vip_port);
    // A removed real server of which no record is left has no address.
    let rip = connection.rip.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    let destination = place(rip, connection.vip_port);
    format!("{protocol:<3} {expire:<6} {:<11} {source:<18} {vip:<18} {destination}\n", connection.state)
}
