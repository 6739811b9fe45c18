#include "vfio/vfio_check.h"

#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/units.h"
#include "vfio/vfio_card.h"
#include "vfio/vfio_child.h"
#include "vfio/vfio_kvm.h"

enum { VERSION_DEADLINE_MS = 5000, MIN_QEMU_MAJOR = 6 };

static const struct {
    const char *id, *fix;
} findings[] = {
#define X(code, id, fix) [VFIO_FINDING_##code] = {id, fix},
    VFIO_FINDINGS(X)
#undef X
};

const char *vfio_finding_to_str(enum vfio_finding_id id) { return findings[id].id; }

struct check {
    const char *root;
    json_t *findings; /* borrowed from the answer */
    bool is_missing[VFIO_FINDING_COUNT_];
};

/* state: "ok", "warning", "missing". Takes over `text`. */
static void found(struct check *c, enum vfio_finding_id id, const char *state, char *text) {
    json_t *json = json_pack("{s:s,s:s,s:s}", "id", findings[id].id, "state", state, "text", text);

    c->is_missing[id] = strcmp(state, "missing") == 0;
    if (strcmp(state, "ok") != 0)
        json_object_set_new(json, "fix", json_string(findings[id].fix));
    json_array_append_new(c->findings, json);
    g_free(text);
}

/* ---- the node ---- */

static bool has_word(const char *text, const char *word) {
    g_auto(GStrv) words = g_strsplit_set(text ? text : "", " \n\t", -1);

    return g_strv_contains((const char *const *)words, word);
}

static void check_cpu(struct check *c) {
    g_autofree char *text = vfio_read_text(c->root, "proc/cpuinfo");
    const char *flag = has_word(text, "vmx") ? "vmx" : has_word(text, "svm") ? "svm" : NULL;

    found(c, VFIO_FINDING_CPU, flag ? "ok" : "warning",
          flag ? g_strdup_printf("the CPU has %s", flag) : g_strdup("the CPU shows neither vmx nor svm"));
}

/* Which accelerator machines get; NULL: none. Static. */
static const char *check_kvm(struct check *c, const char *accel) {
    char *text = NULL;
    enum vfio_kvm kvm = vfio_kvm_try(c->root, &text);
    bool is_good = kvm == VFIO_KVM_WORKS || (kvm == VFIO_KVM_SLOW && strcmp(accel, "kvm") == 0);
    char *slow;

    if (kvm == VFIO_KVM_SLOW) {
        slow = g_strdup_printf("%s: it emulates each instruction", text);
        g_free(text);
        text = slow;
    }
    found(c, VFIO_FINDING_KVM,
          kvm == VFIO_KVM_WORKS                   ? "ok"
          : strcmp(accel, "kvm") == 0 && !is_good ? "missing"
                                                  : "warning",
          text);
    if (strcmp(accel, "tcg") == 0)
        return "tcg";
    return is_good ? "kvm" : strcmp(accel, "auto") == 0 ? "tcg" : NULL;
}

static void on_version(void *user, const struct vfio_child_result *result) {
    if (result->end == VFIO_CHILD_EXITED && result->status == 0)
        *(char **)user = g_strndup(result->output, strcspn(result->output, "\n"));
}

/* "QEMU emulator version 7.2.22 (Debian …)", or NULL. */
static char *version_of(const char *program) {
    const char *argv[] = {program, "--version", NULL};
    struct vfio_child_config config = {
        .argv = argv, .deadline_ms = VERSION_DEADLINE_MS, .grace_ms = 100, .lock_fd = -1};
    struct vfio_child *child;
    char *text = NULL;
    uv_loop_t loop;

    uv_loop_init(&loop);
    child = vfio_child_start(&loop, &config, on_version, &text);
    uv_run(&loop, UV_RUN_DEFAULT);
    vfio_child_forget(child);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
    return text;
}

static char *first_of(const char *root, const char *const *paths) {
    for (; *paths; paths++) {
        char *path = g_build_filename(root, *paths, NULL);

        if (fs_exists(path))
            return path;
        g_free(path);
    }
    return NULL;
}

static void check_qemu(struct check *c) {
    static const char *const paths[] = {"usr/bin/qemu-system-x86_64", "usr/local/bin/qemu-system-x86_64",
                                        "usr/libexec/qemu-kvm", NULL};
    g_autofree char *program = first_of(c->root, paths), *version = program ? version_of(program) : NULL;
    const char *number = version ? strstr(version, "version ") : NULL;

    if (!program)
        found(c, VFIO_FINDING_QEMU, "missing", g_strdup("there is no qemu-system-x86_64"));
    else if (!number)
        found(c, VFIO_FINDING_QEMU, "missing", g_strdup_printf("%s does not tell its version", program));
    else if (g_ascii_strtoll(number + strlen("version "), NULL, 10) < MIN_QEMU_MAJOR)
        found(c, VFIO_FINDING_QEMU, "missing", g_strdup_printf("%s; %d is the least", version, MIN_QEMU_MAJOR));
    else
        found(c, VFIO_FINDING_QEMU, "ok", g_utf8_make_valid(version, -1));
}

static void check_ovmf(struct check *c) {
    static const char *const paths[] = {"usr/share/OVMF/OVMF_CODE_4M.fd",      "usr/share/OVMF/OVMF_CODE.fd",
                                        "usr/share/edk2/x64/OVMF_CODE.4m.fd",  "usr/share/edk2/ovmf/OVMF_CODE.fd",
                                        "usr/share/qemu/ovmf-x86_64-code.bin", NULL};
    g_autofree char *path = first_of(c->root, paths);

    found(c, VFIO_FINDING_OVMF, path ? "ok" : "warning",
          g_strdup(path ? path : "there is no OVMF firmware: machines start with a BIOS"));
}

static void check_iommu(struct check *c) {
    g_autofree char *path = g_build_filename(c->root, "sys/kernel/iommu_groups", NULL);
    g_autofree char *cmdline = vfio_read_text(c->root, "proc/cmdline");
    g_auto(GStrv) groups = fs_list(path, NULL);
    guint n = groups ? g_strv_length(groups) : 0;

    if (n > 0)
        found(c, VFIO_FINDING_IOMMU, "ok", g_strdup_printf("it is on, with %u groups", n));
    else
        found(c, VFIO_FINDING_IOMMU, "missing",
              g_strdup_printf("there is no IOMMU group%s", has_word(cmdline, "intel_iommu=on")
                                                               ? ", although the kernel was started with intel_iommu=on"
                                                               : ""));
}

static void check_modules(struct check *c) {
    static const char *const paths[] = {"sys/bus/pci/drivers/vfio-pci", "sys/module/vfio_iommu_type1"};
    g_autoptr(GString) text = g_string_new(NULL);

    for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
        g_autofree char *path = g_build_filename(c->root, paths[i], NULL);
        if (!fs_exists(path))
            g_string_append_printf(text, "%s%s", text->len ? ", " : "not loaded: ", strrchr(paths[i], '/') + 1);
    }
    found(c, VFIO_FINDING_MODULES, text->len ? "missing" : "ok",
          g_strdup(text->len ? text->str : "vfio-pci and vfio_iommu_type1 are loaded"));
}

static void check_memlock(struct check *c) {
    struct rlimit limit = {0};
    char text[UNITS_TEXT_BYTES];

    getrlimit(RLIMIT_MEMLOCK, &limit);
    if (limit.rlim_max == RLIM_INFINITY || geteuid() == 0)
        found(c, VFIO_FINDING_MEMLOCK, "ok", g_strdup("any amount of memory can be locked"));
    else
        found(c, VFIO_FINDING_MEMLOCK, "warning",
              g_strdup_printf("%s can be locked at most", units_bytes_to_str((int64_t)limit.rlim_max, text)));
}

/* ---- the cards ---- */

static bool is_gpu_slot(const GArray *all, guint i) {
    return vfio_role_of_class(g_array_index(all, struct vfio_function, i).class) == VFIO_ROLE_GPU;
}

/* ACS override: what it could split are groups that hold strangers beside a card. */
static void note_acs(json_t *would_split, const struct vfio_card *card) {
    if (vfio_card_has(card, VFIO_OBSTACLE_FOREIGN) || vfio_card_has(card, VFIO_OBSTACLE_SHARED))
        json_array_append_new(would_split, json_string(card->address));
}

static json_t *check_gpus(struct check *c, json_t *would_split, int *ret_passable) {
    g_autoptr(GError) error = NULL;
    g_autoptr(GArray) all = vfio_pci_scan(c->root, &error);
    char *const nobody[] = {NULL};
    json_t *list = json_array();
    int n = 0;

    for (guint i = 0; all && i < all->len; i++) {
        struct vfio_card *card;

        if (!is_gpu_slot(all, i))
            continue;
        card = vfio_card_look(c->root, all, g_array_index(all, struct vfio_function, i).address, nobody);
        n += vfio_card_is_passable(card);
        note_acs(would_split, card);
        json_array_append_new(list, vfio_card_to_json(card));
        vfio_card_free(card);
    }
    if (error)
        found(c, VFIO_FINDING_GPUS, "warning", g_strdup(error->message));
    else
        found(c, VFIO_FINDING_GPUS, n > 0 ? "ok" : "warning",
              g_strdup_printf("%zu GPUs, %d passable", json_array_size(list), n));
    *ret_passable = n;
    return list;
}

/* The patch is not in the kernel's own source: a kernel that carries it knows its symbols. */
static json_t *check_acs(const struct check *c, json_t *would_split) {
    g_autofree char *path = g_build_filename(c->root, "proc/kallsyms", NULL), *symbols = NULL;
    g_autofree char *cmdline = vfio_read_text(c->root, "proc/cmdline");
    g_auto(GStrv) words = g_strsplit_set(cmdline ? cmdline : "", " ", -1);
    json_t *json = json_pack("{s:O}", "would_split", would_split);

    if (fs_read_file(path, (size_t)128 << 20, &symbols, NULL, NULL))
        json_object_set_new(json, "kernel_has_override", json_boolean(strstr(symbols, "pcie_acs_override") != NULL));
    for (char **word = words; *word; word++)
        if (g_str_has_prefix(*word, "pcie_acs_override="))
            json_object_set_new(json, "parameter", json_string(*word));
    return json;
}

json_t *vfio_check(const char *root, const char *accel) {
    json_t *answer = json_pack("{s:[]}", "findings"), *would_split = json_array(), *gpus;
    struct check c = {.root = root, .findings = json_object_get(answer, "findings")};
    const char *accelerator;
    int n_passable = 0;

    check_cpu(&c);
    accelerator = check_kvm(&c, accel);
    check_qemu(&c);
    check_ovmf(&c);
    check_iommu(&c);
    check_modules(&c);
    check_memlock(&c);
    gpus = check_gpus(&c, would_split, &n_passable);
    json_object_set_new(answer, "accel", json_string(accel));
    if (accelerator)
        json_object_set_new(answer, "accelerator", json_string(accelerator));
    json_object_set_new(answer, "can_run_machines", json_boolean(accelerator && !c.is_missing[VFIO_FINDING_QEMU]));
    json_object_set_new(
        answer, "can_pass_gpus",
        json_boolean(n_passable > 0 && !c.is_missing[VFIO_FINDING_IOMMU] && !c.is_missing[VFIO_FINDING_MODULES]));
    json_object_set_new(answer, "gpus", gpus);
    json_object_set_new(answer, "acs", check_acs(&c, would_split));
    json_decref(would_split);
    return answer;
}
