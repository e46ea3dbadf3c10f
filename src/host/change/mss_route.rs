//! A route of table main, with the MSS announced to a real server's clients, in a table of its own.

use super::{ChangeKind, Observed, Presence, Replaced, Undone};
use crate::host::error::HostError;
use crate::host::mirror::Copied;
use crate::host::netlink::Netlink;

impl ChangeKind for Copied {
    async fn observe(&self, netlink: &Netlink, observed: &mut Observed) -> Result<(), HostError> {
        observed.ask_table(netlink, self.table).await
    }

    fn presence(&self, observed: &Observed) -> Result<Presence, HostError> {
        let found = observed.route(self.table, self.key()).filter(|route| self.is(route));
        Ok(found.map_or(Presence::Absent, |_| Presence::Ours))
    }

    /// A route that the kernel does not accept a second time becomes a `throw` route, and counts as missing.
    async fn apply(&self, netlink: &Netlink) -> Result<(), HostError> {
        let made = netlink.replace_route(self.message()).await;
        if let Err(HostError::Netlink { .. }) = made {
            netlink.replace_route(self.throw()).await?;
        }
        made
    }

    /// The key alone is not enough: the kernel matches priority 0 with any priority (fib_nh_match()).
    async fn undo(&self, netlink: &Netlink, _: &Observed, _: Option<Replaced>) -> Result<Undone, HostError> {
        match netlink.delete_route_like(self.message()).await {
            Err(error) if error.is_gone() => netlink.delete_route_like(self.throw()).await?,
            deleted => deleted?,
        }
        Ok(Undone::Removed)
    }

    fn describe(&self) -> String {
        format!("route {}", self.words)
    }

    fn command(&self) -> String {
        format!("ip route add {}", self.words)
    }

    fn replaces(&self, other: &Copied) -> bool {
        (self.key(), self.table) == (other.key(), other.table)
    }

    fn is_optional(&self) -> bool {
        true
    }
}
