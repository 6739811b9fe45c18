#include "vm/machine_boot.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "vm/machine_seed.h"
#include "vm/shim.h"

enum {
    MAX_WORDS_BYTES = 128 * 1024,
    LAST_LINES = 5,
    MAX_VARS_BYTES = 16 * 1024 * 1024,
    MAX_RESOURCE_BYTES = 4096,
    SSH_PORT = 22
};
#define GIB ((int64_t)1 << 30)
#define MIB ((int64_t)1 << 20)
#define OVMF_CODE "OVMF_CODE_4M.fd"
#define OVMF_VARS "OVMF_VARS_4M.fd"

/* ---- words, and the end ---- */

char *machine_last_words(const struct machine *m) {
    g_autofree char *path = g_build_filename(m->folder, SHIM_STDERR_FILE, NULL), *text = NULL;
    char *at;
    int lines = 0;

    if (!fs_read_file(path, MAX_WORDS_BYTES, &text, NULL, NULL))
        return g_strdup("");
    g_strchomp(text);
    for (at = text + strlen(text); at > text && lines < LAST_LINES; at--)
        lines += at[-1] == '\n';
    if (lines == LAST_LINES)
        at += 1;
    if (strlen(at) > 1000)
        at += strlen(at) - 1000;
    return g_utf8_make_valid(at, -1);
}

/* QEMU takes SIGTERM for a wish, ends with 0 and says who sent it; 0: it has said nothing of the kind. */
static int signal_in_words(const char *words) {
    const char *at = strstr(words, "terminating on signal ");
    int signum = 0;

    return at && sscanf(at, "terminating on signal %d", &signum) == 1 && signum > 0 && signum < NSIG ? signum : 0;
}

static void judge_end(struct machine_record *r, const struct shim_exit *end, const char *words, const char *reason) {
    int signum = end->signum ? end->signum : signal_in_words(words);

    if (r->was_killed) {
        r->exit_code = 128 + SIGKILL;
    } else if (signum) {
        r->exit_code = 128 + signum;
        r->error = g_strdup_printf("QEMU was ended by signal %d (%s)%s%s", signum, strsignal(signum),
                                   end->signum && words[0] ? ": " : "", end->signum ? words : "");
    } else if (end->code != 0) {
        r->exit_code = 1;
        r->error = g_strdup_printf("QEMU failed: %s", words[0] ? words : "without a word");
    } else if (g_strcmp0(reason, "guest-panic") == 0) {
        r->exit_code = 1;
        r->error = g_strdup("the guest's kernel has panicked");
    } else {
        r->exit_code = 0;
    }
}

void machine_judge(struct machine *m) {
    struct machine_record *r = m->record;
    g_autofree char *words = machine_last_words(m);
    struct shim_exit end;

    g_clear_pointer(&r->error, g_free);
    if (shim_exit_read(m->folder, &end, NULL)) {
        judge_end(r, &end, words, m->shutdown_reason);
        r->finished_ms = MAX(end.finished_ms, r->started_ms);
        return;
    }
    r->exit_code = r->was_killed ? 128 + SIGKILL : 1;
    if (!r->was_killed)
        r->error = g_strdup("vanished: QEMU is gone, and its supervisor with it; how it ended is not known");
    r->finished_ms = 0;
}

/* ---- before a start ---- */

/* Of the kernel's choice. Somebody else may take it before QEMU does: then another is tried (machine.c). */
static bool choose_port(int *ret_port, GError **error) {
    _cleanup_fd_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;

    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) != 0)
        return fs_fail_errno(error, errno, "choose a port of", "127.0.0.1");
    *ret_port = ntohs(address.sin_port);
    return true;
}

static bool own(const char *path, const struct passwd *user, GError **error) {
    return !user || lchown(path, user->pw_uid, user->pw_gid) == 0 || fs_fail_errno(error, errno, "hand over", path);
}

static bool find_user(const struct machine *m, const struct passwd **ret_user, GError **error) {
    const char *name = m->context->config->user;

    *ret_user = name[0] ? getpwnam(name) : NULL;
    return !name[0] || *ret_user || kr_fail(error, REFUSED, "there is no user %s (vm_user)", name);
}

/* Sockets and results of an earlier attempt go; the folder that QEMU may write to is its own. */
static bool clear_traces(struct machine *m, const struct passwd *user, GError **error) {
    static const char *const files[] = {SHIM_PROCESS_FILE, SHIM_EXIT_FILE};
    g_autofree char *run = g_build_filename(m->folder, SHIM_RUN_FOLDER, NULL);

    for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *path = g_build_filename(m->folder, files[i], NULL);
        if (!fs_remove_durable(path, error))
            return false;
    }
    return fs_remove_tree(run, error) && fs_mkdir_p(run, 0750, error) && own(run, user, error);
}

static char *firmware_file(const struct machine *m, const char *name) {
    const char *folder = m->context->config->firmware;
    char *path = folder[0] ? g_build_filename(folder, name, NULL) : NULL;

    if (path && fs_exists(path))
        return path;
    g_free(path);
    return NULL;
}

/* The firmware's variables (boot entries) are the VPS's and stay with its disk. */
static bool copy_vars(struct machine *m, const struct passwd *user, GError **error) {
    g_autofree char *code = firmware_file(m, OVMF_CODE), *from = firmware_file(m, OVMF_VARS), *text = NULL;
    g_autofree char *to = disk_store_path(m->context->store, m->record->vm->vps_id, "vars");
    size_t len;

    if (!code || !from)
        return true;
    if (!fs_exists(to) &&
        (!fs_read_file(from, MAX_VARS_BYTES, &text, &len, error) || !fs_write_durable(to, 0600, text, len, error)))
        return false;
    return own(to, user, error);
}

/* QEMU without root opens the card's group by its node in /dev. */
static bool hand_over_groups(struct machine *m, const struct passwd *user, GError **error) {
    for (guint i = 0; user && i < m->record->functions->len; i++) {
        const struct qemu_function *f = &g_array_index(m->record->functions, struct qemu_function, i);
        g_autofree char *link = g_strdup_printf("%s/sys/bus/pci/devices/%s/iommu_group", m->context->config->sysfs_root,
                                                f->address);
        g_autofree char *target = g_file_read_link(link, NULL);
        g_autofree char *group = target ? g_path_get_basename(target) : NULL;
        g_autofree char *node = group ? g_build_filename("/dev/vfio", group, NULL) : NULL;
        if (node && !own(node, user, error))
            return false;
    }
    return true;
}

/* ---- its place in the machines' own network ---- */

static bool is_bridged(const struct machine *m) { return strcmp(m->record->vm->network, "bridge") == 0; }

bool machine_needs_nat(const struct machine *m) { return m->context->nat && is_bridged(m); }

/* For life, as its MAC address is; another only when the network is another. */
static bool give_address(const struct machine *m, GError **error) {
    const struct image_store *store = m->context->store;
    g_autoptr(GPtrArray) disks = disk_store_list(store), taken = g_ptr_array_new();
    struct vm_disk *own_disk = NULL;

    for (guint i = 0; i < disks->len; i++) {
        struct vm_disk *disk = disks->pdata[i];
        if (disk->vps_id == m->record->vm->vps_id)
            own_disk = disk;
        g_ptr_array_add(taken, disk->address);
    }
    g_ptr_array_add(taken, NULL);
    if (!own_disk)
        return kr_fail(error, NOT_FOUND, "the disk of VPS %u is not there", m->record->vm->vps_id);
    if (nat_is_guest_address(m->context->nat, own_disk->address))
        return true;
    g_free(own_disk->address);
    own_disk->address = nat_choose_address(m->context->nat, (const char *const *)taken->pdata, error);
    if (own_disk->address)
        return disk_store_save(store, own_disk, error);
    own_disk->address = g_strdup("");
    return false;
}

void machine_ssh_address(const struct machine *m, char ret_address[static NAT_ADDRESS_BYTES], int *ret_port) {
    struct vm_disk *disk;

    g_strlcpy(ret_address, "127.0.0.1", NAT_ADDRESS_BYTES);
    *ret_port = m->record->ssh_port;
    if (!machine_needs_nat(m) || !(disk = disk_store_find(m->context->store, m->record->vm->vps_id, NULL)))
        return;
    g_strlcpy(ret_address, disk->address, NAT_ADDRESS_BYTES);
    *ret_port = disk->address[0] ? SSH_PORT : 0;
    vm_disk_free(disk);
}

bool machine_prepare(struct machine *m, GError **error) {
    struct machine_record *r = m->record;
    const struct passwd *user;
    g_autofree char *disk = disk_store_path(m->context->store, r->vm->vps_id, "qcow2");
    g_autofree char *seed = g_build_filename(m->folder, MACHINE_SEED_FILE, NULL);

    if (!find_user(m, &user, error) || !clear_traces(m, user, error) ||
        (machine_needs_nat(m) && !give_address(m, error)) || !machine_write_seed(m, error) ||
        !copy_vars(m, user, error) || !own(disk, user, error) || !own(seed, user, error) ||
        !hand_over_groups(m, user, error))
        return false;
    r->ssh_port = 0;
    return is_bridged(m) || choose_port(&r->ssh_port, error);
}

/* ---- the command ---- */

/* The largest 64-bit prefetchable region of a function, from sysfs `resource`: "START END FLAGS" a line. */
static int64_t largest_region(const struct machine *m, const char *address) {
    enum { PREFETCH = 0x2000, IS_64 = 0x100000 };
    g_autofree char *path = g_strdup_printf("%s/sys/bus/pci/devices/%s/resource", m->context->config->sysfs_root,
                                            address);
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    int64_t largest = 0;

    if (!fs_read_file(path, MAX_RESOURCE_BYTES, &text, NULL, NULL))
        return 0;
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        unsigned long long start, end, flags;
        if (sscanf(*line, "%llx %llx %llx", &start, &end, &flags) == 3 && flags & PREFETCH && flags & IS_64 &&
            end > start)
            largest = MAX(largest, (int64_t)(end - start + 1));
    }
    return largest;
}

static int64_t mmio_window(const struct machine *m) {
    int64_t regions[QEMU_MAX_FUNCTIONS];
    guint n = MIN(m->record->functions->len, (guint)QEMU_MAX_FUNCTIONS);

    if (m->context->config->mmio_window_bytes || n == 0)
        return m->context->config->mmio_window_bytes;
    for (guint i = 0; i < n; i++)
        regions[i] = largest_region(m, g_array_index(m->record->functions, struct qemu_function, i).address);
    return qemu_mmio_window(regions, n);
}

static struct shim_plan make_plan(const struct machine *m) {
    const struct qemu_config *config = m->context->config;
    const struct machine_record *r = m->record;

    return (struct shim_plan){.folder = g_strdup(m->folder),
                              .user = g_strdup(config->user),
                              .cpus = g_strdup(r->cpus),
                              .cgroup = config->cgroup[0] ? g_build_filename(config->cgroup, r->name, NULL)
                                                          : g_strdup(""),
                              .bridge = g_strdup(is_bridged(m) ? config->bridge : ""),
                              .memlock = r->functions->len ? r->mem_bytes + GIB : 0,
                              .console_max_bytes = r->log_max_bytes ? r->log_max_bytes : 8 * MIB};
}

struct paths {
    char *disk, *vars, *seed, *kernel, *initrd, *code, *plan;
};

static void paths_clear(struct paths *p) {
    char **all[] = {&p->disk, &p->vars, &p->seed, &p->kernel, &p->initrd, &p->code, &p->plan};

    for (size_t i = 0; i < G_N_ELEMENTS(all); i++)
        g_clear_pointer(all[i], g_free);
}

static char **build_argv(const struct machine *m, const struct vm_image *image, const struct vm_disk *disk,
                         const struct paths *p, GError **error) {
    const struct qemu_config *config = m->context->config;
    const struct machine_record *r = m->record;
    bool has_seed = fs_exists(p->seed), has_firmware = p->code && fs_exists(p->vars) && !image->has_kernel;
    struct qemu_machine machine = {
        .binary = config->binary,
        .machine_type = m->context->machine_type,
        .accel = m->context->accel,
        .name = r->vm->hostname,
        .uuid = disk->uuid,
        .cores = r->cores,
        .mem_bytes = r->mem_bytes,
        .disk = p->disk,
        .seed = has_seed ? p->seed : NULL,
        .kernel = image->has_kernel ? p->kernel : NULL,
        .initrd = image->has_initrd ? p->initrd : NULL,
        .append = image->append[0] ? image->append : NULL,
        .ovmf_code = has_firmware ? p->code : NULL,
        .ovmf_vars = has_firmware ? p->vars : NULL,
        .mac = disk->mac,
        .is_bridged = is_bridged(m),
        .is_restricted = config->is_restricted,
        .ssh_port = r->ssh_port,
        .functions = (const struct qemu_function *)(void *)r->functions->data,
        .n_functions = r->functions->len,
        .numa_nodes = r->numa_nodes[0] ? r->numa_nodes : NULL,
        .hugepages = config->hugepages[0] ? config->hugepages : NULL,
        .mmio_window_bytes = mmio_window(m),
        .shared_folder = config->shared_folder[0] ? config->shared_folder : NULL,
        .console_fd = SHIM_CONSOLE_FD,
    };

    return qemu_argv_make(&machine, error);
}

/* PROGRAM vm-shim PLAN QEMU… */
static char **wrap(const char *plan, char **qemu) {
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();

    g_strv_builder_add_many(builder, "kohakuriver", "vm-shim", plan, NULL);
    g_strv_builder_addv(builder, (const char **)qemu);
    return g_strv_builder_end(builder);
}

char **machine_command(const struct machine *m, GError **error) {
    const struct vm_spec *vm = m->record->vm;
    struct vm_disk *disk = disk_store_find(m->context->store, vm->vps_id, error);
    struct vm_image *image = disk ? image_store_find(m->context->store, disk->image, error) : NULL;
    struct shim_plan plan = make_plan(m);
    struct paths paths = {.disk = disk_store_path(m->context->store, vm->vps_id, "qcow2"),
                          .vars = disk_store_path(m->context->store, vm->vps_id, "vars"),
                          .seed = g_build_filename(m->folder, MACHINE_SEED_FILE, NULL),
                          .code = firmware_file(m, OVMF_CODE),
                          .plan = shim_plan_to_str(&plan)};
    g_auto(GStrv) qemu = NULL;
    char **argv = NULL;

    if (image) {
        paths.kernel = image_store_path(m->context->store, image->name, "kernel");
        paths.initrd = image_store_path(m->context->store, image->name, "initrd");
        qemu = build_argv(m, image, disk, &paths, error);
        argv = qemu ? wrap(paths.plan, qemu) : NULL;
    }
    shim_plan_clear(&plan);
    paths_clear(&paths);
    vm_image_free(image);
    vm_disk_free(disk);
    return argv;
}
