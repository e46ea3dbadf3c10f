//! Valid configurations: only [`director()`] and [`realserver()`] create plans, so a plan is always valid.

mod director;
mod realserver;

pub use super::types::{
    AnnounceSetting, CONNECTIONS_MAX_DEFAULT, CONTROL_DEFAULT, CaptureSetting, DirectorPlan,
    METRICS_DIRECTOR, METRICS_REALSERVER, MssSetting, RealserverPlan, ServiceDefaults, TUN_DIRECTOR,
    TUN_REALSERVER, default_service_name,
};
pub use director::{director, director_keys, real_server, virtual_service};
pub use realserver::{realserver, realserver_keys};
