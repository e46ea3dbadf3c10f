//! Explicit congestion notification across an encapsulation (RFC 6040).
//!
//! When a packet is wrapped, all four values are copied (normal mode, §4.1). When it is unwrapped, figure 4
//! of §4.2 applies.

/// The two low bits of TOS or traffic class (RFC 3168 §5).
pub const MASK: u8 = 0b11;

const NOT_ECT: u8 = 0b00;
const ECT1: u8 = 0b01;
const ECT0: u8 = 0b10;
const CE: u8 = 0b11;

/// The inner field after unwrapping. `surprising` marks the combinations that figure 4 calls currently
/// unused, which are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Egress {
    /// The inner field stays as it is.
    Keep {
        /// The outer field was changed in a way that RFC 6040 does not expect.
        surprising: bool,
    },
    /// The inner field takes the outer one's mark.
    Set {
        /// ECT(1) or CE, in the two low bits.
        ecn: u8,
        /// As for `Keep`; no cell of figure 4 is one.
        surprising: bool,
    },
    /// Congestion was marked on a packet whose sender and receiver cannot react to it: MUST drop.
    Drop,
}

/// RFC 6040 §4.2, figure 4. Both arguments are TOS bytes; only their ECN bits are read.
pub fn egress(inner_tos: u8, outer_tos: u8) -> Egress {
    let (inner, outer) = (inner_tos & MASK, outer_tos & MASK);
    match (inner, outer) {
        (NOT_ECT, CE) => Egress::Drop,
        (NOT_ECT, ECT0 | ECT1) => Egress::Keep { surprising: true },
        (ECT0, ECT1) => Egress::Set { ecn: ECT1, surprising: false },
        (ECT0 | ECT1, CE) => Egress::Set { ecn: CE, surprising: false },
        (ECT1, ECT0) | (CE, ECT1) => Egress::Keep { surprising: true },
        _ => Egress::Keep { surprising: false },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_sixteen_cells_of_figure_4() {
        // Rows: inner Not-ECT, ECT(0), ECT(1), CE; columns: outer Not-ECT, ECT(0), ECT(1), CE.
        // `None` is the drop; true where the figure has "!" or "!!!".
        let order = [NOT_ECT, ECT0, ECT1, CE];
        let figure: [[Option<(u8, bool)>; 4]; 4] = [
            [Some((NOT_ECT, false)), Some((NOT_ECT, true)), Some((NOT_ECT, true)), None],
            [Some((ECT0, false)), Some((ECT0, false)), Some((ECT1, false)), Some((CE, false))],
            [Some((ECT1, false)), Some((ECT1, true)), Some((ECT1, false)), Some((CE, false))],
            [Some((CE, false)), Some((CE, false)), Some((CE, true)), Some((CE, false))],
        ];
        for (row, inner) in order.into_iter().enumerate() {
            for (column, outer) in order.into_iter().enumerate() {
                // The DSCP, here other bits inside than outside, has no effect.
                let after = match egress(0x28 | inner, 0xd4 | outer) {
                    Egress::Keep { surprising } => Some((inner, surprising)),
                    Egress::Set { ecn, surprising } => Some((ecn, surprising)),
                    Egress::Drop => None,
                };
                assert_eq!(after, figure[row][column], "inner {inner:02b} outer {outer:02b}");
            }
        }
    }
}
