#include "vfio/vfio_pci.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fs.h"

enum { MAX_TEXT_BYTES = 1 << 20, CONFIG_BYTES = 16, CONFIG_HEADER_TYPE = 14 };

static const struct {
    unsigned class, mask;
    enum vfio_role role;
} roles[] = {
    {0x030000, 0xff0000, VFIO_ROLE_GPU}, {0x120000, 0xffff00, VFIO_ROLE_GPU},  {0x040300, 0xffff00, VFIO_ROLE_AUDIO},
    {0x0c0300, 0xffff00, VFIO_ROLE_USB}, {0x0c8000, 0xffff00, VFIO_ROLE_UCSI}, {0x060000, 0xff0000, VFIO_ROLE_BRIDGE},
};

static const char *const role_names[] = {
    [VFIO_ROLE_OTHER] = "other", [VFIO_ROLE_GPU] = "gpu",   [VFIO_ROLE_AUDIO] = "audio",
    [VFIO_ROLE_USB] = "usb-c",   [VFIO_ROLE_UCSI] = "ucsi", [VFIO_ROLE_BRIDGE] = "bridge",
};

enum vfio_role vfio_role_of_class(unsigned class) {
    for (size_t i = 0; i < G_N_ELEMENTS(roles); i++)
        if ((class & roles[i].mask) == roles[i].class)
            return roles[i].role;
    return VFIO_ROLE_OTHER;
}

const char *vfio_role_to_str(enum vfio_role role) { return role_names[role]; }

char *vfio_read_text(const char *root, const char *path) {
    g_autofree char *full = g_build_filename(root, path, NULL);
    char *text;

    return fs_read_file(full, MAX_TEXT_BYTES, &text, NULL, NULL) ? g_strstrip(text) : NULL;
}

bool vfio_read_number(const char *folder, const char *name, int64_t *ret_value) {
    g_autofree char *text = vfio_read_text(folder, name);
    char *end;

    if (!text)
        return false;
    *ret_value = g_ascii_strtoll(text, &end, 0);
    return end != text;
}

char *vfio_pci_path(const char *root, const char *address, const char *name) {
    return g_build_filename(root, "sys/bus/pci/devices", address, name, NULL);
}

/* The last part of where a link points to, "" when there is none. */
static char *link_name(const char *folder, const char *name) {
    g_autofree char *path = g_build_filename(folder, name, NULL);
    g_autofree char *target = g_file_read_link(path, NULL);

    return target ? g_path_get_basename(target) : g_strdup("");
}

bool vfio_pci_driver(const char *root, const char *address, char ret_driver[static GPU_DRIVER_MAX_BYTES + 1]) {
    g_autofree char *folder = vfio_pci_path(root, address, NULL);
    g_autofree char *name = link_name(folder, "driver");

    if (!fs_exists(folder))
        return false;
    g_strlcpy(ret_driver, name, GPU_DRIVER_MAX_BYTES + 1);
    return true;
}

static int read_group(const char *folder) {
    g_autofree char *name = link_name(folder, "iommu_group");

    return g_ascii_isdigit(name[0]) ? (int)g_ascii_strtoll(name, NULL, 10) : VFIO_NO_GROUP;
}

bool vfio_pci_read(const char *root, const char *address, struct vfio_function *ret_function) {
    struct vfio_function f = {.group = VFIO_NO_GROUP};
    g_autofree char *folder = NULL, *reset = NULL;
    int64_t vendor, device, class, number;

    if (!pci_address_from_str(address, &f.at))
        return false;
    pci_address_to_str(&f.at, f.address);
    folder = vfio_pci_path(root, f.address, NULL);
    if (!vfio_read_number(folder, "vendor", &vendor) || !vfio_read_number(folder, "device", &device) ||
        !vfio_read_number(folder, "class", &class) || !vfio_pci_driver(root, f.address, f.driver))
        return false;
    f.vendor = (unsigned)vendor;
    f.device = (unsigned)device;
    f.class = (unsigned)class;
    f.group = read_group(folder);
    f.is_boot_vga = vfio_read_number(folder, "boot_vga", &number) && number == 1;
    f.n_virtual = vfio_read_number(folder, "sriov_numvfs", &number) ? (int)number : 0;
    reset = vfio_read_text(folder, "reset_method");
    g_strlcpy(f.reset, reset ? reset : "", sizeof f.reset);
    *ret_function = f;
    return true;
}

static int compare_functions(const void *a, const void *b) {
    return pci_address_compare(&((const struct vfio_function *)a)->at, &((const struct vfio_function *)b)->at);
}

GArray *vfio_pci_scan(const char *root, GError **error) {
    g_autofree char *folder = g_build_filename(root, "sys/bus/pci/devices", NULL);
    g_auto(GStrv) names = fs_list(folder, error);
    GArray *functions;

    if (!names)
        return NULL;
    functions = g_array_new(FALSE, TRUE, sizeof(struct vfio_function));
    for (char **name = names; *name; name++) {
        struct vfio_function function;

        if (vfio_pci_read(root, *name, &function))
            g_array_append_val(functions, function);
    }
    g_array_sort(functions, compare_functions);
    return functions;
}

bool vfio_same_slot(const struct vfio_function *a, const struct vfio_function *b) {
    return a->at.domain == b->at.domain && a->at.bus == b->at.bus && a->at.device == b->at.device;
}

char *vfio_function_to_str(const struct vfio_function *f) {
    enum vfio_role role = vfio_role_of_class(f->class);
    g_autofree char *class = g_strdup_printf("class %04x", f->class >> 8);

    return g_strdup_printf("%s (%s, %04x:%04x, %s%s)", f->address,
                           role == VFIO_ROLE_OTHER ? class : vfio_role_to_str(role), f->vendor, f->device,
                           f->driver[0] ? "driver " : "no driver", f->driver);
}

char *vfio_pci_override(const char *root, const char *address) {
    g_autofree char *folder = vfio_pci_path(root, address, NULL);
    char *text = vfio_read_text(folder, "driver_override");

    if (text && strcmp(text, "(null)") != 0)
        return text;
    g_free(text);
    return g_strdup("");
}

const char *vfio_pci_absence(const char *root, const char *address) {
    g_autofree char *path = vfio_pci_path(root, address, "config");
    _cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    unsigned char config[CONFIG_BYTES];

    if (fd < 0)
        return "its configuration space cannot be opened";
    if (read(fd, config, sizeof config) != (ssize_t)sizeof config)
        return "its configuration space cannot be read";
    if (config[0] == 0xff && config[1] == 0xff)
        return "fallen off the bus: its configuration space reads ffff";
    return config[CONFIG_HEADER_TYPE] == 0x7f ? "fallen off the bus: its configuration space has the header type 7f"
                                              : NULL;
}
