//! What the kernel has dropped on a device.

use futures_util::TryStreamExt;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::tc::{TcAttribute, TcMessage, TcStats2};

use super::{Netlink, answered, collected};
use crate::host::error::HostError;

/// Packets since the device was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeviceLosses {
    /// `tx_dropped`: on a TUN device the packets that found its queue full.
    pub transmit: u64,
    /// `rx_dropped`: on a TUN device the packets for which the host's stack had no room.
    pub receive: u64,
    /// Of the root queueing discipline, which includes its classes.
    pub qdisc: u64,
}

/// tc(8): TC_H_ROOT.
const ROOT: u32 = u32::MAX;

impl Netlink {
    /// The losses of a device; [`HostError::NoInterface`] if there is none.
    pub async fn losses(&self, name: &str) -> Result<DeviceLosses, HostError> {
        let what = format!("read the counters of {name}");
        let link = answered(&what, self.handle.link().get().match_name(name).execute().try_next()).await?;
        let link = link.ok_or_else(|| HostError::NoInterface(name.to_owned()))?;
        let statistics = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Stats64(statistics) => Some(statistics),
            _ => None,
        });
        let qdiscs: Vec<TcMessage> = collected(&what, self.handle.qdisc().get().execute()).await?;
        let roots = qdiscs.iter().filter(|qdisc| {
            u32::try_from(qdisc.header.index) == Ok(link.header.index)
                && u32::from(qdisc.header.parent) == ROOT
        });
        Ok(DeviceLosses {
            transmit: statistics.map_or(0, |statistics| statistics.tx_dropped),
            receive: statistics.map_or(0, |statistics| statistics.rx_dropped),
            qdisc: roots.map(drops).sum(),
        })
    }
}

fn drops(qdisc: &TcMessage) -> u64 {
    let statistics = qdisc.attributes.iter().filter_map(|attribute| match attribute {
        TcAttribute::Stats2(statistics) => Some(statistics),
        _ => None,
    });
    let queues = statistics.flatten().filter_map(|statistics| match statistics {
        TcStats2::Queue(queue) => Some(u64::from(queue.drops)),
        _ => None,
    });
    queues.sum()
}
