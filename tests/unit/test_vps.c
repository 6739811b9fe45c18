/* Machines in the core: their starts are tasks like any other, in the one pool. */

#include "core_fixture.h"

struct answer {
    bool is_done;
    uint32_t id, task_id;
    char *error;
};

static void on_vps(void *user, const struct vps *vps, const GError *error) {
    struct answer *answer = user;

    answer->is_done = true;
    answer->id = vps ? vps->id : 0;
    answer->task_id = vps ? vps->task_id : 0;
    g_free(answer->error);
    answer->error = g_strdup(error ? error->message : NULL);
}

static struct vps *make_vps(const char *name, const char *target) {
    char *none[] = {NULL};
    struct vm_spec vm = {.hostname = (char *)(uintptr_t)name,
                         .image = (char *)"debian",
                         .disk_bytes = VM_MIN_DISK_BYTES,
                         .user = (char *)"ops",
                         .ssh_keys = none,
                         .network = (char *)"user"};
    struct task_spec spec = {
        .name = (char *)(uintptr_t)name, .argv = none, .cores = 1, .mem_bytes = 1LL << 30, .vm = &vm};
    struct vps *vps = g_new0(struct vps, 1);

    vps->name = g_strdup(name);
    vps->target = g_strdup(target);
    vps->spec = task_spec_copy(&spec);
    return vps;
}

/* Nodes that can run machines, as their runners say. */
static struct bed *vm_bed(void) {
    struct bed *bed = bed_new();
    struct node_info *info = make_node("mynode", 4);

    info->vm_ok = true;
    controller_heartbeat(bed->c, info, bed->now);
    return bed;
}

static struct answer create(struct bed *bed, const char *name, const char *target) {
    struct vps *vps = make_vps(name, target);
    struct answer answer = {0};
    g_autoptr(GError) error = NULL;

    if (!controller_vps_create(bed->c, vps, bed->now, on_vps, &answer, &error))
        answer.error = g_strdup(error->message);
    commit(bed, NULL);
    vps_free(vps);
    controller_check(bed->c);
    return answer;
}

static enum vps_state state_of(struct bed *bed, uint32_t id) {
    const struct vps *vps = controller_vps(bed->c, id);

    return vps_state_of(controller_task(bed->c, vps->task_id), controller_vps_is_told(bed->c, vps), false);
}

static void end_it(struct bed *bed, uint32_t task_id) {
    report(bed, task_id, TASK_COMPLETED, true);
    commit(bed, NULL);
}

static void test_life(void) {
    struct bed *bed = vm_bed();
    struct answer vm = create(bed, "vm", "mynode::0"), again = {0};
    g_autoptr(GError) error = NULL;

    g_assert_cmpstr(vm.error, ==, NULL);
    g_assert_cmpint(state_of(bed, vm.id), ==, VPS_ASSIGNING);
    g_assert_cmpuint(controller_task(bed->c, vm.task_id)->spec->vm->vps_id, ==, vm.id);
    report(bed, vm.task_id, TASK_RUNNING, false);
    commit(bed, NULL);
    g_assert_cmpint(state_of(bed, vm.id), ==, VPS_RUNNING);
    g_assert_false(controller_vps_start(bed->c, vm.id, bed->now, on_vps, &again, &error));
    g_assert_nonnull(strstr(error->message, "stop it first"));
    g_clear_error(&error);
    g_assert_false(controller_vps_delete(bed->c, vm.id, on_vps, &again, &error));
    report(bed, vm.task_id, TASK_COMPLETED, false); /* off, and its card is not back yet */
    commit(bed, NULL);
    g_assert_cmpint(state_of(bed, vm.id), ==, VPS_STOPPING);
    g_clear_error(&error);
    g_assert_false(controller_vps_start(bed->c, vm.id, bed->now, on_vps, &again, &error));
    g_assert_nonnull(strstr(error->message, "not free yet"));
    end_it(bed, vm.task_id);
    g_assert_cmpint(state_of(bed, vm.id), ==, VPS_STOPPED);
    g_assert_true(controller_vps_start(bed->c, vm.id, bed->now, on_vps, &again, NULL));
    commit(bed, NULL);
    g_assert_cmpuint(again.id, ==, vm.id);
    g_assert_cmpuint(again.task_id, >, vm.task_id); /* a lease of its own */
    end_it(bed, again.task_id);
    g_assert_true(controller_vps_delete(bed->c, vm.id, on_vps, &again, NULL));
    commit(bed, NULL);
    g_assert_null(controller_vps(bed->c, vm.id));
    bed_free(bed);
}

static void test_one_pool(void) { /* R1, L18: a card is a container's or a machine's, and everybody knows */
    struct bed *bed = vm_bed();
    struct answer vm = create(bed, "vm", "mynode::0"), other, again = {0};

    expect_refusal(bed, "mynode::0", 0, KR_ERROR_REFUSED, "held by task 1 (vm)");
    other = create(bed, "other", "mynode::0");
    g_assert_nonnull(strstr(other.error, "held by task 1 (vm)"));
    g_assert_null(controller_vps(bed->c, other.id)); /* a refused start makes no machine */
    end_it(bed, vm.task_id);
    submit(bed, "mynode::0", 0);
    commit(bed, NULL);
    g_assert_cmpstr(bed->error, ==, NULL);
    g_assert_true(controller_vps_start(bed->c, vm.id, bed->now, on_vps, &again, NULL));
    g_assert_nonnull(strstr(again.error, "held by task"));
    g_assert_cmpint(state_of(bed, vm.id), ==, VPS_STOPPED);
    g_free(other.error);
    g_free(again.error);
    bed_free(bed);
}

/* What the node says of a card, as its next heartbeat. */
static void say(struct bed *bed, void (*change)(struct node_info *info)) {
    struct node_info *info = make_node("mynode", 4);

    info->vm_ok = true;
    change(info);
    controller_heartbeat(bed->c, info, bed->now);
    controller_check(bed->c);
}

static void make_bare(struct node_info *info) {
    struct gpu *gpu = info->gpus->pdata[1];

    gpu->condition = GPU_CONDITION_BARE;
    gpu->reason = g_strdup("no driver is bound to it");
}

static void test_bare_cards_are_for_machines(void) {
    struct bed *bed = vm_bed();
    struct answer vm;

    say(bed, make_bare);
    expect_refusal(bed, "mynode::1", 0, KR_ERROR_REFUSED,
                   "GPU 1 of mynode is not available (bare): no driver is bound to it; free GPUs on mynode: 0, 2, 3");
    vm = create(bed, "vm", "mynode::1");
    g_assert_cmpstr(vm.error, ==, NULL);
    expect_refusal(bed, "mynode::1", 0, KR_ERROR_REFUSED, "held by task 1 (vm)");
    bed_free(bed);
}

static void group_all(struct node_info *info) {
    for (guint i = 0; i < info->gpus->len; i++)
        gpu_set(info->gpus->pdata[i], GPU_IOMMU_GROUP, i < 2 ? 13 : 14 + (int)i);
}

static struct answer create_with_group(struct bed *bed, const char *name, const char *target) {
    struct vps *vps = make_vps(name, target);
    struct answer answer = {0};

    vps->spec->vm->takes_group = true;
    g_assert_true(controller_vps_create(bed->c, vps, bed->now, on_vps, &answer, NULL));
    commit(bed, NULL);
    vps_free(vps);
    controller_check(bed->c);
    return answer;
}

static void test_a_group_is_one(void) { /* L69: both cards, or neither, and the ledger knows both */
    struct bed *bed = vm_bed();
    struct answer vm, other;

    say(bed, group_all);
    vm = create(bed, "vm", "mynode::0");
    g_assert_nonnull(strstr(vm.error, "GPU 0 of mynode shares its IOMMU group 13 with GPU 1: name both"));
    g_free(vm.error);
    submit(bed, "mynode::0", 0); /* containers know no groups */
    commit(bed, NULL);
    g_assert_cmpstr(bed->error, ==, NULL);
    other = create_with_group(bed, "other", "mynode::1");
    g_assert_nonnull(
        strstr(other.error, "GPU 1 of mynode shares its IOMMU group with GPU 0: GPU 0 of mynode is held by task 1"));
    g_free(other.error);
    report(bed, 1, TASK_COMPLETED, true);
    commit(bed, NULL);
    vm = create_with_group(bed, "vm", "mynode::1");
    g_assert_cmpstr(vm.error, ==, NULL);
    g_assert_cmpuint(controller_task(bed->c, vm.task_id)->lease.n_gpus, ==, 2);
    expect_refusal(bed, "mynode::0", 0, KR_ERROR_REFUSED, "held by task 2 (vm)");
    end_it(bed, vm.task_id);
    vm = create(bed, "both", "mynode::0,1");
    g_assert_cmpstr(vm.error, ==, NULL);
    bed_free(bed);
}

static void make_stuck(struct node_info *info) {
    struct gpu *gpu = info->gpus->pdata[0];

    gpu->condition = GPU_CONDITION_FAULT;
    gpu->reason = g_strdup("stuck: needs reboot: unbind 0000:18:00.0 does not return");
    info->vfio = json_pack("[{s:s,s:s,s:s,s:s,s:[]}]", "owner", "vps-1", "state", "stuck", "step", "unbind", "reason",
                           "x", "gpus");
}

static void test_a_held_card_says_which_step(void) {
    struct bed *bed = vm_bed();
    struct answer vm = create(bed, "vm", "mynode::0");
    const struct cluster_node *node;
    const struct pool_card *card;
    struct node_info *copy;
    json_t *json;

    say(bed, make_stuck);
    node = cluster_find(controller_pool(bed->c)->cluster, "mynode");
    card = controller_gpu(bed->c, node, node->info->gpus->pdata[0], bed->now);
    g_assert_cmpint(card->state, ==, GPU_STATE_LEASED);
    g_assert_cmpstr(card->reason, ==, "granted to task 1; stuck: needs reboot: unbind 0000:18:00.0 does not return");
    json = node_info_to_json(node->info);
    copy = node_info_from_json(json, NULL);
    g_assert_nonnull(copy);
    g_assert_true(json_equal(copy->vfio, json_object_get(json, "vfio")));
    json_decref(json);
    node_info_free(copy);
    end_it(bed, vm.task_id); /* the node's word that the card is free counts for the task, and not for the card */
    node = cluster_find(controller_pool(bed->c)->cluster, "mynode");
    card = controller_gpu(bed->c, node, node->info->gpus->pdata[0], bed->now);
    g_assert_cmpint(card->state, ==, GPU_STATE_QUARANTINED);
    g_assert_nonnull(strstr(card->reason, "stuck: needs reboot"));
    vm = create(bed, "again", "mynode::0");
    g_assert_nonnull(strstr(vm.error, "stuck: needs reboot"));
    g_free(vm.error);
    vm = create(bed, "third", "mynode::1");
    g_assert_cmpstr(vm.error, ==, NULL);
    bed_free(bed);
}

static void test_refusals(void) { /* R8 */
    struct bed *bed = vm_bed();
    struct answer vm = create(bed, "vm", "mynode::0"), twin = create(bed, "vm", "mynode::1"), blind;
    struct answer first = {0}, second = {0};
    g_autoptr(GError) error = NULL;

    g_assert_nonnull(strstr(twin.error, "there is a VPS \"vm\" already"));
    blind = create(bed, "vm2", "node2::0");
    g_assert_nonnull(strstr(blind.error, "node2 cannot run machines"));
    end_it(bed, vm.task_id);
    g_assert_true(controller_vps_start(bed->c, vm.id, bed->now, on_vps, &first, NULL)); /* two at once: one start */
    g_assert_false(controller_vps_start(bed->c, vm.id, bed->now, on_vps, &second, &error));
    commit(bed, NULL);
    g_assert_cmpstr(first.error, ==, NULL);
    g_assert_false(controller_vps_start(bed->c, 99, bed->now, on_vps, &second, NULL));
    g_free(twin.error);
    g_free(blind.error);
    bed_free(bed);
}

static void test_full_disk(void) { /* nothing is half made */
    struct bed *bed = vm_bed();
    struct vps *vps = make_vps("vm", "mynode::0");
    struct answer answer = {0};

    g_assert_true(controller_vps_create(bed->c, vps, bed->now, on_vps, &answer, NULL));
    commit(bed, "disk is full");
    g_assert_nonnull(strstr(answer.error, "disk is full"));
    g_assert_null(controller_vps(bed->c, vps->id));
    g_assert_null(ledger_holder(controller_ledger(bed->c), "GPU-mynode-0"));
    vps_free(vps);
    g_free(answer.error);
    bed_free(bed);
}

static void test_json(void) {
    struct vps *vps = make_vps("vm", "mynode::0"), *back;
    json_t *json;
    g_autoptr(GError) error = NULL;

    vps->id = vps->spec->vm->vps_id = 7;
    json = vps_to_json(vps);
    back = vps_from_json(json, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(back->spec->vm->image, ==, "debian");
    json_object_del(json_object_get(json, "spec"), "vm");
    g_assert_null(vps_from_json(json, &error));
    json_decref(json);
    vps_free(vps);
    vps_free(back);
}

static void test_bad_specs(void) { /* what cannot be a file name, a login or one line of keys never reaches a node */
    static const char *const bad[] = {
        "{\"hostname\":\"a b\"}",     "{\"hostname\":\"-a\"}",  "{\"image\":\"../x\"}",
        "{\"image\":\"\"}",           "{\"user\":\"Root\"}",    "{\"user\":\"a;b\"}",
        "{\"disk_bytes\":1}",         "{\"network\":\"host\"}", "{\"ssh_keys\":[\"ssh-ed25519 AAAA\\nssh-rsa BBBB\"]}",
        "{\"ssh_keys\":[\"nokey\"]}",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        struct vps *vps = make_vps("vm", "mynode");
        json_t *json = vm_spec_to_json(vps->spec->vm), *change = json_loads(bad[i], 0, NULL);
        struct vm_spec *good = vm_spec_from_json(json, NULL);
        g_autoptr(GError) error = NULL;

        g_assert_nonnull(good);
        json_object_update(json, change);
        g_assert_null(vm_spec_from_json(json, &error));
        g_assert_nonnull(error);
        vm_spec_free(good);
        json_decref(json);
        json_decref(change);
        vps_free(vps);
    }
}

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vps/life", test_life);
    g_test_add_func("/vps/R1-L18-one-pool", test_one_pool);
    g_test_add_func("/vps/bare-cards-are-for-machines", test_bare_cards_are_for_machines);
    g_test_add_func("/vps/L69-a-group-is-one", test_a_group_is_one);
    g_test_add_func("/vps/R8-a-held-card-says-which-step", test_a_held_card_says_which_step);
    g_test_add_func("/vps/R8-refusals", test_refusals);
    g_test_add_func("/vps/full-disk", test_full_disk);
    g_test_add_func("/vps/json", test_json);
    g_test_add_func("/vps/R10-bad-specs", test_bad_specs);
    return g_test_run();
}
