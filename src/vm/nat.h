#pragma once
/* The network of machines behind a bridge of the node's own: which addresses there are, who gets which, and what the packet filter
 * is told. Pure; nat_bridge.h acts. Guests reach the world by the node's address; nothing outside reaches them, and they do not
 * reach the node's own services. Addresses are fixed by cloud-init, so there is no DHCP server. */

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

enum { NAT_BRIDGE_BYTES = 16, NAT_ADDRESS_BYTES = 16 };

struct nat_net {
    char bridge[NAT_BRIDGE_BYTES]; /* letters, digits, '_' */
    uint32_t address;              /* the node's own in it, host byte order */
    int prefix;                    /* 16 to 29 */
};

/* "10.88.0.1/24": the node's own address, and how many there are. KR_ERROR_USAGE. */
bool nat_net_parse(const char *text, const char *bridge, struct nat_net *ret_net, GError **error);
void nat_address_to_str(uint32_t address, char ret_text[static NAT_ADDRESS_BYTES]);
/* Can a guest have this address? Not the node's own, nor the first or last one. */
bool nat_is_guest_address(const struct nat_net *net, const char *address);
/* The lowest that is not among `taken` (ends with NULL). KR_ERROR_REFUSED when all are. Caller frees. */
char *nat_choose_address(const struct nat_net *net, const char *const *taken, GError **error);
/* What `nft` is told: one transaction that replaces what it was told before. Caller frees. */
char *nat_ruleset(const struct nat_net *net);
/* The interfaces that lead outside, by the text of /proc/net/route (IPv4 routes by way of a gateway), each once; g_strfreev. */
char **nat_outside_links(const char *routes);
/* Name servers of a resolv.conf that a guest can reach, so none of the node's own; g_strfreev. */
char **nat_name_servers(const char *resolv_conf);
