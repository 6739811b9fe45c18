#include "vm/nat_link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "base/error.h"

/* The mark of ours on a link, an interface group (ip-link(8)): unlike a name or an alias the kernel sets it as it makes the link, so no
 * death in between leaves one without it. */
enum { LINK_GROUP = 0x6b726d, ANSWER_S = 5 };

struct question {
    struct mnl_socket *socket;
    unsigned seq;
    char buffer[8192]; /* MNL_SOCKET_BUFFER_SIZE is at most that */
};

static int note_group(const struct nlattr *attr, void *data) {
    if (mnl_attr_get_type(attr) == IFLA_GROUP)
        *(uint32_t *)data = mnl_attr_get_u32(attr);
    return MNL_CB_OK;
}

static int on_link(const struct nlmsghdr *header, void *data) {
    return data ? mnl_attr_parse(header, sizeof(struct ifinfomsg), note_group, data) : MNL_CB_OK;
}

/* Sends what stands in the buffer. 0, or the kernel's errno. `group`: filled from the answer, NULL: there is none to come. */
static int ask(struct question *q, struct nlmsghdr *header, uint32_t *group) {
    ssize_t n;
    int rc = 1;

    header->nlmsg_seq = ++q->seq;
    if (mnl_socket_sendto(q->socket, header, header->nlmsg_len) < 0)
        return errno;
    while (rc > 0) {
        n = mnl_socket_recvfrom(q->socket, q->buffer, sizeof q->buffer);
        if (n < 0)
            return errno;
        rc = mnl_cb_run(q->buffer, (size_t)n, q->seq, mnl_socket_get_portid(q->socket), on_link, group);
    }
    return rc < 0 ? errno : 0;
}

static struct nlmsghdr *begin(struct question *q, uint16_t type, uint16_t flags) {
    struct nlmsghdr *header = mnl_nlmsg_put_header(q->buffer);

    header->nlmsg_type = type;
    header->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    return header;
}

static struct nlmsghdr *begin_link(struct question *q, const char *name, uint16_t type, uint16_t flags, bool is_up) {
    struct nlmsghdr *header = begin(q, type, flags);
    struct ifinfomsg *link = mnl_nlmsg_put_extra_header(header, sizeof *link);

    link->ifi_family = AF_UNSPEC;
    link->ifi_change = is_up ? IFF_UP : 0;
    link->ifi_flags = is_up ? IFF_UP : 0;
    mnl_attr_put_strz(header, IFLA_IFNAME, name);
    return header;
}

static bool fail(GError **error, int code, const char *what, const struct nat_net *net) {
    return kr_fail(error, REFUSED, "%s %s: %s", what, net->bridge, g_strerror(code));
}

static bool make_bridge(struct question *q, const struct nat_net *net, GError **error) {
    struct nlmsghdr *header = begin_link(q, net->bridge, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, false);
    struct nlattr *info;
    uint32_t group = 0;
    int code;

    mnl_attr_put_u32(header, IFLA_GROUP, LINK_GROUP);
    info = mnl_attr_nest_start(header, IFLA_LINKINFO);
    mnl_attr_put_strz(header, IFLA_INFO_KIND, "bridge");
    mnl_attr_nest_end(header, info);
    code = ask(q, header, NULL);
    if (code != EEXIST)
        return code == 0 || fail(error, code, "make the bridge", net);
    code = ask(q, begin_link(q, net->bridge, RTM_GETLINK, 0, false), &group);
    if (code)
        return fail(error, code, "look at the bridge", net);
    return group == LINK_GROUP ||
           kr_fail(error, REFUSED, "there is a link %s that is not the machines' (vm_bridge): choose another name",
                   net->bridge);
}

static bool add_address(struct question *q, const struct nat_net *net, GError **error) {
    struct nlmsghdr *header = begin(q, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL);
    struct ifaddrmsg *message = mnl_nlmsg_put_extra_header(header, sizeof *message);
    uint32_t address = htonl(net->address), last = htonl(net->address | ~(~(uint32_t)0 << (32 - net->prefix)));
    int code;

    message->ifa_family = AF_INET;
    message->ifa_prefixlen = (uint8_t)net->prefix;
    message->ifa_scope = RT_SCOPE_UNIVERSE;
    message->ifa_index = if_nametoindex(net->bridge);
    mnl_attr_put_u32(header, IFA_LOCAL, address);
    mnl_attr_put_u32(header, IFA_ADDRESS, address);
    mnl_attr_put_u32(header, IFA_BROADCAST, last);
    code = ask(q, header, NULL);
    return code == 0 || code == EEXIST || fail(error, code, "give its address to the bridge", net);
}

static bool ensure(struct question *q, const struct nat_net *net, GError **error) {
    int code;

    if (!make_bridge(q, net, error) || !add_address(q, net, error))
        return false;
    code = ask(q, begin_link(q, net->bridge, RTM_NEWLINK, 0, true), NULL);
    return code == 0 || fail(error, code, "bring up the bridge", net);
}

bool nat_link_ensure(const struct nat_net *net, GError **error) {
    struct question *q = g_new0(struct question, 1);
    struct timeval patience = {.tv_sec = ANSWER_S};
    bool ok = false;

    q->socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
    if (q->socket &&
        setsockopt(mnl_socket_get_fd(q->socket), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0 &&
        mnl_socket_bind(q->socket, 0, MNL_SOCKET_AUTOPID) == 0)
        ok = ensure(q, net, error);
    else
        fail(error, errno, "ask the kernel for the bridge", net);
    if (q->socket)
        mnl_socket_close(q->socket);
    g_free(q);
    return ok;
}
