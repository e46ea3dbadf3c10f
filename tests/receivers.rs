//! What a real server's sockets receive, with the kernel's own packets on the loopback device of a network
//! namespace. Needs root.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::thread;
use std::time::Duration;

use lvs_tund::datapath::raw_socket::{Receivers, Sender};
use lvs_tund::datapath::{Capture, Exit, Outgoing, Transmit};
use lvs_tund::packet::{Carrier, Frame};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sched::{CloneFlags, unshare};
use rtnetlink::LinkUnspec;

#[path = "support/packets.rs"]
#[allow(dead_code, reason = "shared by several tests")]
mod packets;

use packets::*;

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const CARRIERS: [Carrier; 2] = [Carrier::Protocol(4), Carrier::UdpPort(6080)];

/// Runs `test` in a thread with a network namespace of its own, whose loopback device is up.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let body = move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("this test needs root");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().unwrap();
            tokio::spawn(connection);
            handle.link().set(LinkUnspec::new_with_name("lo").up().build()).execute().await.unwrap();
        });
        test();
    };
    if let Err(panic) = thread::spawn(body).join() {
        std::panic::resume_unwind(panic);
    }
}

fn send_encapsulated(payload: &[u8]) {
    let mut frames = [Frame::from_packet(&ip(HERE, HERE, 4, payload))];
    let outgoing = [Outgoing { frame: 0, exit: Exit::Network(HERE.into()) }];
    Sender::new().unwrap().transmit(&mut frames, &outgoing, &mut |_, error| panic!("{error}"));
}

/// A socket that sends to this port and learns whether a program receives there.
fn sender_to(port: u16) -> UdpSocket {
    let socket = UdpSocket::bind((HERE, 0)).unwrap();
    socket.connect((HERE, port)).unwrap();
    socket
}

fn is_readable(receivers: &Receivers) -> bool {
    let mut fds = [PollFd::new(receivers.readiness().unwrap(), PollFlags::POLLIN)];
    poll(&mut fds, 1000u16).unwrap() == 1
}

/// Protocol and last byte of each packet that is read at once.
fn read(receivers: &mut Receivers, at_most: usize) -> Vec<(u8, u8)> {
    let mut frames = vec![Frame::with_capacity(2000); at_most];
    let count = receivers.capture(&mut frames).unwrap();
    frames[..count].iter().map(|frame| (frame.packet()[9], *frame.packet().last().unwrap())).collect()
}

#[test]
fn every_carrier_is_received_and_nothing_else() {
    in_namespace(|| {
        let mut receivers = Receivers::new(CARRIERS).unwrap();
        assert_eq!(read(&mut receivers, 8), []);
        send_encapsulated(&[1]);
        assert!(is_readable(&receivers));
        assert_eq!(read(&mut receivers, 8), [(4, 1)]);
        sender_to(6081).send(&[2]).unwrap();
        sender_to(6080).send(&[3]).unwrap();
        assert!(is_readable(&receivers));
        assert_eq!(read(&mut receivers, 8), [(17, 3)]);
    });
}

/// An error would show the director that no daemon is running here.
#[test]
fn the_kernel_does_not_answer_what_is_received() {
    in_namespace(|| {
        let _receivers = Receivers::new(CARRIERS).unwrap();
        let refused = |port| {
            let socket = sender_to(port);
            socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            socket.send(&[1]).unwrap();
            socket.recv(&mut [0]).unwrap_err().kind() == ErrorKind::ConnectionRefused
        };
        assert_eq!([6080, 6081].map(refused), [false, true]);
    });
}

#[test]
fn a_flood_of_one_kind_does_not_keep_out_the_others() {
    in_namespace(|| {
        let mut receivers = Receivers::new(CARRIERS).unwrap();
        let datagrams = sender_to(6080);
        for number in 0..4 {
            send_encapsulated(&[number]);
            datagrams.send(&[number]).unwrap();
        }
        let kinds: Vec<u8> = (0..4).flat_map(|_| read(&mut receivers, 1)).map(|(kind, _)| kind).collect();
        assert_eq!(kinds, [4, 17, 4, 17]);
        assert_eq!(read(&mut receivers, 8).len(), 4, "and all of them if there is room");
    });
}
