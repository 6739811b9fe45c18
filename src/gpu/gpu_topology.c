#include "gpu/gpu_topology.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/json.h"

struct gpu_site *gpu_site_new(const char *pci) {
    struct gpu_site *site = g_new0(struct gpu_site, 1);

    g_strlcpy(site->pci, pci, sizeof site->pci);
    site->numa_node = -1;
    site->index = -1;
    site->path = g_new0(char *, 1);
    return site;
}

void gpu_site_free(struct gpu_site *site) {
    if (!site)
        return;
    g_free(site->cpus);
    g_strfreev(site->path);
    if (site->nvlinks)
        g_array_unref(site->nvlinks);
    g_free(site);
}

/* The parts of ".../devices/pci0000:00/0000:00:01.0/0000:01:00.0" from the host bridge on; host bridges behind others
 * ("pci0000:00" below "LNXSYSTM:00/…") start there too. */
static char **path_of(const char *folder) {
    char real[PATH_MAX];
    const char *bridge = realpath(folder, real) ? strstr(real, "/pci") : NULL;
    char **path;

    while (bridge && (!g_ascii_isxdigit(bridge[4]) || strchr(bridge + 4, ':') == NULL))
        bridge = strstr(bridge + 1, "/pci");
    path = g_strsplit(bridge ? bridge + 1 : "", "/", GPU_SITE_MAX_PATH);
    return path;
}

struct gpu_site *gpu_site_read(const char *root, const struct gpu_pci_card *card) {
    struct gpu_site *site = gpu_site_new(card->address);
    g_autofree char *folder = g_build_filename(root, "sys/bus/pci/devices", card->address, NULL);
    g_autofree char *list = g_build_filename(folder, "local_cpulist", NULL);

    site->numa_node = card->numa_node;
    g_strfreev(site->path);
    site->path = path_of(folder);
    if (fs_read_file(list, GPU_CPULIST_MAX_BYTES, &site->cpus, NULL, NULL))
        g_strchomp(site->cpus);
    if (site->cpus && (!site->cpus[0] || !g_str_is_ascii(site->cpus)))
        g_clear_pointer(&site->cpus, g_free);
    return site;
}

void gpu_site_add_link(struct gpu_site *site, const char *remote) {
    struct gpu_nvlinks links = {.count = 1};

    if (!site->nvlinks)
        site->nvlinks = g_array_new(FALSE, TRUE, sizeof links);
    g_strlcpy(links.remote, remote ? remote : "", sizeof links.remote);
    for (guint i = 0; i < site->nvlinks->len; i++) {
        struct gpu_nvlinks *known = &g_array_index(site->nvlinks, struct gpu_nvlinks, i);
        if (strcmp(known->remote, links.remote) == 0) {
            known->count++;
            return;
        }
    }
    if (site->nvlinks->len < GPU_SITE_MAX_PEERS)
        g_array_append_val(site->nvlinks, links);
}

/* ---- between worker and monitor ---- */

static json_t *links_to_json(const GArray *links) {
    json_t *list = json_array();

    for (guint i = 0; i < links->len; i++) {
        const struct gpu_nvlinks *one = &g_array_index(links, struct gpu_nvlinks, i);
        json_array_append_new(list, json_pack("{s:s,s:i}", "remote", one->remote, "count", one->count));
    }
    return list;
}

json_t *gpu_site_to_json(const struct gpu_site *site) {
    json_t *json = json_pack("{s:s}", "pci_address", site->pci);
    json_t *path = json_array();

    for (char **part = site->path; *part; part++)
        json_array_append_new(path, json_string(*part));
    json_object_set_new(json, "path", path);
    if (site->numa_node >= 0)
        json_object_set_new(json, "numa_node", json_integer(site->numa_node));
    if (site->cpus)
        json_object_set_new(json, "cpus", json_string(site->cpus));
    if (site->nvlinks)
        json_object_set_new(json, "nvlinks", links_to_json(site->nvlinks));
    return json;
}

static bool links_from_json(struct gpu_site *site, const json_t *list, GError **error) {
    const json_t *item;
    size_t i;

    if (list)
        site->nvlinks = g_array_new(FALSE, TRUE, sizeof(struct gpu_nvlinks));
    json_array_foreach (list, i, item) {
        struct json_reader r = jr_init(item, "nvlink", error);
        struct gpu_nvlinks links = {.count = (int)jr_int(&r, "count", 0, 1024)};

        g_strlcpy(links.remote, jr_str(&r, "remote", sizeof links.remote - 1), sizeof links.remote);
        if (!jr_done(&r))
            return false;
        g_array_append_val(site->nvlinks, links);
    }
    return true;
}

struct gpu_site *gpu_site_from_json(const json_t *json, GError **error) {
    struct json_reader r = jr_init(json, "site", error);
    struct gpu_site *site = gpu_site_new(jr_str(&r, "pci_address", GPU_PCI_BYTES - 1));

    g_strfreev(site->path);
    site->path = jr_strv_opt(&r, "path", GPU_SITE_MAX_PATH, 255);
    if (!site->path)
        site->path = g_new0(char *, 1);
    site->numa_node = (int)jr_int_opt(&r, "numa_node", 0, G_MAXINT, -1);
    site->cpus = g_strdup(jr_str_opt(&r, "cpus", GPU_CPULIST_MAX_BYTES, NULL));
    if (!r.failed && !links_from_json(site, jr_array_opt(&r, "nvlinks", GPU_SITE_MAX_PEERS), r.error))
        r.failed = true;
    if (jr_done(&r))
        return site;
    gpu_site_free(site);
    return NULL;
}

/* ---- kinds ---- */

static int nvlinks_to(const struct gpu_site *site, const char *remote) {
    for (guint i = 0; site->nvlinks && i < site->nvlinks->len; i++) {
        const struct gpu_nvlinks *links = &g_array_index(site->nvlinks, struct gpu_nvlinks, i);
        if (strcmp(links->remote, remote) == 0)
            return links->count;
    }
    return 0;
}

/* Links to switches count where both have some: within one machine every switch reaches every card. */
static int nvlinks_between(const struct gpu_site *a, const struct gpu_site *b) {
    int direct = MAX(nvlinks_to(a, b->pci), nvlinks_to(b, a->pci));

    return direct + MIN(nvlinks_to(a, ""), nvlinks_to(b, ""));
}

static const char *kind_by_numa(const struct gpu_site *a, const struct gpu_site *b) {
    return a->numa_node == b->numa_node ? "NODE" : "SYS";
}

/* Below the common ancestor a card behind one switch has two parts of the way left: the switch's downstream port and
 * itself. */
static const char *kind_by_path(const struct gpu_site *a, const struct gpu_site *b) {
    guint common = 0, len_a = g_strv_length(a->path), len_b = g_strv_length(b->path);

    while (common < len_a && common < len_b && strcmp(a->path[common], b->path[common]) == 0)
        common++;
    if (common == 0)
        return kind_by_numa(a, b);
    if (common == 1)
        return "PHB";
    return len_a - common <= 2 && len_b - common <= 2 ? "PIX" : "PXB";
}

const char *gpu_link_kind(const struct gpu_site *a, const struct gpu_site *b, char buf[static GPU_LINK_KIND_BYTES]) {
    int nvlinks = nvlinks_between(a, b);

    if (nvlinks > 0)
        g_snprintf(buf, GPU_LINK_KIND_BYTES, "NV%d", nvlinks);
    else
        g_strlcpy(buf, kind_by_path(a, b), GPU_LINK_KIND_BYTES);
    return buf;
}

static json_t *place_to_json(const struct gpu_site *site) {
    json_t *json = json_pack("{s:s,s:i}", "uuid", site->uuid, "index", site->index);

    if (site->numa_node >= 0)
        json_object_set_new(json, "numa_node", json_integer(site->numa_node));
    if (site->cpus)
        json_object_set_new(json, "cpus", json_string(site->cpus));
    return json;
}

json_t *gpu_topology_to_json(const GPtrArray *sites) {
    json_t *gpus = json_array(), *links = json_array();

    for (guint i = 0; i < sites->len; i++) {
        const struct gpu_site *a = sites->pdata[i];
        if (!a->uuid[0])
            continue;
        json_array_append_new(gpus, place_to_json(a));
        for (guint k = i + 1; k < sites->len; k++) {
            const struct gpu_site *b = sites->pdata[k];
            char kind[GPU_LINK_KIND_BYTES];
            if (b->uuid[0])
                json_array_append_new(
                    links, json_pack("{s:s,s:s,s:s}", "a", a->uuid, "b", b->uuid, "kind", gpu_link_kind(a, b, kind)));
        }
    }
    return json_pack("{s:o,s:o}", "gpus", gpus, "links", links);
}
