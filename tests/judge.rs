//! The judgement of health in simulated time: what outcomes make of real servers and virtual services.

#[path = "judge/checks.rs"]
mod checks;
#[path = "judge/flapping.rs"]
mod flapping;
#[path = "judge/model.rs"]
mod model;
#[path = "judge/places.rs"]
mod places;
#[path = "judge/reload.rs"]
mod reload;
#[path = "judge/scale.rs"]
mod scale;
#[path = "judge/services.rs"]
mod services;
#[path = "judge/signals.rs"]
mod signals;
#[path = "judge/start.rs"]
mod start;
#[path = "judge/world.rs"]
mod world;
