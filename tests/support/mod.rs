//! What several tests share. Each uses a part of it.

#![allow(dead_code, reason = "no test uses all of it")]

pub mod clients;
pub mod fields;
pub mod markdown;
pub mod packets;
pub mod world;
