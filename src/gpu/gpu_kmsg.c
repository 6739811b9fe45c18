#include "gpu/gpu_kmsg.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"

enum { RECORD_MAX_BYTES = 8192, READS_MAX = 2000 };

struct gpu_kmsg {
    char *path;
    int fd;        /* -1: not open */
    GString *rest; /* a record that is not complete: only a stand-in for the log gives parts of records */
};

/* "Xid (PCI:0000:41:00): 79, …", also "(0000:41:00)" of older drivers. */
static bool parse_text(const char *text, struct gpu_kmsg_xid *xid) {
    g_autofree char *address = NULL;
    const char *end, *found = strstr(text, "NVRM: Xid (");

    if (!found)
        return false;
    found += strlen("NVRM: Xid (");
    found += g_str_has_prefix(found, "PCI:") ? strlen("PCI:") : 0;
    if (!(end = strchr(found, ')')) || end - found >= GPU_PCI_BYTES)
        return false;
    address = g_strdup_printf("%.*s.0", (int)(end - found), found);
    if (!pci_address_from_str(address, &xid->at) || !g_str_has_prefix(end, "): "))
        return false;
    end += strlen("): ");
    xid->code = (int)CLAMP(g_ascii_strtoll(end, NULL, 10), 0, G_MAXINT);
    return g_ascii_isdigit(*end);
}

bool gpu_kmsg_parse(const char *record, struct gpu_kmsg_xid *ret_xid) {
    const char *text = strchr(record, ';');
    const char *sequence = strchr(record, ',');
    const char *stamp = sequence ? strchr(sequence + 1, ',') : NULL;
    struct gpu_kmsg_xid xid = {0};

    if (!text || !stamp || stamp > text || !parse_text(text, &xid))
        return false;
    xid.at_us = g_ascii_strtoll(stamp + 1, NULL, 10);
    *ret_xid = xid;
    return true;
}

struct gpu_kmsg *gpu_kmsg_new(const char *root) {
    struct gpu_kmsg *kmsg = g_new0(struct gpu_kmsg, 1);

    kmsg->path = g_build_filename(root, "dev/kmsg", NULL);
    kmsg->fd = -1;
    kmsg->rest = g_string_new(NULL);
    return kmsg;
}

void gpu_kmsg_free(struct gpu_kmsg *kmsg) {
    if (!kmsg)
        return;
    fd_cleanup(&kmsg->fd);
    g_string_free(kmsg->rest, TRUE);
    g_free(kmsg->path);
    g_free(kmsg);
}

static void take_lines(struct gpu_kmsg *kmsg, void (*on_xid)(void *data, const struct gpu_kmsg_xid *xid), void *data) {
    char *end;

    while ((end = strchr(kmsg->rest->str, '\n'))) {
        struct gpu_kmsg_xid xid;

        *end = '\0';
        if (gpu_kmsg_parse(kmsg->rest->str, &xid))
            on_xid(data, &xid);
        g_string_erase(kmsg->rest, 0, end - kmsg->rest->str + 1);
    }
    if (kmsg->rest->len > RECORD_MAX_BYTES)
        g_string_truncate(kmsg->rest, 0);
}

/* EPIPE: records were overwritten before we came to them; the next read goes on behind them. */
void gpu_kmsg_read(struct gpu_kmsg *kmsg, void (*on_xid)(void *data, const struct gpu_kmsg_xid *xid), void *data) {
    char buf[RECORD_MAX_BYTES];
    ssize_t got = 1;

    if (kmsg->fd < 0)
        kmsg->fd = open(kmsg->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    for (int i = 0; kmsg->fd >= 0 && i < READS_MAX && (got > 0 || errno == EPIPE || errno == EINTR); i++) {
        got = read(kmsg->fd, buf, sizeof buf);
        if (got == 0)
            break;
        if (got > 0)
            g_string_append_len(kmsg->rest, buf, got);
        take_lines(kmsg, on_xid, data);
    }
}
