//! Valid configurations: only [`director()`] and [`realserver()`] create plans, so a plan is always valid.

mod director_plan;
mod realserver_plan;

pub use super::types::{
    AnnounceSetting, CONNECTIONS_MAX_DEFAULT, CONTROL_DEFAULT, CONTROL_REALSERVER, CaptureSetting,
    DirectorPlan, METRICS_DIRECTOR, METRICS_REALSERVER, MssSetting, RealserverPlan, ServiceDefaults,
    TUN_DIRECTOR, TUN_REALSERVER, default_service_name,
};
pub use director_plan::{check_director, director, director_keys, real_server, virtual_service};
pub use realserver_plan::{check_realserver, realserver, realserver_keys};

use super::ConfigError;

/// The result with the first error only. There is at least one.
fn first<T>(checked: Result<T, Vec<ConfigError>>) -> Result<T, ConfigError> {
    checked.map_err(|errors| errors.into_iter().next().expect("because a failed check has an error"))
}

/// The value, unless there are errors.
fn unless_wrong<T>(value: T, errors: Vec<ConfigError>) -> Result<T, Vec<ConfigError>> {
    if errors.is_empty() { Ok(value) } else { Err(errors) }
}
