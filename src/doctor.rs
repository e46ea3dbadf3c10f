//! What is wrong with a host, from facts that the room `survey` collected: each item judges one thing and reports what
//! was found and what to type. Pure.
//!
//! An item is one file and one row of its role's table: [`director_items::ITEMS`] and [`realserver_items::ITEMS`].

#[cfg(test)]
mod bed;
pub mod director_items;
pub mod facts;
pub mod finding;
pub mod firewall;
pub mod leftovers;
pub mod realserver_items;
pub mod reported;
pub mod samples;

pub use facts::{Director, Host, Realserver};
pub use finding::{Finding, Item, Level, Report};
