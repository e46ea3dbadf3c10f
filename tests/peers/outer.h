// SPDX-License-Identifier: MIT OR Apache-2.0
//
// What stands before the inner packet, by the standards alone, for both programs of this directory. Each compilation has
// one format and one family on each side, given with -D:
//
//   FORMAT        FORMAT_IP    the inner packet directly behind the outer header (RFC 2003, RFC 2473, RFC 4213)
//                 FORMAT_GRE   RFC 2784
//                 FORMAT_FOU   the inner packet directly behind UDP; the port alone says which family it has
//                 FORMAT_GUE0  draft-ietf-intarea-gue-09 variant 0: four bytes between UDP and the inner packet
//                 FORMAT_GUE1  variant 1: the inner packet directly behind UDP; its version is its family
//   OUTER, INNER  4 or 6: the family of the outer and of the inner header
//   CHECKSUM      whether UDP and GRE carry a checksum: 0 or 1
//   PORT          the destination port of UDP
//   DIRECTOR, REAL_SERVER, VIP   addresses as bytes: 172,25,3,1
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define FORMAT_IP 0
#define FORMAT_GRE 1
#define FORMAT_FOU 2
#define FORMAT_GUE0 3
#define FORMAT_GUE1 4

#define HAS_UDP (FORMAT == FORMAT_FOU || FORMAT == FORMAT_GUE0 || FORMAT == FORMAT_GUE1)

// Of the families: the EtherType (also in GRE), and the protocol number of a packet inside another.
#define ETHERTYPE(family) ((family) == 4 ? ETH_P_IP : ETH_P_IPV6)
#define NUMBER(family) ((family) == 4 ? IPPROTO_IPIP : IPPROTO_IPV6)
#define CARRIER (HAS_UDP ? IPPROTO_UDP : FORMAT == FORMAT_GRE ? IPPROTO_GRE : NUMBER(INNER))

#if OUTER == 4
typedef struct iphdr outer_ip;
#else
typedef struct ipv6hdr outer_ip;
#endif

#if INNER == 4
typedef struct iphdr inner_ip;
#else
typedef struct ipv6hdr inner_ip;
#endif

#define GRE_HAS_CHECKSUM 0x8000

struct gre {
    __be16 flags;
    __be16 ethertype;
#if CHECKSUM
    __sum16 checksum;
    __be16 reserved;
#endif
};

struct gue {
    __u8 variant_control_length;
    __u8 number;
    __be16 flags;
};

struct outer {
    outer_ip ip;
#if HAS_UDP
    struct udphdr udp;
#endif
#if FORMAT == FORMAT_GRE
    struct gre gre;
#endif
#if FORMAT == FORMAT_GUE0
    struct gue gue;
#endif
} __attribute__((packed, aligned(4)));

// An address of a packet, and one of the parameters; memcmp() of 16 bytes is no built-in of clang here.
static __always_inline int is_address(const void *address, const __u8 *parameter, __u32 length)
{
    const __u8 *bytes = address;

    for (__u32 i = 0; i < length; i++)
        if (bytes[i] != parameter[i])
            return 0;
    return 1;
}

// RFC 1071.
static __always_inline __u16 folded(__u32 sum)
{
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

// The sum over a multiple of four bytes.
static __always_inline __u32 sum_of(const void *bytes, __u32 length, __u32 sum)
{
    return bpf_csum_diff(0, 0, (__be32 *)bytes, length, sum);
}

#define BLOCK 256
#define BLOCKS 40

// The sum over the packet from `at` on; -1 if it cannot be read.
static __always_inline __s64 sum_of_packet(struct __sk_buff *skb, __u32 at, __u32 sum)
{
    __u8 block[BLOCK] __attribute__((aligned(4)));
    __u32 end = skb->len;

    for (int i = 0; i < BLOCKS && at + BLOCK <= end; i++) {
        if (bpf_skb_load_bytes(skb, at, block, BLOCK))
            return -1;
        sum = sum_of(block, BLOCK, sum);
        at += BLOCK;
    }
    if (at == end)
        return sum;
    if (end - at >= BLOCK)
        return -1;
    // The mask changes nothing, but shows the verifier that neither 0 nor more than a block is read.
    __u32 last = (end - at - 1) & (BLOCK - 1);
    asm volatile("" : "+r"(last));
    __builtin_memset(block, 0, BLOCK);
    if (bpf_skb_load_bytes(skb, at, block, last + 1))
        return -1;
    return sum_of(block, BLOCK, sum);
}

// The pseudo-header of UDP (RFC 768; RFC 8200 section 8.1). Where its fields stand makes no difference to the sum.
static __always_inline __u32 sum_of_pseudo_header(const outer_ip *ip, __u16 length)
{
    __be32 length_and_protocol[2] = { bpf_htonl(length), bpf_htonl(IPPROTO_UDP) };
    __u32 sum = sum_of(length_and_protocol, sizeof(length_and_protocol), 0);

    return sum_of(&ip->saddr, sizeof(ip->saddr) + sizeof(ip->daddr), sum);
}
