//! A `director.toml` under construction: its blocks in their order. [`super::write`] turns it into text.

use std::net::IpAddr;

use super::check::Check;
pub use super::entry::{Block, Entry, Place, Remark, Value};
use crate::director::cluster::Matcher;

/// A `[[virtual_service.real_server]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The line that names it.
    pub origin: Remark,
    /// Its address.
    pub rip: IpAddr,
    /// Its keys, without `rip` and `check`.
    pub block: Block,
    /// Its checks.
    pub checks: Vec<Check>,
    /// It serves only while quorum is lost, and is never checked.
    pub is_sorry: bool,
    /// It is written as a comment.
    pub is_disabled: bool,
    /// Commands of its own.
    pub hooks: Vec<Hook>,
}

impl Server {
    /// A real server without keys.
    pub fn new(origin: Remark, rip: IpAddr) -> Server {
        let (block, checks, hooks) = (Block::default(), Vec::new(), Vec::new());
        Server { origin, rip, block, checks, is_sorry: false, is_disabled: false, hooks }
    }

    /// Writes it as a comment, for this reason.
    pub fn disable(&mut self, reason: impl Into<String>) {
        self.block.lose(Remark { reason: reason.into(), ..self.origin.clone() });
        self.is_disabled = true;
    }
}

/// What a virtual service receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receives {
    /// Packets that this program can match.
    Packets(Matcher),
    /// Something else, in the words of its comment: keys with their texts.
    Other(Vec<(&'static str, Value)>),
}

/// A `[[virtual_service]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The line that begins it.
    pub origin: Remark,
    /// What it receives.
    pub receives: Receives,
    /// Its other keys.
    pub block: Block,
    /// Its real servers.
    pub servers: Vec<Server>,
    /// Remarks behind its real servers.
    pub end: Block,
    /// It is written as a comment.
    pub is_disabled: bool,
    /// Commands of its own.
    pub hooks: Vec<Hook>,
}

impl Service {
    /// A virtual service without keys.
    pub fn new(origin: Remark, receives: Receives) -> Service {
        let (block, end) = (Block::default(), Block::default());
        Service { origin, receives, block, servers: Vec::new(), end, is_disabled: false, hooks: Vec::new() }
    }

    /// Writes it as a comment, for this reason.
    pub fn disable(&mut self, reason: impl Into<String>) {
        self.block.entries.insert(0, Entry::Loss(Remark { reason: reason.into(), ..self.origin.clone() }));
        self.is_disabled = true;
    }
}

/// A command for a change of state.
#[derive(Clone, Debug)]
pub struct Hook {
    /// The line that it comes from.
    pub origin: Remark,
    /// The word for `when`.
    pub when: &'static str,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The user that runs it.
    pub user: Option<String>,
    /// Whether it runs at the end of the program, too.
    pub at_stop: bool,
}

impl PartialEq for Hook {
    fn eq(&self, other: &Hook) -> bool {
        let of = |hook: &Hook| (hook.when, hook.command.clone(), hook.user.clone(), hook.at_stop);
        of(self) == of(other)
    }
}

impl Eq for Hook {}

/// A part of the file below its top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// Remarks.
    Remarks(Block),
    /// A virtual service.
    Service(Box<Service>),
}

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    /// The keys above the first virtual service.
    pub top: Block,
    /// In their order.
    pub items: Vec<Item>,
}

impl Draft {
    /// The virtual services.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.items.iter().filter_map(|item| match item {
            Item::Service(service) => Some(&**service),
            Item::Remarks(_) => None,
        })
    }

    /// The virtual services.
    pub fn services_mut(&mut self) -> impl Iterator<Item = &mut Service> {
        self.items.iter_mut().filter_map(|item| match item {
            Item::Service(service) => Some(&mut **service),
            Item::Remarks(_) => None,
        })
    }

    /// Adds a remark behind what is there.
    pub fn lose(&mut self, remark: Remark) {
        match self.items.last_mut() {
            Some(Item::Remarks(block)) => block.lose(remark),
            _ => {
                let mut block = Block::default();
                block.lose(remark);
                self.items.push(Item::Remarks(block));
            }
        }
    }

    /// Everything that was not converted, in the order of the result.
    pub fn losses(&self) -> Vec<Remark> {
        let mut losses: Vec<Remark> = self.top.losses().cloned().collect();
        for item in &self.items {
            match item {
                Item::Remarks(block) => losses.extend(block.losses().cloned()),
                Item::Service(service) => {
                    losses.extend(service.block.losses().cloned());
                    losses.extend(service.servers.iter().flat_map(|server| server.block.losses().cloned()));
                    losses.extend(service.end.losses().cloned());
                }
            }
        }
        losses
    }
}
