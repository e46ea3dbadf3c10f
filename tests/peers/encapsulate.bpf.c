// SPDX-License-Identifier: MIT OR Apache-2.0
//
// A director that is none of ours: wraps every packet for the VIP that arrives on an interface (tc, ingress) and sends it
// to one real server through the same interface. See outer.h for the parameters.
#include "outer.h"

#define TTL 64
#define DONT_FRAGMENT 0x4000

static __always_inline void fill_ip(struct outer *outer, const inner_ip *inner, __u32 length)
{
    static const __u8 director[] = { DIRECTOR };
    static const __u8 real_server[] = { REAL_SERVER };
#if INNER == 4
    __u8 traffic_class = inner->tos;
#else
    __u8 traffic_class = inner->priority << 4 | inner->flow_lbl[0] >> 4;
#endif
    outer_ip *ip = &outer->ip;

    ip->version = OUTER;
#if OUTER == 4
    ip->ihl = sizeof(*ip) / 4;
    ip->tos = traffic_class;
    ip->tot_len = bpf_htons(length);
    ip->id = bpf_get_prandom_u32();
#if INNER == 4
    ip->frag_off = inner->frag_off & bpf_htons(DONT_FRAGMENT);
#else
    ip->frag_off = bpf_htons(DONT_FRAGMENT);
#endif
    ip->ttl = TTL;
    ip->protocol = CARRIER;
#else
    ip->priority = traffic_class >> 4;
    ip->flow_lbl[0] = traffic_class << 4;
    ip->payload_len = bpf_htons(length - sizeof(*ip));
    ip->nexthdr = CARRIER;
    ip->hop_limit = TTL;
#endif
    __builtin_memcpy(&ip->saddr, director, sizeof(ip->saddr));
    __builtin_memcpy(&ip->daddr, real_server, sizeof(ip->daddr));
#if OUTER == 4
    ip->check = ~folded(sum_of(ip, sizeof(*ip), 0));
#endif
}

// Everything but the checksum, which covers it.
static __always_inline void fill_format(struct __sk_buff *skb, struct outer *outer, __u32 length)
{
#if HAS_UDP
    outer->udp.source = bpf_htons(0xc000 | (bpf_get_hash_recalc(skb) & 0x3fff));
    outer->udp.dest = bpf_htons(PORT);
    outer->udp.len = bpf_htons(length - sizeof(outer->ip));
#endif
#if FORMAT == FORMAT_GRE
    outer->gre.flags = bpf_htons(CHECKSUM ? GRE_HAS_CHECKSUM : 0);
    outer->gre.ethertype = bpf_htons(ETHERTYPE(INNER));
#endif
#if FORMAT == FORMAT_GUE0
    outer->gue.number = NUMBER(INNER);
#endif
}

static __always_inline int fill_checksum(struct __sk_buff *skb, struct outer *outer, __u32 length)
{
#if CHECKSUM
    __s64 sum = sum_of_packet(skb, ETH_HLEN, 0);

    if (sum < 0)
        return -1;
    sum = sum_of(&outer->ip + 1, sizeof(*outer) - sizeof(outer->ip), sum);
#if HAS_UDP
    __u32 pseudo_header = sum_of_pseudo_header(&outer->ip, length - sizeof(outer->ip));
    __u16 checksum = ~folded(folded(sum) + folded(pseudo_header));
    // 0 would mean that there is none
    outer->udp.check = checksum ? checksum : 0xffff;
#endif
#if FORMAT == FORMAT_GRE
    outer->gre.checksum = ~folded(sum);
#endif
#endif
    return 0;
}

static __always_inline __u64 room(void)
{
    __u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO;

    flags |= OUTER == 4 ? BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 : BPF_F_ADJ_ROOM_ENCAP_L3_IPV6;
    if (HAS_UDP)
        flags |= BPF_F_ADJ_ROOM_ENCAP_L4_UDP;
    if (FORMAT == FORMAT_GRE)
        flags |= BPF_F_ADJ_ROOM_ENCAP_L4_GRE;
    return flags;
}

SEC("tc")
int encapsulate(struct __sk_buff *skb)
{
    static const __u8 vip[] = { VIP };
    inner_ip inner;
    struct outer outer = {};
    __u32 length = sizeof(outer) + skb->len - ETH_HLEN;
    __be16 ethertype = bpf_htons(ETHERTYPE(OUTER));

    if (skb->protocol != bpf_htons(ETHERTYPE(INNER)) || bpf_skb_load_bytes(skb, ETH_HLEN, &inner, sizeof(inner)))
        return TC_ACT_OK;
    if (!is_address(&inner.daddr, vip, sizeof(inner.daddr)))
        return TC_ACT_OK;
    fill_ip(&outer, &inner, length);
    fill_format(skb, &outer, length);
    if (fill_checksum(skb, &outer, length))
        return TC_ACT_SHOT;
    if (bpf_skb_adjust_room(skb, sizeof(outer), BPF_ADJ_ROOM_MAC, room()))
        return TC_ACT_SHOT;
    if (bpf_skb_store_bytes(skb, ETH_HLEN, &outer, sizeof(outer), 0))
        return TC_ACT_SHOT;
    if (bpf_skb_store_bytes(skb, offsetof(struct ethhdr, h_proto), &ethertype, sizeof(ethertype), 0))
        return TC_ACT_SHOT;
    return bpf_redirect_neigh(skb->ifindex, 0, 0, 0);
}

// No helper used here is reserved for programs under the GPL.
char _license[] SEC("license") = "MIT OR Apache-2.0";
