//! The words of the command line: every option with its long and short name and its meaning.

/// A command; a line has exactly one, and it comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// `-A`.
    AddService,
    /// `-E`.
    EditService,
    /// `-D`.
    DeleteService,
    /// `-C`.
    Flush,
    /// `-L` or `-l`.
    List,
    /// `-a`.
    AddServer,
    /// `-d`.
    DeleteServer,
    /// `-e`.
    EditServer,
    /// `--set`, followed by three timeouts.
    SetTimeouts,
    /// `--start-daemon`.
    StartDaemon,
    /// `--stop-daemon`.
    StopDaemon,
    /// `-R`.
    Restore,
    /// `-S`.
    Save,
    /// `-Z`.
    Zero,
}

impl Verb {
    /// In the order of `CMD_*` in ipvsadm.c.
    pub const ALL: [Verb; 14] = [
        Verb::AddService,
        Verb::EditService,
        Verb::DeleteService,
        Verb::Flush,
        Verb::List,
        Verb::AddServer,
        Verb::DeleteServer,
        Verb::EditServer,
        Verb::SetTimeouts,
        Verb::StartDaemon,
        Verb::StopDaemon,
        Verb::Restore,
        Verb::Save,
        Verb::Zero,
    ];

    /// The word in error texts (cmdnames of ipvsadm.c).
    pub const fn name(self) -> &'static str {
        match self {
            Verb::AddService => "add-service",
            Verb::EditService => "edit-service",
            Verb::DeleteService => "delete-service",
            Verb::Flush => "flush",
            Verb::List => "list",
            Verb::AddServer => "add-server",
            Verb::DeleteServer => "delete-server",
            Verb::EditServer => "edit-server",
            Verb::SetTimeouts => "set",
            Verb::StartDaemon => "start-daemon",
            Verb::StopDaemon => "stop-daemon",
            Verb::Restore => "restore",
            Verb::Save => "save",
            Verb::Zero => "zero",
        }
    }
}

/// An option as the error texts name it, in the order of optnames in ipvsadm.c, which is also that of the
/// checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(usize)]
pub enum Item {
    /// `-n`.
    Numeric,
    /// `-c`.
    Connection,
    /// `-t`, `-u`, `--sctp-service` or `-f`.
    ServiceAddress,
    /// `-s`.
    Scheduler,
    /// `-p`.
    Persistent,
    /// `-M`.
    Netmask,
    /// `-r`.
    RealServer,
    /// `-g`, `-i` or `-m`.
    ForwardingMethod,
    /// `-w`.
    Weight,
    /// `-x`.
    UpperThreshold,
    /// `-y`.
    LowerThreshold,
    /// `--mcast-interface`, where the sync daemon sends.
    McastInterface,
    /// `--timeout`.
    Timeout,
    /// `--daemon`.
    Daemon,
    /// `--stats`.
    Stats,
    /// `--rate`.
    Rate,
    /// `--thresholds`.
    Thresholds,
    /// `--persistent-conn`.
    PersistentConn,
    /// `--nosort`.
    NoSort,
    /// `--syncid`, 0 to 255.
    SyncId,
    /// `--exact`.
    Exact,
    /// `-o`: one-packet scheduling.
    Ops,
    /// `--pe`: the persistence engine.
    Pe,
    /// `-b`.
    SchedFlags,
    /// `--mcast-group`.
    McastGroup,
    /// `--mcast-port`.
    McastPort,
    /// `--mcast-ttl`.
    McastTtl,
    /// `--sync-maxlen`, in bytes of a UDP payload.
    SyncMaxlen,
    /// `--tun-info`.
    TunInfo,
    /// `--tun-type`.
    TunType,
    /// `--tun-port`, for `gue`.
    TunPort,
    /// `--tun-nocsum`.
    TunNocsum,
    /// `--tun-csum`.
    TunCsum,
    /// `--tun-remcsum`.
    TunRemcsum,
}

/// Every [`Item`] with its name, in its order.
pub const ITEMS: [(Item, &str); 34] = [
    (Item::Numeric, "numeric"),
    (Item::Connection, "connection"),
    (Item::ServiceAddress, "service-address"),
    (Item::Scheduler, "scheduler"),
    (Item::Persistent, "persistent"),
    (Item::Netmask, "netmask"),
    (Item::RealServer, "real-server"),
    (Item::ForwardingMethod, "forwarding-method"),
    (Item::Weight, "weight"),
    (Item::UpperThreshold, "u-threshold"),
    (Item::LowerThreshold, "l-threshold"),
    (Item::McastInterface, "mcast-interface"),
    (Item::Timeout, "timeout"),
    (Item::Daemon, "daemon"),
    (Item::Stats, "stats"),
    (Item::Rate, "rate"),
    (Item::Thresholds, "thresholds"),
    (Item::PersistentConn, "persistent-conn"),
    (Item::NoSort, "nosort"),
    (Item::SyncId, "syncid"),
    (Item::Exact, "exact"),
    (Item::Ops, "ops"),
    (Item::Pe, "pe"),
    (Item::SchedFlags, "sched-flags"),
    (Item::McastGroup, "mcast-group"),
    (Item::McastPort, "mcast-port"),
    (Item::McastTtl, "mcast-ttl"),
    (Item::SyncMaxlen, "sync-maxlen"),
    (Item::TunInfo, "tun-info"),
    (Item::TunType, "tun-type"),
    (Item::TunPort, "tun-port"),
    (Item::TunNocsum, "tun-nocsum"),
    (Item::TunCsum, "tun-csum"),
    (Item::TunRemcsum, "tun-remcsum"),
];

impl Item {
    /// The word in error texts (optnames of ipvsadm.c).
    pub const fn name(self) -> &'static str {
        ITEMS[self as usize].1
    }
}

/// A protocol that ipvsadm has an option for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// `-t`.
    Tcp,
    /// `-u`.
    Udp,
    /// `--sctp-service`, which the director does not support.
    Sctp,
}

/// How the kernel forwards to a real server (IP_VS_CONN_F_FWD_MASK).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Forwarding {
    /// `-m`.
    Masquerading,
    /// `-i`, the only method of this director.
    Tunnel,
    /// `-g`, the default of ipvsadm.
    DirectRouting,
}

/// The meaning of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The line's command.
    Verb(Verb),
    /// An option that [`super::legality`] checks against the command.
    Item(Item),
    /// The address of a virtual service.
    Service(Transport),
    /// `-f`: a virtual service of marked packets.
    FirewallMark,
    /// The forwarding method of a real server.
    Forwarding(Forwarding),
    /// `-6`, after `-f` only.
    Ipv6,
    /// No effect; accepted for scripts written for older versions.
    Sort,
    /// `-h`.
    Help,
    /// `-v`.
    Version,
}

/// What may follow an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// A flag.
    Nothing,
    /// The rest of the word, or the next word whatever it begins with.
    Value,
    /// The next word, unless it begins with a minus.
    ValueOrNothing,
}

/// One option (options_table of ipvsadm.c).
pub struct OptionRow {
    /// Without the two hyphens.
    pub long: &'static str,
    /// `None` if the option has a long name only.
    pub short: Option<char>,
    /// How much of the line belongs to the option.
    pub takes: Argument,
    /// Several options may have the same meaning.
    pub means: Meaning,
}

const fn row(long: &'static str, short: Option<char>, takes: Argument, means: Meaning) -> OptionRow {
    OptionRow { long, short, takes, means }
}

/// Every option.
#[rustfmt::skip]
pub const OPTIONS: &[OptionRow] = &[
    row("add-service",     Some('A'), Argument::Nothing, Meaning::Verb(Verb::AddService)),
    row("edit-service",    Some('E'), Argument::Nothing, Meaning::Verb(Verb::EditService)),
    row("delete-service",  Some('D'), Argument::Nothing, Meaning::Verb(Verb::DeleteService)),
    row("clear",           Some('C'), Argument::Nothing, Meaning::Verb(Verb::Flush)),
    row("list",            Some('L'), Argument::Nothing, Meaning::Verb(Verb::List)),
    row("list",            Some('l'), Argument::Nothing, Meaning::Verb(Verb::List)),
    row("add-server",      Some('a'), Argument::Nothing, Meaning::Verb(Verb::AddServer)),
    row("delete-server",   Some('d'), Argument::Nothing, Meaning::Verb(Verb::DeleteServer)),
    row("edit-server",     Some('e'), Argument::Nothing, Meaning::Verb(Verb::EditServer)),
    row("set",             None,      Argument::Nothing, Meaning::Verb(Verb::SetTimeouts)),
    row("start-daemon",    None,      Argument::Value,   Meaning::Verb(Verb::StartDaemon)),
    row("stop-daemon",     None,      Argument::Value,   Meaning::Verb(Verb::StopDaemon)),
    row("restore",         Some('R'), Argument::Nothing, Meaning::Verb(Verb::Restore)),
    row("save",            Some('S'), Argument::Nothing, Meaning::Verb(Verb::Save)),
    row("zero",            Some('Z'), Argument::Nothing, Meaning::Verb(Verb::Zero)),
    row("help",            Some('h'), Argument::Nothing, Meaning::Help),
    row("version",         Some('v'), Argument::Nothing, Meaning::Version),
    row("tcp-service",     Some('t'), Argument::Value,   Meaning::Service(Transport::Tcp)),
    row("udp-service",     Some('u'), Argument::Value,   Meaning::Service(Transport::Udp)),
    row("sctp-service",    None,      Argument::Value,   Meaning::Service(Transport::Sctp)),
    row("fwmark-service",  Some('f'), Argument::Value,   Meaning::FirewallMark),
    row("ipv6",            Some('6'), Argument::Nothing, Meaning::Ipv6),
    row("masquerading",    Some('m'), Argument::Nothing, Meaning::Forwarding(Forwarding::Masquerading)),
    row("ipip",            Some('i'), Argument::Nothing, Meaning::Forwarding(Forwarding::Tunnel)),
    row("gatewaying",      Some('g'), Argument::Nothing, Meaning::Forwarding(Forwarding::DirectRouting)),
    row("sort",            None,      Argument::Nothing, Meaning::Sort),
    row("scheduler",       Some('s'), Argument::Value,   Meaning::Item(Item::Scheduler)),
    row("persistent",      Some('p'), Argument::ValueOrNothing, Meaning::Item(Item::Persistent)),
    row("netmask",         Some('M'), Argument::Value,   Meaning::Item(Item::Netmask)),
    row("real-server",     Some('r'), Argument::Value,   Meaning::Item(Item::RealServer)),
    row("weight",          Some('w'), Argument::Value,   Meaning::Item(Item::Weight)),
    row("u-threshold",     Some('x'), Argument::Value,   Meaning::Item(Item::UpperThreshold)),
    row("l-threshold",     Some('y'), Argument::Value,   Meaning::Item(Item::LowerThreshold)),
    row("mcast-interface", None,      Argument::Value,   Meaning::Item(Item::McastInterface)),
    row("syncid",          None,      Argument::Value,   Meaning::Item(Item::SyncId)),
    row("mcast-group",     None,      Argument::Value,   Meaning::Item(Item::McastGroup)),
    row("mcast-port",      None,      Argument::Value,   Meaning::Item(Item::McastPort)),
    row("mcast-ttl",       None,      Argument::Value,   Meaning::Item(Item::McastTtl)),
    row("sync-maxlen",     None,      Argument::Value,   Meaning::Item(Item::SyncMaxlen)),
    row("pe",              None,      Argument::Value,   Meaning::Item(Item::Pe)),
    row("sched-flags",     Some('b'), Argument::Value,   Meaning::Item(Item::SchedFlags)),
    row("tun-type",        None,      Argument::Value,   Meaning::Item(Item::TunType)),
    row("tun-port",        None,      Argument::Value,   Meaning::Item(Item::TunPort)),
    row("tun-nocsum",      None,      Argument::Nothing, Meaning::Item(Item::TunNocsum)),
    row("tun-csum",        None,      Argument::Nothing, Meaning::Item(Item::TunCsum)),
    row("tun-remcsum",     None,      Argument::Nothing, Meaning::Item(Item::TunRemcsum)),
    row("ops",             Some('o'), Argument::Nothing, Meaning::Item(Item::Ops)),
    row("numeric",         Some('n'), Argument::Nothing, Meaning::Item(Item::Numeric)),
    row("connection",      Some('c'), Argument::Nothing, Meaning::Item(Item::Connection)),
    row("timeout",         None,      Argument::Nothing, Meaning::Item(Item::Timeout)),
    row("daemon",          None,      Argument::Nothing, Meaning::Item(Item::Daemon)),
    row("stats",           None,      Argument::Nothing, Meaning::Item(Item::Stats)),
    row("rate",            None,      Argument::Nothing, Meaning::Item(Item::Rate)),
    row("thresholds",      None,      Argument::Nothing, Meaning::Item(Item::Thresholds)),
    row("persistent-conn", None,      Argument::Nothing, Meaning::Item(Item::PersistentConn)),
    row("nosort",          None,      Argument::Nothing, Meaning::Item(Item::NoSort)),
    row("exact",           Some('X'), Argument::Nothing, Meaning::Item(Item::Exact)),
    row("tun-info",        None,      Argument::Nothing, Meaning::Item(Item::TunInfo)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_stand_in_their_own_order() {
        for (index, (item, name)) in ITEMS.iter().enumerate() {
            assert_eq!((*item as usize, item.name()), (index, *name));
        }
    }

    #[test]
    fn every_item_and_verb_has_a_word_and_no_letter_has_two() {
        let is_named = |meaning: Meaning| OPTIONS.iter().any(|row| row.means == meaning);
        for verb in Verb::ALL {
            assert!(is_named(Meaning::Verb(verb)), "{verb:?}");
        }
        let by_other_words = [Item::ServiceAddress, Item::ForwardingMethod];
        for (item, _) in ITEMS {
            assert!(by_other_words.contains(&item) || is_named(Meaning::Item(item)), "{item:?}");
        }
        for row in OPTIONS {
            let same = OPTIONS.iter().filter(|other| other.short.is_some() && other.short == row.short);
            assert_eq!(same.count(), usize::from(row.short.is_some()), "{}", row.long);
        }
    }
}
