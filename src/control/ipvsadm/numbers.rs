//! Numbers in columns: large ones are shortened, as print_largenum() of ipvsadm.c does.

/// Nine columns.
pub(super) fn large(value: u64, is_exact: bool) -> String {
    /// From the first number on: divided by the second, followed by the letter.
    const STEPS: [(u64, u64, char); 3] = [
        (1_000_000_000, 1_000, 'K'),
        (100_000_000_000, 1_000_000, 'M'),
        (100_000_000_000_000, 1_000_000_000, 'G'),
    ];
    if is_exact {
        let digits = value.to_string();
        let width = (digits.len() + 1).max(9);
        return format!("{digits:>width$}");
    }
    if value < 100_000_000 {
        return format!("{value:>9}");
    }
    let (_, divisor, letter) =
        STEPS.into_iter().find(|(end, ..)| value < *end).unwrap_or((0, 1_000_000_000_000, 'T'));
    format!("{:>8}{letter}", value / divisor)
}

/// A real server's rates of connections and packets: never shortened.
pub(super) fn plain(value: u64) -> String {
    format!(" {value:>8}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_and_both_sides_of_it() {
        let cases = [
            (0, "        0"),
            (99_999_999, " 99999999"),
            (100_000_000, "  100000K"),
            (123_456_789, "  123456K"),
            (999_999_999, "  999999K"),
            (1_000_000_000, "    1000M"),
            (1_234_567_890, "    1234M"),
            (99_999_999_999, "   99999M"),
            (100_000_000_000, "     100G"),
            (123_456_789_012, "     123G"),
            (99_999_999_999_999, "   99999G"),
            (100_000_000_000_000, "     100T"),
            (123_456_789_012_345_678, "  123456T"),
            (u64::MAX, "18446744T"),
        ];
        for (value, expected) in cases {
            assert_eq!(large(value, false), expected);
        }
    }

    #[test]
    fn exact_numbers_keep_a_blank_in_front() {
        assert_eq!(large(0, true), "        0");
        assert_eq!(large(99_999_999, true), " 99999999");
        assert_eq!(large(100_000_000, true), " 100000000");
        assert_eq!(large(u64::MAX, true), " 18446744073709551615");
        assert_eq!(plain(1_215_752_191), " 1215752191");
    }
}
