//! Changes of the host while a daemon runs: addresses, links, routes and rules as the kernel announces them,
//! and a tick for what it does not announce (sysctls, proxy neighbours).

use std::future;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use futures_util::{FutureExt, Stream, StreamExt};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::change::Device;
use super::error::HostError;
use super::netlink::{Route, Task, address_of, interface_of, route_of};

/// ANNOUNCE_INTERVAL of RFC 5227 §1.1: repeated announcements are sent with the ticks.
pub const TICK: Duration = Duration::from_secs(2);

/// A reason to check the host; a greater one includes the smaller ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Notice {
    /// [`TICK`] has passed without an event; settings that the kernel does not announce are due for a check.
    Tick,
    /// An address, a route or a link has changed that the daemon did not set up: the paths to other hosts may be
    /// others now.
    Paths,
    /// The kernel announced an event that the daemon has to react to, or events were lost.
    Changed,
}

/// One message of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An address was added or removed.
    Address(IpAddr),
    /// A link was added or removed, or changed its flags or its name.
    Link(Device),
    /// RTM_NEWROUTE for an IPv4 route in any table.
    RouteCame(Route),
    /// RTM_DELROUTE; the kernel sends none for routes that disappear because their device goes down.
    RouteGone(Route),
    /// An IPv4 rule was added or deleted; which one does not matter, because all are read again.
    Rule,
    /// The socket overflowed, and messages of the kernel were lost.
    Lost,
}

type Messages = Pin<Box<dyn Stream<Item = NetlinkMessage<RouteNetlinkMessage>> + Send>>;

/// The stream of events, in the network namespace of the thread that opened it.
pub struct Follower {
    messages: Option<Messages>,
    _task: Task,
    ticks: Interval,
}

impl Follower {
    /// Subscribes; the task runs on the current tokio runtime.
    pub fn open() -> Result<Follower, HostError> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv4Rule,
        ];
        let (connection, _, messages) = rtnetlink::new_multicast_connection(&groups)
            .map_err(|error| HostError::from_io("follow the host's network changes", &error))?;
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.reset();
        Ok(Follower {
            messages: Some(Box::pin(messages.map(|(message, _)| message))),
            _task: Task(tokio::spawn(connection)),
            ticks,
        })
    }

    /// Waits until an event that has a notice occurs, or a tick is due. Several events at once make one notice.
    /// Cancel-safe.
    pub async fn wait(&mut self, notice_of: impl Fn(&Event) -> Option<Notice>) -> Notice {
        loop {
            let message = async {
                match &mut self.messages {
                    Some(messages) => messages.next().await,
                    None => future::pending().await,
                }
            };
            tokio::select! {
                _ = self.ticks.tick() => return Notice::Tick,
                message = message => {
                    if let Some(notice) = self.notice(message, &notice_of) {
                        return self.drain(notice, &notice_of);
                    }
                }
            }
        }
    }

    /// The kernel's messages have ended, so only ticks are left; a new follower is needed.
    pub fn is_deaf(&self) -> bool {
        self.messages.is_none()
    }

    fn notice(
        &mut self,
        message: Option<NetlinkMessage<RouteNetlinkMessage>>,
        notice_of: impl Fn(&Event) -> Option<Notice>,
    ) -> Option<Notice> {
        let Some(message) = message else {
            tracing::warn!(
                "host: the kernel's change messages ended; checking every {} s instead",
                TICK.as_secs()
            );
            self.messages = None;
            return Some(Notice::Changed);
        };
        match event_of(&message)? {
            Event::Lost => Some(Notice::Changed),
            event => notice_of(&event),
        }
    }

    /// The greatest notice of this one and of all queued messages, which then need none of their own.
    fn drain(&mut self, mut notice: Notice, notice_of: impl Fn(&Event) -> Option<Notice>) -> Notice {
        while let Some(messages) = &mut self.messages
            && let Some(next) = messages.next().now_or_never()
        {
            notice = notice.max(self.notice(next, &notice_of).unwrap_or(notice));
        }
        notice
    }
}

fn event_of(message: &NetlinkMessage<RouteNetlinkMessage>) -> Option<Event> {
    let inner = match &message.payload {
        NetlinkPayload::InnerMessage(inner) => inner,
        NetlinkPayload::Overrun(_) => return Some(Event::Lost),
        _ => return None,
    };
    match inner {
        RouteNetlinkMessage::NewAddress(address) | RouteNetlinkMessage::DelAddress(address) => {
            address_of(address).map(|(address, _)| Event::Address(address))
        }
        RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link) => {
            Some(Event::Link(Device::from(&interface_of(link))))
        }
        RouteNetlinkMessage::NewRoute(route) => route_of(route).map(Event::RouteCame),
        RouteNetlinkMessage::DelRoute(route) => route_of(route).map(Event::RouteGone),
        RouteNetlinkMessage::NewRule(_) | RouteNetlinkMessage::DelRule(_) => Some(Event::Rule),
        _ => None,
    }
}
