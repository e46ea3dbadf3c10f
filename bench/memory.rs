//! The memory that a connection costs, as counted by the allocator: `cargo bench --bench memory`.
//!
//! One million IPv4 connections: 66 bytes each, including key, entry and the map's free slots; the bar is
//! 112. Ten million: 57 bytes each, 0.57 GB; the bar is 1.2 GB.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};

use lvs_tund::director::connection::{Change, Event, NewConnection, Subscriber, Table, Timeouts};
use lvs_tund::director::real_server::Slot;
use lvs_tund::packet::Flow;
use lvs_tund::time::Moment;

struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed to the system's allocator unchanged; counting does not touch the memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Counts nothing: the table alone is measured.
struct Nobody;

impl Subscriber for Nobody {
    fn on_change(&self, _: &Change) {}
}

fn main() {
    for connections in [1_000_000u32, 10_000_000] {
        let before = ALLOCATED.load(Ordering::Relaxed);
        let table = Table::new(connections as usize, 7);
        for n in 0..connections {
            let flow = Flow {
                protocol: 6,
                client: Ipv4Addr::from(0x1000_0000 + n).into(),
                client_port: 40_000,
                vip: Ipv4Addr::new(172, 25, 3, 100).into(),
                vip_port: 80,
            };
            let new = NewConnection {
                virtual_service: 0,
                real_server: Slot::new(1, 1),
                event: Event::Syn,
                is_known: false,
                template: None,
            };
            table.insert(&flow, new, &Timeouts::default(), Moment::ZERO, &Nobody);
        }
        assert_eq!(table.len(), connections as usize);
        let bytes = ALLOCATED.load(Ordering::Relaxed) - before;
        println!("{connections} connections: {bytes} bytes, {} each", bytes / connections as usize);
    }
}
