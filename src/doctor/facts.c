#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "doctor/doctor_case.h"
#include "doctor/facts_internal.h"

enum { DRM_MAJOR = 226, MAX_VALUE_BYTES = 65536 };

/* ---- small readers ---- */

char *doctor_value(struct doctor_case *c, const char *format, ...) {
    g_autofree char *path = NULL;
    char *text;
    va_list args;

    va_start(args, format);
    path = g_strdup_vprintf(format, args);
    va_end(args);
    text = doctor_root_read(c->root, path, MAX_VALUE_BYTES);
    return text ? g_strchomp(text) : NULL;
}

bool doctor_has(struct doctor_case *c, const char *format, ...) {
    g_autofree char *path = NULL;
    va_list args;

    va_start(args, format);
    path = g_strdup_vprintf(format, args);
    va_end(args);
    return doctor_root_exists(c->root, path);
}

int doctor_version_compare(const char *a, const char *b) {
    for (;;) {
        char *end_a, *end_b;
        guint64 x = g_ascii_strtoull(a, &end_a, 10), y = g_ascii_strtoull(b, &end_b, 10);

        if (x != y)
            return x < y ? -1 : 1;
        if (*end_a != '.' && *end_b != '.')
            return 0;
        a = *end_a == '.' ? end_a + 1 : "0";
        b = *end_b == '.' ? end_b + 1 : "0";
    }
}

char *doctor_version_after(const char *text, const char *prefix) {
    const char *at = strstr(text, prefix);
    size_t len;

    if (!at)
        return NULL;
    at += strlen(prefix);
    len = strspn(at, "0123456789.");
    while (len > 0 && at[len - 1] == '.')
        len--;
    return len > 0 ? g_strndup(at, len) : NULL;
}

/* ---- the PCI bus ---- */

static unsigned hex_value(struct doctor_case *c, const char *address, const char *name) {
    g_autofree char *text = doctor_value(c, "/sys/bus/pci/devices/%s/%s", address, name);

    return text ? (unsigned)g_ascii_strtoull(text, NULL, 16) : 0;
}

static void link_name(struct doctor_case *c, const char *address, const char *name, char *buf, size_t size) {
    g_autofree char *path = g_strdup_printf("/sys/bus/pci/devices/%s/%s", address, name);
    g_autofree char *target = doctor_root_link(c->root, path);
    const char *slash = target ? strrchr(target, '/') : NULL;

    g_strlcpy(buf, slash ? slash + 1 : target ? target : "", size);
}

static bool read_pci(struct doctor_case *c, const char *name, struct doctor_pci *pci) {
    char group[16];
    g_autofree char *vga = NULL, *override = NULL;

    *pci = (struct doctor_pci){.group = -1};
    if (!pci_address_from_str(name, &pci->at))
        return false;
    pci_address_to_str(&pci->at, pci->address);
    pci->vendor = hex_value(c, name, "vendor");
    pci->class_code = hex_value(c, name, "class") >> 8;
    link_name(c, name, "driver", pci->driver, sizeof pci->driver);
    link_name(c, name, "iommu_group", group, sizeof group);
    if (group[0])
        pci->group = (int)g_ascii_strtoll(group, NULL, 10);
    if (pci->vendor != PCI_VENDOR_NVIDIA)
        return true;
    vga = doctor_value(c, "/sys/bus/pci/devices/%s/boot_vga", name);
    pci->is_boot_vga = vga && strcmp(vga, "1") == 0;
    override = doctor_value(c, "/sys/bus/pci/devices/%s/driver_override", name);
    if (override && strcmp(override, "(null)") != 0)
        g_strlcpy(pci->override, override, sizeof pci->override);
    return true;
}

static int compare_pci(const void *a, const void *b) {
    return pci_address_compare(&((const struct doctor_pci *)a)->at, &((const struct doctor_pci *)b)->at);
}

static bool is_gpu(const struct doctor_pci *pci) {
    return pci->vendor == PCI_VENDOR_NVIDIA &&
           (pci->class_code == 0x0300 || pci->class_code == 0x0302 || pci->class_code == 0x0380);
}

static void gather_pci(struct doctor_case *c) {
    struct doctor_facts *facts = c->facts;
    g_auto(GStrv) names = NULL;

    if (facts->pci)
        return;
    names = doctor_root_list(c->root, "/sys/bus/pci/devices");
    facts->has_pci = names != NULL;
    facts->pci = g_array_new(FALSE, TRUE, sizeof(struct doctor_pci));
    facts->gpus = g_array_new(FALSE, TRUE, sizeof(struct doctor_pci));
    for (size_t i = 0; names && names[i]; i++) {
        struct doctor_pci pci;
        if (read_pci(c, names[i], &pci))
            g_array_append_val(facts->pci, pci);
    }
    g_array_sort(facts->pci, compare_pci);
    for (guint i = 0; i < facts->pci->len; i++)
        if (is_gpu(&g_array_index(facts->pci, struct doctor_pci, i)))
            g_array_append_val(facts->gpus, g_array_index(facts->pci, struct doctor_pci, i));
}

const GArray *doctor_pci(struct doctor_case *c) {
    gather_pci(c);
    return c->facts->pci;
}

const GArray *doctor_gpus(struct doctor_case *c) {
    gather_pci(c);
    return c->facts->gpus;
}

bool doctor_has_pci(struct doctor_case *c) {
    gather_pci(c);
    return c->facts->has_pci;
}

bool doctor_gpu_has_driver(struct doctor_case *c, const char *driver) {
    const GArray *gpus = doctor_gpus(c);

    for (guint i = 0; i < gpus->len; i++)
        if (strcmp(g_array_index(gpus, struct doctor_pci, i).driver, driver) == 0)
            return true;
    return false;
}

/* ---- the loaded driver ---- */

/* "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  565.57.01  Release Build": the first word that is a version. */
static char *version_in(const char *line) {
    g_auto(GStrv) words = g_strsplit_set(line, " \t\n", -1);

    for (size_t i = 0; words[i]; i++)
        if (g_ascii_isdigit(words[i][0]) && strchr(words[i], '.') &&
            strspn(words[i], "0123456789.") == strlen(words[i]))
            return g_strdup(words[i]);
    return g_strdup("");
}

const char *doctor_driver_version(struct doctor_case *c) {
    if (!c->facts->driver_version) {
        g_autofree char *proc = doctor_value(c, "/proc/driver/nvidia/version");
        g_autofree char *sys = proc ? NULL : doctor_value(c, "/sys/module/nvidia/version");
        c->facts->driver_version = version_in(proc ? proc : sys ? sys : "");
    }
    return c->facts->driver_version;
}

/* "Device Minor: \t 3" -> "3" */
static char *field(const char *text, const char *name) {
    const char *at = strstr(text, name);

    if (!at)
        return NULL;
    at += strlen(name);
    at += strspn(at, ": \t");
    return g_strndup(at, strcspn(at, " \t\n"));
}

const GArray *doctor_cards(struct doctor_case *c) {
    g_auto(GStrv) names = NULL;

    if (c->facts->cards)
        return c->facts->cards;
    c->facts->cards = g_array_new(FALSE, TRUE, sizeof(struct doctor_card));
    names = doctor_root_list(c->root, "/proc/driver/nvidia/gpus");
    for (size_t i = 0; names && names[i]; i++) {
        g_autofree char *text = doctor_value(c, "/proc/driver/nvidia/gpus/%s/information", names[i]);
        g_autofree char *minor_text = field(text ? text : "", "Device Minor"),
                        *uuid = field(text ? text : "", "GPU UUID");
        struct doctor_card card = {.minor = minor_text ? (int)g_ascii_strtoll(minor_text, NULL, 10) : -1};
        struct pci_address at;

        if (!pci_address_from_str(names[i], &at))
            continue;
        pci_address_to_str(&at, card.address);
        g_strlcpy(card.uuid, uuid ? uuid : "", sizeof card.uuid);
        g_array_append_val(c->facts->cards, card);
    }
    return c->facts->cards;
}

/* ---- processes ---- */

static void proc_free(void *data) {
    struct doctor_proc *proc = data;

    g_free(proc->unit);
    g_array_unref(proc->nodes);
    g_free(proc);
}

static void add_node(GArray *nodes, dev_t node) {
    for (guint i = 0; i < nodes->len; i++)
        if (g_array_index(nodes, dev_t, i) == node)
            return;
    g_array_append_val(nodes, node);
}

static void read_nodes(struct doctor_case *c, struct doctor_proc *proc) {
    g_autofree char *folder = g_strdup_printf("/proc/%d/fd", (int)proc->pid);
    g_auto(GStrv) fds = doctor_root_list(c->root, folder);

    for (size_t i = 0; fds && fds[i]; i++) {
        g_autofree char *path = g_strconcat(folder, "/", fds[i], NULL);
        struct doctor_stat st;

        if (doctor_root_stat(c->root, path, &st) && S_ISCHR(st.mode) &&
            (major(st.device) == NVIDIA_MAJOR_NUMBER || major(st.device) == DRM_MAJOR))
            add_node(proc->nodes, st.device);
    }
}

/* "0::/system.slice/docker-<64 hex>.scope", "…/docker/<64 hex>", "/kubepods/…", "/machine.slice/libpod-…" */
static bool names_container(const char *cgroup) {
    static const char *const signs[] = {"docker-", "/docker/",        "kubepods", "libpod-",
                                        "crio-",   "cri-containerd-", "/lxc",     "/machine-"};

    for (size_t i = 0; i < G_N_ELEMENTS(signs); i++)
        if (strstr(cgroup, signs[i]))
            return true;
    return false;
}

static char *unit_of(const char *cgroup) {
    g_auto(GStrv) parts = g_strsplit_set(cgroup, "/\n", -1);
    const char *unit = NULL;

    for (size_t i = 0; parts[i]; i++)
        if (g_str_has_suffix(parts[i], ".service") || g_str_has_suffix(parts[i], ".scope"))
            unit = parts[i];
    return g_strdup(unit ? unit : "no unit");
}

static void clean_comm(char *comm) {
    for (; *comm; comm++)
        if (!g_ascii_isprint(*comm))
            *comm = '?';
}

/* "4711 (python3) D 1 …": behind the last ')'. */
static char state_in(const char *stat) {
    const char *close = strrchr(stat, ')');

    return close && close[1] == ' ' ? close[2] : '\0';
}

static struct doctor_proc *read_proc(struct doctor_case *c, pid_t pid) {
    struct doctor_proc *proc = g_new0(struct doctor_proc, 1);
    g_autofree char *comm = doctor_value(c, "/proc/%d/comm", (int)pid);

    proc->pid = pid;
    proc->nodes = g_array_new(FALSE, FALSE, sizeof(dev_t));
    g_strlcpy(proc->comm, comm ? comm : "?", sizeof proc->comm);
    clean_comm(proc->comm);
    read_nodes(c, proc);
    if (proc->nodes->len > 0) { /* the rest is asked only for those that matter */
        g_autofree char *cgroup = doctor_value(c, "/proc/%d/cgroup", (int)pid);
        g_autofree char *stat = doctor_value(c, "/proc/%d/stat", (int)pid);
        proc->is_in_container = cgroup && names_container(cgroup);
        proc->unit = unit_of(cgroup ? cgroup : "");
        proc->state = state_in(stat ? stat : "");
    }
    return proc;
}

/* Trouble met here belongs to those who ask what processes have open, also when they ask later. */
const GPtrArray *doctor_procs(struct doctor_case *c) {
    g_autofree char *before = NULL;
    g_auto(GStrv) names = NULL;

    if (c->facts->procs) {
        doctor_root_set_trouble(c->root, c->facts->procs_trouble);
        return c->facts->procs;
    }
    before = g_strdup(doctor_root_trouble(c->root));
    doctor_root_clear_trouble(c->root);
    c->facts->procs = g_ptr_array_new_with_free_func(proc_free);
    names = doctor_root_list(c->root, "/proc");
    for (size_t i = 0; names && names[i]; i++)
        if (g_ascii_isdigit(names[i][0]))
            g_ptr_array_add(c->facts->procs, read_proc(c, (pid_t)g_ascii_strtoll(names[i], NULL, 10)));
    c->facts->procs_trouble = g_strdup(doctor_root_trouble(c->root));
    if (before) {
        doctor_root_clear_trouble(c->root);
        doctor_root_set_trouble(c->root, before);
    }
    return c->facts->procs;
}

/* Reads names alone: that everyone may. */
const struct doctor_proc *doctor_proc_named(struct doctor_case *c, const char *comm) {
    g_autofree char *before = g_strdup(doctor_root_trouble(c->root));
    const GPtrArray *procs = doctor_procs(c);

    doctor_root_clear_trouble(c->root);
    doctor_root_set_trouble(c->root, before);
    for (guint i = 0; i < procs->len; i++) {
        const struct doctor_proc *proc = g_ptr_array_index(procs, i);
        if (strcmp(proc->comm, comm) == 0)
            return proc;
    }
    return NULL;
}

/* ---- what this node is for ---- */

/* True when a line that is no comment says "vfio". */
static bool says_vfio(const char *text) {
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (size_t i = 0; lines[i]; i++)
        if (g_strchug(lines[i])[0] != '#' && strstr(lines[i], "vfio"))
            return true;
    return false;
}

static char *vfio_sign_in(struct doctor_case *c, const char *folder) {
    g_auto(GStrv) names = doctor_root_list(c->root, folder);

    for (size_t i = 0; names && names[i]; i++) {
        g_autofree char *text = g_str_has_suffix(names[i], ".conf") ? doctor_value(c, "%s/%s", folder, names[i]) : NULL;
        if (text && says_vfio(text))
            return g_strdup_printf("%s/%s names vfio", folder, names[i]);
    }
    return NULL;
}

static char *find_vfio_sign(struct doctor_case *c) {
    static const char *const folders[] = {"/etc/modprobe.d", "/etc/modules-load.d"};
    const GArray *gpus = doctor_gpus(c);
    g_autofree char *cmdline = doctor_value(c, "/proc/cmdline");

    if (c->facts->expect_vfio)
        return g_strdup("asked for with --vfio");
    for (guint i = 0; i < gpus->len; i++) {
        const struct doctor_pci *gpu = &g_array_index(gpus, struct doctor_pci, i);
        if (strcmp(gpu->driver, "vfio-pci") == 0 || strcmp(gpu->override, "vfio-pci") == 0)
            return g_strdup_printf("GPU %s is meant for vfio-pci", gpu->address);
    }
    if (cmdline && strstr(cmdline, "vfio-pci.ids="))
        return g_strdup("/proc/cmdline has vfio-pci.ids");
    for (size_t i = 0; i < G_N_ELEMENTS(folders); i++) {
        char *sign = vfio_sign_in(c, folders[i]);
        if (sign)
            return sign;
    }
    return g_strdup("");
}

const char *doctor_vfio_sign(struct doctor_case *c) {
    if (!c->facts->vfio_sign)
        c->facts->vfio_sign = find_vfio_sign(c);
    return c->facts->vfio_sign;
}

bool doctor_wants_vfio(struct doctor_case *c) { return doctor_vfio_sign(c)[0] != '\0'; }

static GKeyFile *runner_file(struct doctor_case *c) {
    GKeyFile *file = g_key_file_new();
    g_autofree char *text = doctor_value(c, "/etc/kohakuriver/runner.conf");

    if (text)
        g_key_file_load_from_data(file, text, (gsize)-1, G_KEY_FILE_NONE, NULL);
    return file;
}

static const char *fallback_of(const struct config_key *keys, const char *name) {
    for (; keys && keys->name; keys++)
        if (strcmp(keys->name, name) == 0)
            return keys->fallback;
    return "";
}

const char *doctor_runner_setting(struct doctor_case *c, const char *key) {
    g_autofree char *value = NULL;

    if (!c->facts->runner_conf)
        c->facts->runner_conf = runner_file(c);
    value = g_key_file_get_string(c->facts->runner_conf, "runner", key, NULL);
    return g_intern_string(value && value[0] ? value : fallback_of(c->facts->runner_keys, key));
}

/* ---- life ---- */

struct doctor_facts *doctor_facts_new(struct doctor_root *root, const struct doctor_options *options) {
    struct doctor_facts *facts = g_new0(struct doctor_facts, 1);

    facts->expect_vfio = options->expect_vfio;
    facts->runner_keys = options->runner_keys;
    return facts;
}

static void array_clear(GArray **array) {
    if (*array)
        g_array_unref(*array);
}

void doctor_facts_free(struct doctor_facts *facts) {
    if (!facts)
        return;
    array_clear(&facts->pci);
    array_clear(&facts->gpus);
    array_clear(&facts->cards);
    if (facts->procs)
        g_ptr_array_unref(facts->procs);
    if (facts->runner_conf)
        g_key_file_unref(facts->runner_conf);
    doctor_docker_free(facts->docker);
    g_free(facts->procs_trouble);
    g_free(facts->driver_version);
    g_free(facts->vfio_sign);
    g_free(facts->dpkg);
    g_free(facts->dpkg_trouble);
    g_free(facts);
}
