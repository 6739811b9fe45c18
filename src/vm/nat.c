#include "vm/nat.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

enum { MIN_PREFIX = 16, MAX_PREFIX = 29, MAX_NAME_SERVERS = 3 };

static uint32_t mask_of(const struct nat_net *net) { return ~(uint32_t)0 << (32 - net->prefix); }

static bool read_address(const char *text, uint32_t *ret_address) {
    struct in_addr address;

    if (inet_pton(AF_INET, text, &address) != 1)
        return false;
    *ret_address = ntohl(address.s_addr);
    return true;
}

static bool is_bridge_name(const char *name) {
    return name[0] && strlen(name) < NAT_BRIDGE_BYTES && !g_ascii_isdigit(name[0]) &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == strlen(name);
}

bool nat_net_parse(const char *text, const char *bridge, struct nat_net *ret_net, GError **error) {
    g_auto(GStrv) part = g_strsplit(text, "/", 2);
    struct nat_net net = {0};
    guint64 prefix;

    if (!is_bridge_name(bridge))
        return kr_fail(error, USAGE,
                       "vm_bridge: \"%s\" cannot be the name of a bridge of the node's own: at most 15 of "
                       "letters, digits and '_', beginning with a letter",
                       bridge);
    if (g_strv_length(part) != 2 || !read_address(part[0], &net.address) ||
        !g_ascii_string_to_unsigned(part[1], 10, MIN_PREFIX, MAX_PREFIX, &prefix, NULL))
        return kr_fail(error, USAGE, "vm_nat: \"%s\" is no address with a prefix of %d to %d, as in 10.88.0.1/24", text,
                       MIN_PREFIX, MAX_PREFIX);
    net.prefix = (int)prefix;
    if ((net.address & ~mask_of(&net)) == 0 || (net.address | mask_of(&net)) == ~(uint32_t)0)
        return kr_fail(error, USAGE, "vm_nat: %s is the first or last address of its network, which nobody can have",
                       part[0]);
    g_strlcpy(net.bridge, bridge, sizeof net.bridge);
    *ret_net = net;
    return true;
}

void nat_address_to_str(uint32_t address, char ret_text[static NAT_ADDRESS_BYTES]) {
    struct in_addr in = {.s_addr = htonl(address)};

    inet_ntop(AF_INET, &in, ret_text, NAT_ADDRESS_BYTES);
}

static bool is_guests(const struct nat_net *net, uint32_t address) {
    uint32_t mask = mask_of(net);

    return (address & mask) == (net->address & mask) && address != net->address && (address & ~mask) != 0 &&
           (address | mask) != ~(uint32_t)0;
}

bool nat_is_guest_address(const struct nat_net *net, const char *text) {
    uint32_t address;

    return read_address(text, &address) && is_guests(net, address);
}

char *nat_choose_address(const struct nat_net *net, const char *const *taken, GError **error) {
    uint32_t mask = mask_of(net), first = (net->address & mask) + 1;
    char text[NAT_ADDRESS_BYTES];

    for (uint32_t address = first; (address & mask) == (first & mask); address++) {
        if (!is_guests(net, address))
            continue;
        nat_address_to_str(address, text);
        if (!g_strv_contains(taken, text))
            return g_strdup(text);
    }
    kr_fail(error, REFUSED,
            "all addresses of the machines' network are taken (vm_nat): delete a VPS, or make it larger");
    return NULL;
}

static const char rules[] = "table inet kohakuriver_BRIDGE\n"
                            "delete table inet kohakuriver_BRIDGE\n"
                            "table inet kohakuriver_BRIDGE {\n"
                            "  chain postrouting {\n"
                            "    type nat hook postrouting priority srcnat; policy accept;\n"
                            "    ip saddr NETWORK oifname != \"BRIDGE\" masquerade\n"
                            "  }\n"
                            "  chain input {\n"
                            "    type filter hook input priority filter; policy accept;\n"
                            "    iifname \"BRIDGE\" ct state established,related accept\n"
                            "    iifname \"BRIDGE\" ip protocol icmp accept\n"
                            "    iifname \"BRIDGE\" drop\n"
                            "  }\n"
                            "  chain forward {\n"
                            "    type filter hook forward priority filter; policy accept;\n"
                            "    oifname \"BRIDGE\" ct state established,related accept\n"
                            "    oifname \"BRIDGE\" drop\n"
                            "  }\n"
                            "}\n";

char *nat_ruleset(const struct nat_net *net) {
    GString *text = g_string_new(rules);
    char first[NAT_ADDRESS_BYTES];
    g_autofree char *network = NULL;

    nat_address_to_str(net->address & mask_of(net), first);
    network = g_strdup_printf("%s/%d", first, net->prefix);
    g_string_replace(text, "NETWORK", network, 0);
    g_string_replace(text, "BRIDGE", net->bridge, 0);
    return g_string_free(text, FALSE);
}

/* "Iface Destination Gateway Flags …", in hex */
char **nat_outside_links(const char *routes) {
    enum { HAS_GATEWAY = 2, MAX_LINKS = 16 };
    g_auto(GStrv) lines = g_strsplit(routes, "\n", -1);
    GPtrArray *links = g_ptr_array_new();

    for (guint at = 1; at < g_strv_length(lines) && links->len < MAX_LINKS; at++) { /* the first one names columns */
        g_auto(GStrv) word = g_strsplit(lines[at], "\t", 5);
        bool is_new = g_strv_length(word) == 5 && g_ascii_strtoull(word[3], NULL, 16) & HAS_GATEWAY &&
                      !strpbrk(word[0], "\"\\ ");
        for (guint i = 0; i < links->len && is_new; i++)
            is_new = strcmp(links->pdata[i], word[0]) != 0;
        if (is_new)
            g_ptr_array_add(links, g_strdup(word[0]));
    }
    g_ptr_array_add(links, NULL);
    return (char **)g_ptr_array_free(links, FALSE);
}

char **nat_name_servers(const char *resolv_conf) {
    g_auto(GStrv) lines = g_strsplit(resolv_conf, "\n", -1);
    GPtrArray *servers = g_ptr_array_new();

    for (char **line = lines; *line && servers->len < MAX_NAME_SERVERS; line++) {
        g_auto(GStrv) word = g_strsplit_set(g_strstrip(*line), " \t", 0);
        uint32_t address;
        guint i = 1;
        if (g_strcmp0(word[0], "nameserver") != 0)
            continue;
        while (word[i] && !word[i][0])
            i++;
        if (word[i] && read_address(word[i], &address) && address >> 24 != 127)
            g_ptr_array_add(servers, g_strdup(word[i]));
    }
    g_ptr_array_add(servers, NULL);
    return (char **)g_ptr_array_free(servers, FALSE);
}
