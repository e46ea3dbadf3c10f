//! What the host's packet filter does with a packet, from its rules alone.
//!
//! A condition that cannot be evaluated here (marks, sets of other programs, rate limits) makes the rule one that may or
//! may not match; then both continuations are followed, and the verdict is [`Verdict::Unknown`] unless they agree.
//! Chains of type `nat` are not evaluated: they do not drop.

pub mod evaluate;
pub mod gate;
pub mod iptables;
pub mod nft;
pub mod rules;

pub use evaluate::{Probe, State, Verdict};
pub use rules::{Chain, Condition, Effect, Hook, Rule};

/// The rules of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Firewall {
    /// Base chains and those they jump to, of every table; none means that all packets pass.
    Rules(Vec<Chain>),
    /// Why they could not be read, in words.
    Unreadable(String),
}

impl Default for Firewall {
    fn default() -> Firewall {
        Firewall::Rules(Vec::new())
    }
}

impl Firewall {
    /// The fate of a packet that passes these hooks in this order.
    pub fn verdict(&self, hooks: &[Hook], probe: &Probe) -> Verdict {
        match self {
            Firewall::Rules(chains) => evaluate::verdict(chains, hooks, probe),
            Firewall::Unreadable(why) => Verdict::Unknown(why.clone()),
        }
    }
}
