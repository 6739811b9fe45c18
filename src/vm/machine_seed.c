#include "vm/machine_seed.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/fs.h"
#include "vm/cloud_init.h"
#include "vm/fat_seed.h"
#include "vm/machine_boot.h"

enum { MAX_SMALL_FILE_BYTES = 4096 };

static char *read_below_root(const struct machine *m, const char *path) {
    g_autofree char *full = g_build_filename(m->context->config->sysfs_root, path, NULL);
    char *text = NULL;

    return fs_read_file(full, MAX_SMALL_FILE_BYTES, &text, NULL, NULL) ? text : NULL;
}

/* All cards of the machine have to take them: there is one module. */
static bool takes_open(const struct machine *m) {
    bool ok = m->record->functions->len > 0;

    for (guint i = 0; ok && i < m->record->functions->len; i++) {
        const struct qemu_function *f = &g_array_index(m->record->functions, struct qemu_function, i);
        g_autofree char *path = g_strdup_printf("sys/bus/pci/devices/%s/device", f->address);
        g_autofree char *text = read_below_root(m, path);
        if (f->pci_class >> 8 == 0x03 && text)
            ok = cloud_card_takes_open((unsigned)strtoul(text, NULL, 16));
    }
    return ok;
}

/* 3D controllers are data-centre cards, those with a display are not. */
static bool is_data_centre(const struct machine *m) {
    for (guint i = 0; i < m->record->functions->len; i++) {
        unsigned pci_class = g_array_index(m->record->functions, struct qemu_function, i).pci_class;
        if (pci_class >> 8 == 0x03)
            return pci_class == 0x0302;
    }
    return false;
}

static enum cloud_driver driver_of(const struct machine *m) {
    const char *set = m->context->config->driver;

    if (!m->record->vm->installs_driver)
        return CLOUD_DRIVER_NONE;
    return set[0] && strcmp(set, "distribution") != 0 ? CLOUD_DRIVER_RUN_FILE : CLOUD_DRIVER_DISTRIBUTION;
}

static bool write_files(const struct machine *m, const struct cloud_init *c, GError **error) {
    g_autofree char *meta = cloud_init_meta_data(c), *user = cloud_init_user_data(c);
    g_autofree char *network = cloud_init_network_config(c);
    g_autofree char *path = g_build_filename(m->folder, MACHINE_SEED_FILE, NULL);
    const struct fat_file files[] = {{"meta-data", meta, strlen(meta)},
                                     {"user-data", user, strlen(user)},
                                     {"network-config", network, strlen(network)}};
    g_autoptr(GByteArray) bytes = fat_seed_make("CIDATA", files, G_N_ELEMENTS(files), error);

    return bytes && fs_write_durable(path, 0600, (const char *)bytes->data, bytes->len, error);
}

/* The node's own name server on 127.0.0.53 is nobody else's; systemd-resolved keeps those that it asks in a second file. */
static char **name_servers(const struct machine *m) {
    static const char *const files[] = {"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"};
    char **servers = g_strdupv((char **)m->context->config->name_servers);

    for (size_t i = 0; i < G_N_ELEMENTS(files) && !(servers && servers[0]); i++) {
        g_autofree char *text = NULL;
        g_strfreev(servers);
        servers = fs_read_file(files[i], MAX_SMALL_FILE_BYTES, &text, NULL, NULL) ? nat_name_servers(text) : NULL;
    }
    return servers;
}

/* In the node's own network for machines: with the address that the node gives. */
static bool write_in_nat(const struct machine *m, const struct vm_disk *disk, const struct cloud_init *base,
                         GError **error) {
    g_autofree char *address = g_strdup_printf("%s/%d", disk->address, m->context->nat->prefix);
    g_auto(GStrv) servers = name_servers(m);
    char gateway[NAT_ADDRESS_BYTES];
    struct cloud_init c = *base;

    nat_address_to_str(m->context->nat->address, gateway);
    c.address = address;
    c.gateway = gateway;
    c.name_servers = servers;
    return write_files(m, &c, error);
}

bool machine_write_seed(const struct machine *m, GError **error) {
    const struct vm_spec *vm = m->record->vm;
    const struct qemu_config *config = m->context->config;
    struct vm_disk *disk = disk_store_find(m->context->store, vm->vps_id, error);
    g_autofree char *agent = disk ? guest_agent_script(disk->secret) : NULL;
    g_autofree char *text = read_below_root(m, "proc/driver/nvidia/version");
    g_autofree char *version = text ? cloud_driver_version(text) : NULL;
    g_autofree char *source = cloud_driver_source(config->driver, version ? version : "", is_data_centre(m));
    g_autofree char *sum = cloud_driver_sum(config->driver_sha256, version ? version : "");
    struct cloud_init c = {.hostname = vm->hostname,
                           .user = vm->user,
                           .ssh_keys = vm->ssh_keys,
                           .user_data = vm->user_data,
                           .has_share = config->shared_folder[0] != '\0',
                           .agent = agent,
                           .driver = driver_of(m),
                           .driver_version = version ? version : "",
                           .is_open = takes_open(m),
                           .driver_source = source ? source : "",
                           .driver_sha256 = sum};
    bool ok = false;

    if (disk) {
        c.instance_id = disk->uuid;
        c.mac = disk->mac;
        ok = machine_needs_nat(m) ? write_in_nat(m, disk, &c, error) : write_files(m, &c, error);
    }
    vm_disk_free(disk);
    return ok;
}
