//! Decides how a packet travels to the real server that was chosen for it.

use super::super::cluster::ClusterConfig;
use super::super::real_server::RealServer;
use super::size::{self, Shape, Unfit};
use super::{Fit, Memory, Route};
use crate::time::Moment;

/// The route of a packet of this shape to this real server.
///
/// # Errors
/// If the packet must be neither sent as it is nor cut.
pub fn decide(
    real_server: &RealServer,
    memory: Memory,
    config: &ClusterConfig,
    shape: &Shape,
    now: Moment,
) -> Result<Route, Unfit> {
    let route = Route {
        virtual_service: real_server.virtual_service,
        real_server: real_server.slot,
        memory,
        encapsulation: real_server.encapsulation,
        source: real_server.path.source,
        rip: real_server.rip,
        ttl: config.ttl,
        decrements_ttl: config.decrements_ttl,
        ignores_df: config.ignores_df,
        path_mtu: real_server.path_mtu(now),
        fit: Fit::Whole,
    };
    Ok(Route { fit: size::judge(&route, shape)?, ..route })
}
