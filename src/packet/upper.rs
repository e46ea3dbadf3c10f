//! What follows the IP headers of a packet, in both families: the upper layer, or a fragment of it.

/// Everything behind the IPv4 header with its options, or behind the IPv6 header with its extension headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upper<'a> {
    /// The protocol of `payload`. For a later fragment of an IPv6 packet: of what that packet contains after the
    /// fragment header.
    pub protocol: u8,
    /// Starts at the transport header, unless this is a later fragment.
    pub payload: &'a [u8],
    /// `None` for a whole packet, such as an atomic fragment (RFC 6946 §4).
    pub fragment: Option<Fragment>,
}

/// The place of a fragment in its packet (RFC 791 §3.2, RFC 8200 §4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// In bytes.
    pub offset: usize,
    /// False only in the last fragment.
    pub has_more: bool,
    /// 16 bits in IPv4, 32 in IPv6.
    pub identification: u32,
    /// Number of bytes of the packet in this fragment, extension headers among them.
    pub length: usize,
}

impl Upper<'_> {
    /// False for an atomic fragment, too.
    pub fn is_fragment(&self) -> bool {
        self.fragment.is_some()
    }

    /// Any fragment except the first: it has no ports.
    pub fn is_later_fragment(&self) -> bool {
        self.fragment.is_some_and(|fragment| fragment.offset > 0)
    }
}
