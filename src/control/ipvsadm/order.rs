//! The order of lists, exactly as in ipvsadm (ipvs_cmp_services() and ipvs_cmp_dests() in libipvs.c):
//! addresses are compared by a difference that overflows, so that 200.0.0.1 comes before 10.0.0.1. This is
//! not a total order, so the standard library's sort functions cannot be used.

use std::cmp::Ordering;
use std::net::IpAddr;

/// Merge sort in the way of glibc's qsort(3): with a comparison that contradicts itself, the result depends
/// on which pairs are compared.
pub(super) fn merge_sort<T: Clone>(items: &[T], compare: &dyn Fn(&T, &T) -> Ordering) -> Vec<T> {
    if items.len() < 2 {
        return items.to_vec();
    }
    let (left, right) = items.split_at(items.len() / 2);
    let (left, right) = (merge_sort(left, compare), merge_sort(right, compare));
    let mut merged = Vec::with_capacity(items.len());
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    while let (Some(l), Some(r)) = (left.peek(), right.peek()) {
        merged.extend(if compare(l, r).is_gt() { right.next() } else { left.next() });
    }
    merged.extend(left);
    merged.extend(right);
    merged
}

/// Compares 32-bit words by their difference as a signed number. An IPv4 address is one word followed by
/// zeros.
pub(super) fn compare_addresses(a: IpAddr, b: IpAddr) -> Ordering {
    let differences = words(a).into_iter().zip(words(b)).map(|(a, b)| a.wrapping_sub(b) as i32);
    differences.map(|difference| difference.cmp(&0)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

fn words(address: IpAddr) -> [u32; 4] {
    match address {
        IpAddr::V4(v4) => [v4.into(), 0, 0, 0],
        IpAddr::V6(v6) => {
            let parts = v6.segments().map(u32::from);
            [0, 2, 4, 6].map(|index| parts[index] << 16 | parts[index + 1])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(addresses: &[&str]) -> Vec<String> {
        let addresses: Vec<IpAddr> = addresses.iter().map(|word| word.parse().unwrap()).collect();
        merge_sort(&addresses, &|a, b| compare_addresses(*a, *b)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn differences_wrap() {
        assert_eq!(sorted(&["10.0.0.1", "200.0.0.1"]), ["200.0.0.1", "10.0.0.1"]);
        assert_eq!(sorted(&["10.0.0.2", "10.0.0.1", "9.9.9.9"]), ["9.9.9.9", "10.0.0.1", "10.0.0.2"]);
    }

    /// The order that ipvsadm 1.31 prints for the same addresses, given in the same order.
    #[test]
    fn an_inconsistent_order_gives_the_list_that_ipvsadm_prints() {
        let given = ["2001:db8::1", "8000::1", "255.0.0.1", "8.8.8.8", "172.25.3.3", "10.0.0.1", "200.0.0.1"];
        let expected =
            ["172.25.3.3", "200.0.0.1", "8.8.8.8", "10.0.0.1", "2001:db8::1", "8000::1", "255.0.0.1"];
        assert_eq!(sorted(&given), expected);
    }
}
