//! Decides how a packet travels to the real server that was chosen for it.

use super::super::cluster::ClusterConfig;
use super::super::real_server::RealServer;
use super::size::{self, Limits, Shape, Unfit};
use super::{FoundBy, Route, Tracking, Way, Wrapping};
use crate::time::Moment;

/// The real server of a packet, and how it was found.
#[derive(Clone, Copy)]
pub struct Choice<'a> {
    /// Of the snapshot by which the packet is decided.
    pub real_server: &'a RealServer,
    /// Whether the connection has an entry now.
    pub tracking: Tracking,
    /// Entry, template, scheduler or another record.
    pub found_by: FoundBy,
}

/// The route of a packet of this shape to the real server that was chosen for it.
///
/// # Errors
/// If the packet must be neither sent as it is nor cut.
#[inline]
pub fn decide(choice: &Choice, config: &ClusterConfig, shape: &Shape, now: Moment) -> Result<Route, Unfit> {
    let Choice { real_server, tracking, found_by } = *choice;
    let way = match real_server.is_local {
        true => Way::Local,
        false => Way::Wrapped(wrapping(real_server, config, shape, now)?),
    };
    Ok(Route {
        virtual_service: real_server.virtual_service,
        real_server: real_server.slot,
        tracking,
        found_by,
        rip: real_server.rip,
        way,
    })
}

#[inline]
fn wrapping(
    real_server: &RealServer,
    config: &ClusterConfig,
    shape: &Shape,
    now: Moment,
) -> Result<Wrapping, Unfit> {
    let (encapsulation, path_mtu) = (real_server.config.encapsulation, real_server.path_mtu(now));
    let limits = Limits { path_mtu, overhead: encapsulation.overhead, ignores_df: config.ignores_df };
    let fit = size::judge(&limits, shape)?;
    Ok(Wrapping {
        encapsulation,
        source: real_server.path.source,
        rip: real_server.rip,
        ttl: config.ttl,
        decrements_ttl: config.decrements_ttl,
        ignores_df: config.ignores_df,
        path_mtu,
        fit,
    })
}
