/* A preload for qemu-system-x86_64 that adds device types: emulated PCI devices that exist, under the ids and class of a graphics card.
 * $FAKEPCI lists them, all numbers hexadecimal, the class of 16 bits:
 *
 *   NAME=PARENT:VENDOR:DEVICE:CLASS:REVISION:SUBVENDOR:SUBDEVICE[,NAME=…]
 *
 * It works since Debian's QEMU, which is built with modules, exports its symbols. Where the ids stand in a device's class is found by
 * looking for the known ids of the device `edu`. Test only. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <malloc.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct type_info { /* qom/object.h of QEMU 7.2 to 10 */
    const char *name, *parent;
    size_t instance_size, instance_align;
    void (*instance_init)(void *);
    void (*instance_post_init)(void *);
    void (*instance_finalize)(void *);
    bool abstract;
    size_t class_size;
    void (*class_init)(void *, void *);
    void (*class_base_init)(void *, void *);
    void *class_data;
    void *interfaces;
};

struct ids { /* in a row in QEMU's class of PCI devices */
    uint16_t vendor, device;
    uint8_t revision;
    uint16_t class, subvendor, subdevice;
};

struct spec {
    char name[64], parent[64];
    struct ids ids;
};

static void *(*class_by_name)(const char *);

static struct ids *ids_of(void *class) {
    static ptrdiff_t offset = -1;
    char *edu = class_by_name("edu");

    for (size_t i = 0; offset < 0 && edu && i + sizeof(struct ids) <= malloc_usable_size(edu); i += 2) {
        const struct ids *at = (const struct ids *)(edu + i);
        if (at->vendor == 0x1234 && at->device == 0x11e8 && at->revision == 0x10 && at->class == 0x00ff)
            offset = (ptrdiff_t)i;
    }
    if (offset < 0) {
        fprintf(stderr, "fakepci: this QEMU's devices are laid out in another way\n");
        abort();
    }
    return (struct ids *)((char *)class + offset);
}

static void init_class(void *class, void *data) { *ids_of(class) = ((const struct spec *)data)->ids; }

static void add_type(void *(*add)(const struct type_info *), const char *text) {
    struct spec *spec = calloc(1, sizeof *spec);
    struct type_info type = {.name = spec->name, .parent = spec->parent, .class_init = init_class, .class_data = spec};
    unsigned v, d, c, r, sv, sd;

    if (sscanf(text, "%63[^=]=%63[^:]:%x:%x:%x:%x:%x:%x", spec->name, spec->parent, &v, &d, &c, &r, &sv, &sd) != 8) {
        fprintf(stderr, "fakepci: no type: %s\n", text);
        exit(1);
    }
    spec->ids = (struct ids){(uint16_t)v, (uint16_t)d, (uint8_t)r, (uint16_t)c, (uint16_t)sv, (uint16_t)sd};
    add(&type);
}

__attribute__((constructor)) static void init(void) {
    void *(*add)(const struct type_info *) = dlsym(RTLD_DEFAULT, "type_register");
    char *specs = getenv("FAKEPCI"), *rest = NULL;

    if (!add)
        add = dlsym(RTLD_DEFAULT, "type_register_static"); /* QEMU 9.2 and later */
    class_by_name = dlsym(RTLD_DEFAULT, "object_class_by_name");
    if (!add || !class_by_name || !specs) /* not QEMU: a helper that it starts */
        return;
    specs = strdup(specs);
    for (char *spec = strtok_r(specs, ",", &rest); spec; spec = strtok_r(NULL, ",", &rest))
        add_type(add, spec);
}
