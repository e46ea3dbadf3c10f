//! The place of a field in a header, with its width in the type: one name reads the field and writes it.
//!
//! Numbers are big-endian. The caller has checked the length.

/// A byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct U8(pub usize);

/// A number of 16 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct U16(pub usize);

/// A number of 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct U32(pub usize);

/// `N` bytes, such as an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Octets<const N: usize>(pub usize);

impl U8 {
    /// The byte at this place.
    pub fn read(self, bytes: &[u8]) -> u8 {
        bytes[self.0]
    }

    /// Any checksum that covers the field is left as it is.
    pub fn write(self, bytes: &mut [u8], value: u8) {
        bytes[self.0] = value;
    }

    /// The 16-bit number that contains this byte, as the Internet checksum counts it.
    pub const fn word(self) -> U16 {
        U16(self.0 / 2 * 2)
    }
}

impl U16 {
    const WIDTH: usize = 2;

    /// The two bytes in network byte order.
    pub fn read(self, bytes: &[u8]) -> u16 {
        u16::from_be_bytes([bytes[self.0], bytes[self.0 + 1]])
    }

    /// Any checksum that covers the field is left as it is.
    pub fn write(self, bytes: &mut [u8], value: u16) {
        bytes[self.0..self.0 + U16::WIDTH].copy_from_slice(&value.to_be_bytes());
    }

    /// True if the field is inside the bytes.
    pub const fn is_inside(self, bytes: &[u8]) -> bool {
        self.0 + U16::WIDTH <= bytes.len()
    }
}

impl U32 {
    /// The four bytes in network byte order.
    pub fn read(self, bytes: &[u8]) -> u32 {
        u32::from_be_bytes(Octets(self.0).read(bytes))
    }

    /// Any checksum that covers the field is left as it is.
    pub fn write(self, bytes: &mut [u8], value: u32) {
        Octets(self.0).write(bytes, value.to_be_bytes());
    }
}

impl<const N: usize> Octets<N> {
    /// A copy, in the order of the packet.
    pub fn read(self, bytes: &[u8]) -> [u8; N] {
        let mut octets = [0; N];
        octets.copy_from_slice(&bytes[self.0..self.0 + N]);
        octets
    }

    /// Any checksum that covers the field is left as it is.
    pub fn write(self, bytes: &mut [u8], octets: [u8; N]) {
        bytes[self.0..self.0 + N].copy_from_slice(&octets);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: [u8; 8] = [0x10, 0x21, 0x32, 0x43, 0x54, 0x65, 0x76, 0x87];

    #[test]
    fn a_field_is_read_from_its_place_in_network_order() {
        assert_eq!([0, 3, 7].map(|at| U8(at).read(&BYTES)), [0x10, 0x43, 0x87]);
        assert_eq!([0, 3, 6].map(|at| U16(at).read(&BYTES)), [0x1021, 0x4354, 0x7687]);
        assert_eq!([0, 4].map(|at| U32(at).read(&BYTES)), [0x1021_3243, 0x5465_7687]);
        assert_eq!(Octets::<3>(2).read(&BYTES), [0x32, 0x43, 0x54]);
    }

    #[test]
    fn writing_a_field_changes_its_own_bytes_and_no_other() {
        let written = |write: &dyn Fn(&mut [u8])| {
            let mut bytes = BYTES;
            write(&mut bytes);
            bytes
        };
        assert_eq!(written(&|b| U8(2).write(b, 0xee)), [0x10, 0x21, 0xee, 0x43, 0x54, 0x65, 0x76, 0x87]);
        assert_eq!(written(&|b| U16(3).write(b, 0xeeff)), [0x10, 0x21, 0x32, 0xee, 0xff, 0x65, 0x76, 0x87]);
        assert_eq!(
            written(&|b| U32(1).write(b, 0xccdd_eeff)),
            [0x10, 0xcc, 0xdd, 0xee, 0xff, 0x65, 0x76, 0x87]
        );
        assert_eq!(
            written(&|b| Octets(5).write(b, [0xdd, 0xee, 0xff])),
            [0x10, 0x21, 0x32, 0x43, 0x54, 0xdd, 0xee, 0xff]
        );
    }

    #[test]
    fn a_byte_belongs_to_the_sixteen_bits_that_begin_at_an_even_place() {
        assert_eq!([0, 1, 8, 9].map(|at| U8(at).word()), [0, 0, 8, 8].map(U16));
    }

    #[test]
    fn a_field_ends_with_the_bytes_or_before() {
        assert_eq!([0, 6, 7, 8].map(|at| U16(at).is_inside(&BYTES)), [true, true, false, false]);
    }
}
