#include "vm/qemu_argv.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "vm/shim.h"

enum { FIRST_GPU_SLOT = 16, PORT_OF_A_FIRST_GPU = 16 };
#define MIB ((int64_t)1 << 20)
#define GIB ((int64_t)1 << 30)

/* Newest first. A type is added when guests have been run on it, none is ever taken away. */
static const char *const machine_types[] = {"pc-q35-9.2", "pc-q35-9.0", "pc-q35-8.2", "pc-q35-8.0", "pc-q35-7.2"};

const char *qemu_machine_type_pick(const char *help) {
    for (size_t i = 0; i < G_N_ELEMENTS(machine_types); i++) {
        g_autofree char *start = g_strconcat(machine_types[i], " ", NULL);
        const char *at = strstr(help, start);
        if (at && (at == help || at[-1] == '\n'))
            return machine_types[i];
    }
    return NULL;
}

int64_t qemu_mmio_window(const int64_t *region_bytes, size_t n) {
    int64_t sum = 0, window = GIB;

    for (size_t i = 0; i < n; i++)
        sum += region_bytes[i];
    while (window < 2 * sum) /* regions are aligned to their size */
        window *= 2;
    return sum > 0 ? window : 0;
}

static bool is_gpu(const struct qemu_function *function) { return function->pci_class >> 8 == 0x03; }

/* A card is what shares domain, bus and device. */
static bool is_companion(const struct qemu_function *functions, size_t i) {
    const char *dot = strrchr(functions[i].address, '.');

    return i > 0 && dot &&
           strncmp(functions[i].address, functions[i - 1].address, (size_t)(dot - functions[i].address) + 1) == 0;
}

static void place(const struct qemu_function *functions, size_t i, int *ret_card, int *ret_function) {
    int card = -1, function = 0;

    for (size_t k = 0; k <= i; k++) {
        bool goes_on = is_companion(functions, k);
        card += !goes_on;
        function = goes_on ? function + 1 : 0;
    }
    *ret_card = card;
    *ret_function = function;
}

void qemu_function_id(const struct qemu_function *functions, size_t i, char *buf, size_t len) {
    int card, function;

    place(functions, i, &card, &function);
    if (function == 0)
        snprintf(buf, len, "gpu%d", card);
    else
        snprintf(buf, len, "gpu%d-%d", card, function);
}

/* ---- a list that grows ---- */

static void add(GPtrArray *argv, const char *option, const char *value) {
    g_ptr_array_add(argv, g_strdup(option));
    if (value)
        g_ptr_array_add(argv, g_strdup(value));
}

static void addf(GPtrArray *argv, const char *option, const char *format, ...) G_GNUC_PRINTF(3, 4);
static void addf(GPtrArray *argv, const char *option, const char *format, ...) {
    va_list args;

    va_start(args, format);
    g_ptr_array_add(argv, g_strdup(option));
    g_ptr_array_add(argv, g_strdup_vprintf(format, args));
    va_end(args);
}

/* In QEMU's options a comma ends a value; a path with one is refused, and so is what is no text. */
static bool check_path(const char *path, GError **error) {
    if (path && (!path[0] || strpbrk(path, ",\n") || !g_utf8_validate(path, -1, NULL)))
        return kr_fail(error, REFUSED, "QEMU cannot be told the path \"%s\"", path);
    return true;
}

/* ---- the parts ---- */

static void add_machine(GPtrArray *argv, const struct qemu_machine *m) {
    add(argv, m->binary, NULL);
    addf(argv, "-name", "%s,process=%.15s", m->name, m->name);
    if (m->uuid)
        add(argv, "-uuid", m->uuid);
    addf(argv, "-machine", "%s,accel=%s%s", m->machine_type, m->accel, m->mem_bytes ? ",memory-backend=ram" : "");
    add(argv, "-cpu", strcmp(m->accel, "kvm") == 0 ? "host,migratable=off" : "max");
    addf(argv, "-smp", "%d,sockets=1,cores=%d,threads=1", m->cores, m->cores);
    addf(argv, "-m", "%" G_GINT64_FORMAT "M", m->mem_bytes / MIB);
    add(argv, "-nodefaults", NULL);
    add(argv, "-no-user-config", NULL);
    add(argv, "-display", "none");
    add(argv, "-S", NULL); /* nothing of the guest runs before its cards were seen */
    add(argv, "-rtc", "base=utc,driftfix=slew");
    add(argv, "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
}

static void add_memory(GPtrArray *argv, const struct qemu_machine *m) {
    g_autoptr(GString) backend = g_string_new(NULL);
    g_autofree char *nodes = m->numa_nodes ? g_strdup(m->numa_nodes) : NULL;

    g_string_printf(backend, "%s,id=ram,size=%" G_GINT64_FORMAT "M,share=%s",
                    m->hugepages ? "memory-backend-file" : "memory-backend-ram", m->mem_bytes / MIB,
                    m->hugepages ? "on" : "off");
    if (m->hugepages)
        g_string_append_printf(backend, ",mem-path=%s,prealloc=on", m->hugepages);
    if (nodes)
        g_string_append_printf(backend, ",host-nodes=%s,policy=bind", nodes);
    add(argv, "-object", backend->str);
}

static void add_boot(GPtrArray *argv, const struct qemu_machine *m) {
    if (m->ovmf_code) {
        addf(argv, "-drive", "if=pflash,unit=0,format=raw,readonly=on,file=%s", m->ovmf_code);
        addf(argv, "-drive", "if=pflash,unit=1,format=raw,file=%s", m->ovmf_vars);
    }
    if (!m->kernel)
        return;
    add(argv, "-kernel", m->kernel);
    if (m->initrd)
        add(argv, "-initrd", m->initrd);
    if (m->append)
        add(argv, "-append", m->append);
}

static void add_disks(GPtrArray *argv, const struct qemu_machine *m) {
    addf(argv, "-blockdev", "driver=file,node-name=disk-file,filename=%s,discard=unmap,aio=threads", m->disk);
    add(argv, "-blockdev", "driver=qcow2,node-name=disk,file=disk-file,discard=unmap");
    add(argv, "-device", "virtio-blk-pci,drive=disk,id=disk0,bus=pcie.0,addr=02.0,bootindex=1");
    if (!m->seed)
        return;
    addf(argv, "-blockdev", "driver=file,node-name=seed-file,filename=%s,read-only=on", m->seed);
    add(argv, "-blockdev", "driver=raw,node-name=seed,file=seed-file,read-only=on");
    add(argv, "-device", "virtio-blk-pci,drive=seed,id=seed0,bus=pcie.0,addr=03.0");
}

static void add_network(GPtrArray *argv, const struct qemu_machine *m) {
    g_autofree char *forward = m->ssh_port ? g_strdup_printf(",hostfwd=tcp:127.0.0.1:%d-:22", m->ssh_port) : NULL;

    if (m->is_bridged)
        addf(argv, "-netdev", "tap,id=net0,fd=%d", SHIM_TAP_FD);
    else
        addf(argv, "-netdev", "user,id=net0,restrict=%s%s", m->is_restricted ? "on" : "off", forward ? forward : "");
    addf(argv, "-device", "virtio-net-pci,netdev=net0,id=nic0,mac=%s,bus=pcie.0,addr=04.0,romfile=", m->mac);
}

static void add_channels(GPtrArray *argv, const struct qemu_machine *m) {
    addf(argv, "-add-fd", "fd=%d,set=1", m->console_fd);
    add(argv, "-chardev",
        "socket,id=console,path=" QEMU_CONSOLE_SOCKET ",server=on,wait=off,logfile=/dev/fdset/1,logappend=on");
    add(argv, "-serial", "chardev:console");
    add(argv, "-device", "virtio-serial-pci,id=serial0,bus=pcie.0,addr=05.0");
    add(argv, "-chardev", "socket,id=agent,path=" QEMU_AGENT_SOCKET ",server=on,wait=off");
    add(argv, "-device", "virtserialport,bus=serial0.0,chardev=agent,name=" QEMU_AGENT_CHANNEL);
    add(argv, "-object", "rng-random,id=rng,filename=/dev/urandom");
    add(argv, "-device", "virtio-rng-pci,rng=rng,bus=pcie.0,addr=06.0");
    add(argv, "-qmp", "unix:" QEMU_QMP_SOCKET ",server=on,wait=off");
    add(argv, "-qmp", "unix:" QEMU_DEBUG_SOCKET ",server=on,wait=off");
}

/* Access from the guest is mapped: what root there writes is its files' attribute here, never an owner or a set-uid bit. */
static void add_share(GPtrArray *argv, const struct qemu_machine *m) {
    if (!m->shared_folder)
        return;
    addf(argv, "-fsdev", "local,id=shared,path=%s,security_model=mapped-xattr,multidevs=remap", m->shared_folder);
    add(argv, "-device", "virtio-9p-pci,fsdev=shared,mount_tag=shared,bus=pcie.0,addr=07.0");
}

static bool add_cards(GPtrArray *argv, const struct qemu_machine *m, GError **error) {
    char id[16];
    int card, function;

    for (size_t i = 0; i < m->n_functions; i++) {
        const struct qemu_function *f = &m->functions[i];
        bool has_more = i + 1 < m->n_functions && is_companion(m->functions, i + 1);
        place(m->functions, i, &card, &function);
        qemu_function_id(m->functions, i, id, sizeof id);
        if (function == 0 && !is_gpu(f))
            return kr_fail(error, REFUSED, "%s is no GPU and stands before its GPU", f->address);
        if (function == 0)
            addf(argv, "-device", "pcie-root-port,id=rp%d,chassis=%d,port=%d,bus=pcie.0,addr=%02x.%x%s", card, card + 1,
                 PORT_OF_A_FIRST_GPU + card, FIRST_GPU_SLOT + card / 8, card % 8, card % 8 ? "" : ",multifunction=on");
        addf(argv, "-device", "vfio-pci,host=%s,id=%s,bus=rp%d,addr=00.%x%s", f->address, id, card, function,
             function == 0 && has_more ? ",multifunction=on" : "");
    }
    return true;
}

/* Large memory of cards needs room above 4 GiB: the firmware's window, and the host bridge's hole. */
static void add_window(GPtrArray *argv, const struct qemu_machine *m) {
    if (m->mmio_window_bytes <= 0)
        return;
    if (m->ovmf_code)
        addf(argv, "-fw_cfg", "name=opt/ovmf/X-PciMmio64Mb,string=%" G_GINT64_FORMAT, m->mmio_window_bytes / MIB);
    addf(argv, "-global", "q35-pcihost.pci-hole64-size=%" G_GINT64_FORMAT "G", MAX(m->mmio_window_bytes / GIB, 32));
}

static bool check_paths(const struct qemu_machine *m, GError **error) {
    const char *const paths[] = {m->disk, m->seed, m->ovmf_code, m->ovmf_vars, m->hugepages, m->shared_folder, m->name};

    for (size_t i = 0; i < G_N_ELEMENTS(paths); i++)
        if (!check_path(paths[i], error))
            return false;
    return m->n_functions <= QEMU_MAX_FUNCTIONS || kr_fail(error, REFUSED, "too many functions");
}

char **qemu_argv_make(const struct qemu_machine *m, GError **error) {
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);

    if (!check_paths(m, error))
        return NULL;
    add_machine(argv, m);
    add_memory(argv, m);
    add_boot(argv, m);
    add_window(argv, m);
    add_disks(argv, m);
    add_network(argv, m);
    add_channels(argv, m);
    add_share(argv, m);
    if (!add_cards(argv, m, error))
        return NULL;
    g_ptr_array_add(argv, NULL);
    return (char **)g_ptr_array_free(g_steal_pointer(&argv), FALSE);
}
