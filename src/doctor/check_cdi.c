/* Specifications of the Container Device Interface: do they fit the driver and the cards that are there? */
#include <string.h>

#include "doctor/cdi_files.h"
#include "doctor/checks.h"
#include "doctor/doctor_case.h"

static void file_free(void *data) {
    struct cdi_file *file = data;

    g_free(file->path);
    g_free(file->why);
    cdi_spec_free(file->spec);
    g_free(file);
}

static bool is_nvidia(const struct cdi_spec *spec) {
    for (guint i = 0; i < spec->nodes->len; i++)
        if (g_str_has_prefix(g_ptr_array_index(spec->nodes, i), "/dev/nvidia"))
            return true;
    return g_str_has_prefix(spec->kind, "nvidia.com/");
}

static void add_file(struct doctor_case *c, GPtrArray *files, const char *folder, const char *name) {
    g_autofree char *path = g_strconcat(folder, "/", name, NULL);
    g_autofree char *text = doctor_root_read(c->root, path, CDI_MAX_BYTES);
    g_autoptr(GError) error = NULL;
    struct cdi_file *file;
    struct cdi_spec *spec;

    if (!text)
        return;
    spec = cdi_spec_parse(text, strlen(text), &error);
    if (spec && !is_nvidia(spec)) {
        cdi_spec_free(spec);
        return;
    }
    file = g_new0(struct cdi_file, 1);
    file->path = g_steal_pointer(&path);
    file->spec = spec;
    file->why = error ? g_strdup(error->message) : NULL;
    g_ptr_array_add(files, file);
}

GPtrArray *cdi_files(struct doctor_case *c) {
    static const char *const folders[] = {"/etc/cdi", "/var/run/cdi"};
    GPtrArray *files = g_ptr_array_new_with_free_func(file_free);

    for (size_t i = 0; i < G_N_ELEMENTS(folders); i++) {
        g_auto(GStrv) names = doctor_root_list(c->root, folders[i]);
        for (size_t k = 0; names && names[k]; k++)
            if (g_str_has_suffix(names[k], ".json") || g_str_has_suffix(names[k], ".yaml"))
                add_file(c, files, folders[i], names[k]);
    }
    return files;
}

char *cdi_first_file(struct doctor_case *c) {
    g_autoptr(GPtrArray) files = cdi_files(c);
    const struct cdi_file *first = files->len > 0 ? g_ptr_array_index(files, 0) : NULL;

    return first ? g_strdup(first->path) : NULL;
}

/* Says so, and takes them as read, when there is none, or one that was not understood. */
static bool can_judge(struct doctor_case *c, const GPtrArray *files) {
    if (files->len == 0)
        doctor_skip(c, "no CDI specification of NVIDIA cards in /etc/cdi or /var/run/cdi");
    for (guint i = 0; i < files->len; i++) {
        const struct cdi_file *file = g_ptr_array_index(files, i);
        if (!file->spec)
            doctor_unknown(c, "%s cannot be judged: %s", file->path, file->why);
    }
    return files->len > 0;
}

void check_cdi_driver(struct doctor_case *c) {
    g_autoptr(GPtrArray) files = cdi_files(c);
    const char *loaded = doctor_driver_version(c);
    g_autofree char *on_disk = doctor_library_version(c);

    if (!can_judge(c, files))
        return;
    for (guint i = 0; i < files->len; i++) {
        const struct cdi_file *file = g_ptr_array_index(files, i);
        for (guint k = 0; file->spec && k < file->spec->versions->len; k++) {
            const char *version = g_ptr_array_index(file->spec->versions, k);
            if (loaded[0] && doctor_version_compare(version, loaded) != 0) {
                doctor_error(c, "%s mounts libraries of %s, loaded is %s", file->path, version, loaded);
                if (on_disk && doctor_version_compare(version, on_disk) == 0)
                    doctor_fix(c, "drain the node, then reboot it: the specification is of the driver on disk");
                else
                    doctor_fix(c, "nvidia-ctk cdi generate --output=%s", file->path);
            }
        }
    }
    doctor_ok(c, "made for driver %s", loaded);
}

static bool driver_has_uuid(struct doctor_case *c, const char *uuid) {
    const GArray *cards = doctor_cards(c);

    for (guint i = 0; i < cards->len; i++)
        if (strcmp(g_array_index(cards, struct doctor_card, i).uuid, uuid) == 0)
            return true;
    return false;
}

static bool has_text(const GPtrArray *list, const char *text) {
    return g_ptr_array_find_with_equal_func((GPtrArray *)list, text, g_str_equal, NULL);
}

/* "/dev/nvidia3": the node of a card; not nvidiactl, nvidia-uvm. */
static bool is_card_node(const char *path) {
    return g_str_has_prefix(path, "/dev/nvidia") && g_ascii_isdigit(path[strlen("/dev/nvidia")]);
}

static GPtrArray *ghosts_of(struct doctor_case *c, const GPtrArray *names,
                            bool (*is_ghost)(struct doctor_case *, const char *)) {
    GPtrArray *ghosts = g_ptr_array_new();

    for (guint i = 0; i < names->len; i++)
        if (is_ghost(c, g_ptr_array_index(names, i)))
            g_ptr_array_add(ghosts, g_ptr_array_index(names, i));
    return ghosts;
}

static bool is_ghost_uuid(struct doctor_case *c, const char *name) {
    return g_str_has_prefix(name, "GPU-") && !driver_has_uuid(c, name);
}

static bool is_ghost_node(struct doctor_case *c, const char *node) {
    return is_card_node(node) && !doctor_has(c, "%s", node);
}

/* Names and nodes in the file that the machine does not have. As many of them as cards are away from the driver (in a
 * virtual machine, or ill, which is another check's business) are theirs. */
static void look_for_ghosts(struct doctor_case *c, const struct cdi_file *file) {
    guint n_away = doctor_gpus(c)->len > doctor_cards(c)->len ? doctor_gpus(c)->len - doctor_cards(c)->len : 0;
    g_autoptr(GPtrArray) uuids = ghosts_of(c, file->spec->devices, is_ghost_uuid);
    g_autoptr(GPtrArray) nodes = ghosts_of(c, file->spec->nodes, is_ghost_node);

    for (guint i = 0; uuids->len > n_away && i < uuids->len; i++)
        doctor_error(c, "%s names %s, which the driver does not have", file->path,
                     (const char *)g_ptr_array_index(uuids, i));
    for (guint i = 0; nodes->len > n_away && i < nodes->len; i++)
        doctor_error(c, "%s names %s, which is not there", file->path, (const char *)g_ptr_array_index(nodes, i));
}

/* Cards of the machine that no file names. A file without any UUID is told by its nodes. */
static void look_for_missing(struct doctor_case *c, const GPtrArray *files) {
    const GArray *cards = doctor_cards(c);

    for (guint i = 0; i < cards->len; i++) {
        const struct doctor_card *card = &g_array_index(cards, struct doctor_card, i);
        g_autofree char *node = g_strdup_printf("/dev/nvidia%d", card->minor);
        bool is_named = false;

        for (guint k = 0; k < files->len; k++) {
            const struct cdi_file *file = g_ptr_array_index(files, k);
            is_named |= !file->spec || has_text(file->spec->nodes, node);
        }
        if (card->minor >= 0 && !is_named)
            doctor_error(c, "no specification has %s (%s, %s)", node, card->address, card->uuid);
    }
}

void check_cdi_devices(struct doctor_case *c) {
    g_autoptr(GPtrArray) files = cdi_files(c);

    if (!can_judge(c, files))
        return;
    for (guint i = 0; i < files->len; i++) {
        const struct cdi_file *file = g_ptr_array_index(files, i);
        if (file->spec)
            look_for_ghosts(c, file);
    }
    look_for_missing(c, files);
    if (c->outcome == DOCTOR_ERROR)
        doctor_fix(c, "nvidia-ctk cdi generate --output=%s",
                   ((const struct cdi_file *)g_ptr_array_index(files, 0))->path);
    doctor_ok(c, "names the cards that are there");
}

static bool same_folder(const char *a, const char *b) {
    g_autofree char *x = g_path_get_dirname(a), *y = g_path_get_dirname(b);

    return strcmp(x, y) == 0;
}

static const char *shared_name(const struct cdi_spec *a, const struct cdi_spec *b) {
    for (guint i = 0; strcmp(a->kind, b->kind) == 0 && i < a->devices->len; i++)
        if (has_text(b->devices, g_ptr_array_index(a->devices, i)))
            return g_ptr_array_index(a->devices, i);
    return NULL;
}

/* Two files of one folder are equals: a device that both have is in neither (of two folders the later one counts). */
void check_cdi_conflict(struct doctor_case *c) {
    g_autoptr(GPtrArray) files = cdi_files(c);

    if (!can_judge(c, files))
        return;
    for (guint i = 0; i < files->len; i++)
        for (guint k = i + 1; k < files->len; k++) {
            const struct cdi_file *a = g_ptr_array_index(files, i), *b = g_ptr_array_index(files, k);
            const char *name = a->spec && b->spec && same_folder(a->path, b->path) ? shared_name(a->spec, b->spec)
                                                                                   : NULL;
            if (name) {
                doctor_error(c, "%s and %s both have %s=%s", a->path, b->path, a->spec->kind, name);
                doctor_fix(c, "rm %s", b->path);
            }
        }
    doctor_ok(c, "no device is in two files");
}

void check_cdi_missing(struct doctor_case *c) {
    g_autofree char *path = cdi_first_file(c);

    if (strcmp(doctor_runner_setting(c, "gpu_injection"), "cdi") != 0)
        doctor_skip(c, "gpu_injection is not cdi in /etc/kohakuriver/runner.conf");
    else if (doctor_docker(c)->is_cdi_off)
        doctor_error(c, "gpu_injection = cdi in /etc/kohakuriver/runner.conf, features.cdi is false in "
                        "/etc/docker/daemon.json");
    else if (!path)
        doctor_error(c, "gpu_injection = cdi in /etc/kohakuriver/runner.conf, nothing in /etc/cdi or /var/run/cdi");
    else
        doctor_ok(c, "%s", path);
}
