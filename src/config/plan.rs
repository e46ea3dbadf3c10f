//! What may be relied on: a plan cannot be wrong, because only [`director()`] and [`realserver()`] make one.

mod director;
mod realserver;

pub use super::types::{
    Announce, CONNECTIONS_MAX_DEFAULT, CONTROL_DEFAULT, Capture, DirectorPlan, METRICS_DIRECTOR,
    METRICS_REALSERVER, Mss, RealserverPlan, ServiceDefaults, TUN_DIRECTOR, TUN_REALSERVER, name_of,
};
pub use director::{director, director_keys, real_server, virtual_service};
pub use realserver::{realserver, realserver_keys};
