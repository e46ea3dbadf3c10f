// SPDX-License-Identifier: MIT OR Apache-2.0
//
// A real server that is none of ours: strips what the director has put before a packet (tc, ingress), and leaves the rest
// to the host. It drops an outer packet unless every field of it is as the format demands, and leaves all other packets
// alone. Where the families differ it needs Linux 6.3. See outer.h for the parameters.
#include "outer.h"

// Since Linux 6.3; the headers may be older.
#define DECAP_L3_IPV4 (1ULL << 7)
#define DECAP_L3_IPV6 (1ULL << 8)

static __always_inline int is_for_us(const outer_ip *ip)
{
    static const __u8 director[] = { DIRECTOR };
    static const __u8 real_server[] = { REAL_SERVER };
#if OUTER == 4
    __u8 carrier = ip->protocol;
#else
    __u8 carrier = ip->nexthdr;
#endif
    return carrier == CARRIER && is_address(&ip->saddr, director, sizeof(ip->saddr)) &&
           is_address(&ip->daddr, real_server, sizeof(ip->daddr));
}

// Whether the header is right for a whole packet of this length.
static __always_inline int is_right_ip(const outer_ip *ip, __u32 length)
{
#if OUTER == 4
    return ip->version == 4 && ip->ihl == 5 && ip->tot_len == bpf_htons(length) && ip->ttl &&
           !(ip->frag_off & bpf_htons(0xbfff)) && folded(sum_of(ip, sizeof(*ip), 0)) == 0xffff;
#else
    return ip->version == 6 && ip->payload_len == bpf_htons(length - sizeof(*ip)) && ip->hop_limit;
#endif
}

static __always_inline int is_right_checksum(struct __sk_buff *skb, const outer_ip *ip, __u32 length)
{
    __s64 sum = sum_of_packet(skb, ETH_HLEN + sizeof(*ip), HAS_UDP ? sum_of_pseudo_header(ip, length - sizeof(*ip)) : 0);

    return sum >= 0 && folded(sum) == 0xffff;
}

static __always_inline int is_right_format(struct __sk_buff *skb, const struct outer *outer, __u32 length)
{
#if HAS_UDP
    if (outer->udp.dest != bpf_htons(PORT) || outer->udp.len != bpf_htons(length - sizeof(outer->ip)))
        return 0;
    if (!CHECKSUM != !outer->udp.check)
        return 0;
#endif
#if FORMAT == FORMAT_GRE
    if (outer->gre.flags != bpf_htons(CHECKSUM ? GRE_HAS_CHECKSUM : 0))
        return 0;
    if (outer->gre.ethertype != bpf_htons(ETHERTYPE(INNER)))
        return 0;
#if CHECKSUM
    if (outer->gre.reserved)
        return 0;
#endif
#endif
#if FORMAT == FORMAT_GUE0
    if (outer->gue.variant_control_length || outer->gue.number != NUMBER(INNER) || outer->gue.flags)
        return 0;
#endif
    return !(CHECKSUM && (HAS_UDP || FORMAT == FORMAT_GRE)) || is_right_checksum(skb, &outer->ip, length);
}

// Whether the inner packet takes up all of the space.
static __always_inline int is_right_inner(const inner_ip *ip, __u32 length)
{
#if INNER == 4
    return ip->version == 4 && ip->tot_len == bpf_htons(length);
#else
    return ip->version == 6 && ip->payload_len == bpf_htons(length - sizeof(*ip));
#endif
}

SEC("tc")
int decapsulate(struct __sk_buff *skb)
{
    struct {
        struct outer outer;
        inner_ip inner;
    } packet;
    __u32 length = skb->len - ETH_HLEN;
    __u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO;
    __be16 ethertype = bpf_htons(ETHERTYPE(INNER));

    if (OUTER != INNER)
        flags |= INNER == 4 ? DECAP_L3_IPV4 : DECAP_L3_IPV6;
    if (skb->protocol != bpf_htons(ETHERTYPE(OUTER)) || bpf_skb_load_bytes(skb, ETH_HLEN, &packet, sizeof(packet)))
        return TC_ACT_OK;
    if (!is_for_us(&packet.outer.ip))
        return TC_ACT_OK;
    if (!is_right_ip(&packet.outer.ip, length) || !is_right_format(skb, &packet.outer, length) ||
        !is_right_inner(&packet.inner, length - sizeof(packet.outer)))
        return TC_ACT_SHOT;
    if (bpf_skb_adjust_room(skb, -(__s32)sizeof(packet.outer), BPF_ADJ_ROOM_MAC, flags))
        return TC_ACT_SHOT;
    if (bpf_skb_store_bytes(skb, offsetof(struct ethhdr, h_proto), &ethertype, sizeof(ethertype), 0))
        return TC_ACT_SHOT;
    return TC_ACT_OK;
}

// No helper used here is reserved for programs under the GPL.
char _license[] SEC("license") = "MIT OR Apache-2.0";
