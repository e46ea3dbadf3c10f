//! The director's decision: what to do with one packet. Pure: bytes, time and chance are parameters.
//!
//! [`Director::handle_packet`] performs the steps in the packet's order; each step is a file.

pub mod classify;
pub mod cluster;
pub mod connection;
pub mod fate;
pub mod flood;
pub mod fragment;
mod journey;
pub mod path;
pub mod path_errors;
pub mod persistence;
pub mod pins;
pub mod real_server;
pub mod reply;
pub mod roster;
pub mod route;
pub mod scheduler;
pub mod server_errors;
pub mod tables;
pub mod verdict;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use crate::packet::Frame;
use crate::time::Moment;

use classify::{Content, classify};
use cluster::Cluster;
use flood::Flood;
use fragment::{FragmentFate, Fragments, Waiting};
use journey::{At, Refusal, decide_route};
use reply::{IcmpError, ReplyKind, TokenBucket};
use route::Route;
use tables::Tables;
use verdict::{DropReason, Reply, Verdict};

/// Replies per second and worker: ICMP errors and resets share one budget (RFC 1812 §4.3.2.8), echo replies
/// and "too big" have their own. The values are Linux's `icmp_msgs_per_sec` and `icmp_msgs_burst`.
const ANSWERS_PER_SECOND: u32 = 1000;
const ANSWERS_BURST: u32 = 50;
/// Two echo requests of the largest size, which arrive in 45 pieces each and are answered in as many.
const ECHOES_BURST: u32 = 100;

/// One worker's part of a director: the shared tables, and what it keeps for itself.
pub struct Director {
    tables: Arc<Tables>,
    flood: Flood,
    fragments: Fragments,
    chance: Chance,
    limits: Limits,
    outbox: Outbox,
}

/// A frame to send, or the fate of a held packet, in addition to the packet that was handled.
pub enum Extra {
    /// Another piece of a fragmented packet; the packet itself has been counted already.
    Piece {
        /// The encapsulated piece.
        frame: Frame,
        /// The RIP.
        to: IpAddr,
    },
    /// An error about the path for a sender whose packet is forwarded.
    ErrorToSender {
        /// The ICMP error, as the VIP.
        frame: Frame,
        /// The client.
        to: IpAddr,
    },
    /// The late fate of a packet whose verdict was `Hold`; `number` is its place among those, from 0.
    Late {
        /// Counted by each worker for itself.
        number: u64,
        /// As after [`Director::handle_packet`].
        frame: Frame,
        /// The packet's length as captured; counters add it.
        bytes: usize,
        /// Counted in place of the `Hold`.
        verdict: Verdict,
    },
}

#[derive(Default)]
struct Outbox {
    pieces: VecDeque<(Frame, IpAddr)>,
    /// A copy of each packet whose sender gets an error.
    errors: VecDeque<(Frame, IcmpError)>,
    released: VecDeque<Waiting>,
}

struct Limits {
    answers: TokenBucket,
    echoes: TokenBucket,
    /// A budget of its own: traffic that provokes other replies must not turn paths into black holes.
    sizes: TokenBucket,
}

impl Director {
    /// `seed` must differ between workers, so that they do not draw alike.
    pub fn new(tables: Arc<Tables>, seed: u64) -> Director {
        let bucket = |burst| TokenBucket::new(ANSWERS_PER_SECOND, burst);
        let limits = Limits {
            answers: bucket(ANSWERS_BURST),
            echoes: bucket(ECHOES_BURST),
            sizes: bucket(ANSWERS_BURST),
        };
        Director {
            tables,
            flood: Flood::new(seed),
            fragments: Fragments::new(seed),
            chance: Chance(seed),
            limits,
            outbox: Outbox::default(),
        }
    }

    /// Decides one packet by a snapshot, which a caller loads once for all packets of a batch. After `Transmit` the
    /// frame contains the encapsulated packet, after `Reply` the reply; after `Pass`, and after `Transmit` to the host's
    /// own stack, it is as before; after `Drop` its content is undefined.
    pub fn handle_packet(&mut self, cluster: &Cluster, frame: &mut Frame, now: Moment) -> Verdict {
        match self.forward(At { cluster, now }, frame) {
            Ok(route) => Verdict::Transmit(route),
            Err(refusal) if refusal.is_hosts => Verdict::Pass,
            Err(refusal) => self.refuse(frame, refusal, now),
        }
    }

    fn refuse(&mut self, frame: &mut Frame, refusal: Refusal, now: Moment) -> Verdict {
        if let Err(cause) = frame.complete_checksum() {
            return Verdict::Drop(cause.into());
        }
        match refusal.waits_for {
            Some(key) if self.fragments.hold(key, frame.packet(), now) => Verdict::Hold,
            _ => self.limits.refuse(frame, refusal, now),
        }
    }

    fn forward(&mut self, at: At, frame: &mut Frame) -> Result<Route, Refusal> {
        let packet = classify(frame.packet())
            .map_err(|reason| self.refuse_unclassified(at, frame.packet(), reason))?;
        let choice = match packet.content {
            Content::IcmpError => self.follow_error(at, &packet)?,
            Content::LaterFragment => self.follow_fragment(at, &packet)?,
            _ => match self.find_pinned(at, &packet)? {
                Some(pinned) => pinned,
                None => self.find_or_begin(at, &packet)?,
            },
        };
        // What goes to the host's own stack leaves as it was captured.
        if !choice.real_server.is_local {
            frame.complete_checksum().map_err(DropReason::from)?;
        }
        self.send_pending_error(at, frame, &packet, &choice);
        let route = decide_route(at, &packet, frame.offload.segments, &choice)?;
        self.apply(&route, &choice, frame)?;
        self.remember_fragment(&packet, FragmentFate::RealServer(route.real_server), at.now);
        Ok(route)
    }

    /// Further frames to send, and the fates of held packets. Call it until `None` after each batch, and
    /// regularly while [`Director::is_waiting`].
    pub fn poll_extra(&mut self, cluster: &Cluster, now: Moment) -> Option<Extra> {
        if let Some((frame, to)) = self.outbox.pieces.pop_front() {
            return Some(Extra::Piece { frame, to });
        }
        while let Some((mut frame, error)) = self.outbox.errors.pop_front() {
            if self.limits.answers.take(now)
                && let Ok(to) = reply::write(&mut frame, error.into())
            {
                return Some(Extra::ErrorToSender { frame, to });
            }
        }
        if let Some(Waiting { number, packet }) = self.outbox.released.pop_front() {
            let mut frame = Frame::from_packet(&packet);
            let verdict = self.handle_packet(cluster, &mut frame, now);
            return Some(Extra::Late { number, frame, bytes: packet.len(), verdict });
        }
        let Waiting { number, packet } = self.fragments.poll_expired(now)?;
        let verdict = Verdict::Drop(DropReason::FragmentUnknown);
        Some(Extra::Late { number, frame: Frame::from_packet(&packet), bytes: packet.len(), verdict })
    }

    /// True while packets are held.
    pub fn is_waiting(&self) -> bool {
        self.fragments.held() > 0
    }
}

impl Limits {
    /// Turns a refusal into a reply, if it has one and the budget allows it.
    fn refuse(&mut self, frame: &mut Frame, refusal: Refusal, now: Moment) -> Verdict {
        let reason = refusal.reason;
        let silent = Verdict::Drop(reason.unwrap_or(DropReason::RateLimited));
        let Some(kind) = refusal.reply else { return silent };
        let budget = match kind {
            ReplyKind::EchoReply => &mut self.echoes,
            ReplyKind::Error(IcmpError::TooBig { .. }) => &mut self.sizes,
            _ => &mut self.answers,
        };
        if !budget.take(now) {
            return silent;
        }
        match reply::write(frame, kind) {
            Ok(to) => Verdict::Reply(Reply { to, kind, reason }),
            Err(_) => silent,
        }
    }
}

/// A worker's source of chance: splitmix64, which works with any seed.
struct Chance(u64);

impl Chance {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
