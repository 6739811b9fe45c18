#include "model/vm.h"

#include <string.h>

#include "base/error.h"
#include "base/json.h"

void vm_spec_free(struct vm_spec *vm) {
    if (!vm)
        return;
    g_free(vm->hostname);
    g_free(vm->image);
    g_free(vm->user);
    g_strfreev(vm->ssh_keys);
    g_free(vm->user_data);
    g_free(vm->network);
    g_free(vm);
}

struct vm_spec *vm_spec_copy(const struct vm_spec *vm) {
    struct vm_spec *copy = g_new0(struct vm_spec, 1);

    *copy = *vm;
    copy->hostname = g_strdup(vm->hostname);
    copy->image = g_strdup(vm->image);
    copy->user = g_strdup(vm->user);
    copy->ssh_keys = g_strdupv(vm->ssh_keys);
    copy->user_data = g_strdup(vm->user_data);
    copy->network = g_strdup(vm->network);
    return copy;
}

bool vm_name_check(const char *name, const char *what, GError **error) {
    size_t len = strlen(name);
    bool ok = len > 0 && len <= VM_MAX_NAME_BYTES && g_ascii_isalnum(name[0]) && g_ascii_isalnum(name[len - 1]);

    for (size_t i = 0; ok && i < len; i++)
        ok = g_ascii_isalnum(name[i]) || name[i] == '-';
    return ok || kr_fail(error, BAD_REQUEST, "the %s \"%.64s\" must have 1 to %d letters, digits and '-'", what, name,
                         VM_MAX_NAME_BYTES);
}

json_t *vm_spec_to_json(const struct vm_spec *vm) {
    json_t *keys = json_array();
    json_t *json;

    for (char **key = vm->ssh_keys; key && *key; key++)
        json_array_append_new(keys, json_string(*key));
    json = json_pack("{s:I,s:s,s:s,s:I,s:s,s:o,s:s,s:b,s:b}", "vps_id", (json_int_t)vm->vps_id, "hostname",
                     vm->hostname, "image", vm->image, "disk_bytes", (json_int_t)vm->disk_bytes, "user", vm->user,
                     "ssh_keys", keys, "network", vm->network, "installs_driver", vm->installs_driver, "takes_group",
                     vm->takes_group);
    if (vm->user_data)
        json_object_set_new(json, "user_data", json_string(vm->user_data));
    return json;
}

/* One line each, so that none can bring in another. */
static void check_keys(struct json_reader *r, char *const *keys) {
    for (; keys && *keys; keys++)
        if (strpbrk(*keys, "\r\n") || !strchr(*keys, ' '))
            jr_fail(r, "\"%.32s…\" is no public key: give one line as in an authorized_keys file", *keys);
}

static void check_user(struct json_reader *r, const char *user) {
    size_t len = strlen(user);
    bool ok = len > 0 && len <= 32 && (g_ascii_islower(user[0]) || user[0] == '_');

    for (size_t i = 0; ok && i < len; i++)
        ok = g_ascii_islower(user[i]) || g_ascii_isdigit(user[i]) || user[i] == '_' || user[i] == '-';
    if (!ok && !r->failed)
        jr_fail(r, "\"%.40s\" cannot be a login: write lower case letters, digits, '_' and '-'", user);
}

struct vm_spec *vm_spec_from_json(const json_t *json, GError **error) {
    struct json_reader r = jr_init(json, "vm", error);
    struct vm_spec *vm = g_new0(struct vm_spec, 1);

    vm->vps_id = (uint32_t)jr_int(&r, "vps_id", 0, G_MAXUINT32);
    vm->hostname = g_strdup(jr_str(&r, "hostname", VM_MAX_NAME_BYTES));
    vm->image = g_strdup(jr_str(&r, "image", VM_MAX_NAME_BYTES));
    vm->disk_bytes = jr_int(&r, "disk_bytes", VM_MIN_DISK_BYTES, VM_MAX_DISK_BYTES);
    vm->user = g_strdup(jr_str(&r, "user", 32));
    vm->ssh_keys = jr_strv_opt(&r, "ssh_keys", VM_MAX_KEYS, VM_MAX_KEY_BYTES);
    vm->user_data = g_strdup(jr_str_opt(&r, "user_data", VM_MAX_USER_DATA_BYTES, NULL));
    vm->network = g_strdup(jr_str_opt(&r, "network", 16, "user"));
    vm->installs_driver = jr_bool_opt(&r, "installs_driver", false);
    vm->takes_group = jr_bool_opt(&r, "takes_group", false);
    if (!r.failed && strcmp(vm->network, "user") != 0 && strcmp(vm->network, "bridge") != 0)
        jr_fail(&r, "\"network\" is neither user nor bridge");
    check_user(&r, vm->user);
    check_keys(&r, vm->ssh_keys);
    if (!r.failed)
        r.failed = !vm_name_check(vm->hostname, "host name", r.error) ||
                   !vm_name_check(vm->image, "image name", r.error);
    if (jr_done(&r))
        return vm;
    vm_spec_free(vm);
    return NULL;
}
