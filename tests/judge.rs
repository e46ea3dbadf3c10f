//! The judgement of health in simulated time: what outcomes make of real servers and virtual services.

#[path = "judge/checks.rs"]
mod checks;
#[path = "judge/world.rs"]
mod world;
