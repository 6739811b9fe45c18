/* Ledger, placement and controller by example; tests/sim hunts with random schedules. */

#include <string.h>

#include "base/error.h"
#include "core/controller.h"
#include "core/placement.h"
#include "core/task_state.h"
#include "core_fixture.h"

/* ---- ledger ---- */

static struct lease make_lease(uint32_t task_id, int64_t epoch, const char *node, const char *gpus) {
    struct lease lease = {.task_id = task_id, .epoch = epoch, .numa = TARGET_NO_NUMA, .granted_ms = 1000};
    g_auto(GStrv) list = g_strsplit(gpus, ",", -1);

    g_strlcpy(lease.node, node, sizeof lease.node);
    for (char **gpu = list; *gpu && **gpu; gpu++)
        g_strlcpy(lease.gpus[lease.n_gpus++].uuid, *gpu, sizeof lease.gpus[0].uuid);
    return lease;
}

static void test_ledger_one_holder(void) {
    struct ledger *ledger = ledger_new();
    struct lease a = make_lease(1, 1, "n", "A,B"), b = make_lease(2, 2, "n", "C,B");

    g_assert_true(ledger_grant(ledger, &a, "a", false));
    g_assert_false(ledger_grant(ledger, &b, "b", false));
    g_assert_null(ledger_holder(ledger, "C")); /* L17: all of a lease or nothing */
    g_assert_false(ledger_grant(ledger, &a, "a", false));
    g_assert_false(ledger_release(ledger, "n", 1, 2));
    g_assert_true(ledger_release(ledger, "n", 1, 1));
    g_assert_true(ledger_grant(ledger, &b, "b", false));
    g_assert_cmpint(ledger_last_epoch(ledger), ==, 2);
    ledger_check(ledger);
    ledger_free(ledger);
}

/* A model that is nothing but an array of holders, against the ledger, over random grants and releases. */
static void test_ledger_property(void) {
    struct ledger *ledger = ledger_new();
    uint32_t model[16] = {0};
    struct lease live[64] = {0};

    for (int step = 0; step < 20000; step++) {
        int slot = g_test_rand_int_range(0, 64);
        struct lease *lease = &live[slot];

        if (lease->task_id == 0) {
            GString *gpus = g_string_new(NULL);
            bool fits = true;
            unsigned wanted = (unsigned)g_test_rand_int_range(0, 1 << 16) & (unsigned)g_test_rand_int_range(0, 1 << 16);
            for (int i = 0; i < 16; i++)
                if (wanted & (1U << i)) {
                    g_string_append_printf(gpus, "%sG%d", gpus->len ? "," : "", i);
                    fits &= model[i] == 0;
                }
            *lease = make_lease((uint32_t)step + 1, step + 1, "n", gpus->str);
            g_string_free(gpus, TRUE);
            g_assert_true(ledger_grant(ledger, lease, "x", false) == fits);
            for (int i = 0; i < 16 && fits; i++)
                if (wanted & (1U << i))
                    model[i] = lease->task_id;
            if (!fits)
                lease->task_id = 0;
        } else {
            g_assert_true(ledger_release(ledger, "n", lease->task_id, lease->epoch));
            for (int i = 0; i < 16; i++)
                if (model[i] == lease->task_id)
                    model[i] = 0;
            lease->task_id = 0;
        }
        ledger_check(ledger);
    }
    ledger_free(ledger);
}

static void test_decide_record_act(void) { /* R5 */
    struct bed *bed = bed_new();

    submit(bed, "mynode::0", 0);
    g_assert_false(bed->is_answered); /* not before it is durable */
    g_assert_cmpuint(bed->sent->len, ==, 0);
    expect_refusal(bed, "mynode::0", 0, KR_ERROR_REFUSED,
                   "GPU 0 of mynode is held by task 1 (python)"); /* held already */
    commit(bed, NULL);
    g_assert_cmpuint(bed->n_tasks, ==, 1);
    g_assert_cmpstr(last_type(bed), ==, "start");
    bed_free(bed);
}

static void test_storage_failure(void) { /* a full disk: refused, nothing held */
    struct bed *bed = bed_new();

    submit(bed, "mynode::0,1 mynode::2", 0);
    commit(bed, "disk is full");
    g_assert_cmpint(bed->error_code, ==, KR_ERROR_STORAGE);
    g_assert_cmpstr(controller_storage_problem(bed->c), ==, "disk is full");
    g_assert_cmpuint(bed->sent->len, ==, 0);
    submit(bed, "mynode::0,1,2,3", 0);
    commit(bed, NULL);
    g_assert_null(bed->error);
    g_assert_null(controller_storage_problem(bed->c));
    bed_free(bed);
}

static void test_all_or_nothing(void) { /* L16, L17 */
    struct bed *bed = bed_new();

    expect_refusal(bed, "mynode::0 node2::7 mynode::1", 0, KR_ERROR_BAD_REQUEST,
                   "node2 has no GPU 7; its GPUs are: 0, 1");
    expect_refusal(bed, "mynode::0 mynode::0", 0, KR_ERROR_REFUSED, "asked for by another target of this submission");
    expect_refusal(bed, "mynode::0 mynode::0 bad::", 0, KR_ERROR_REFUSED, "2 targets are refused");
    g_assert_cmpuint(bed->refusals->len, ==, 2);
    g_assert_null(ledger_holder(controller_ledger(bed->c), "GPU-mynode-0"));
    submit(bed, "mynode::0 node2::0,1", 0);
    commit(bed, NULL);
    g_assert_cmpuint(bed->n_tasks, ==, 2);
    g_assert_cmpuint(bed->first_id, ==, 1); /* numbers of refused submissions are not used up */
    bed_free(bed);
}

static void test_refusals_explain(void) { /* R8, L78 */
    struct bed *bed = bed_new();
    struct node_info *sick = make_node("mynode", 4);
    struct gpu *gpu = sick->gpus->pdata[3];

    expect_refusal(bed, "nonode::0", 0, KR_ERROR_BAD_REQUEST,
                   "there is no node \"nonode\"; the nodes are: mynode, node2");
    expect_refusal(bed, "mynode:7", 0, KR_ERROR_BAD_REQUEST, "no NUMA node 7; its NUMA nodes are: 0, 1");
    expect_refusal(bed, "mynode", 9, KR_ERROR_BAD_REQUEST, "9 cores are asked for, mynode has 8");
    expect_refusal(bed, "mynode:1", 5, KR_ERROR_BAD_REQUEST, "NUMA node 1 of mynode has 4");
    gpu->condition = GPU_CONDITION_FOREIGN;
    gpu->reason = g_strdup("pid 4711 python3 (user alice) uses it");
    controller_heartbeat(bed->c, sick, bed->now);
    expect_refusal(bed, "mynode::3", 0, KR_ERROR_REFUSED,
                   "not available (foreign): pid 4711 python3 (user alice) uses it; free GPUs on mynode: 0, 1, 2");
    submit(bed, "mynode::0,1,2", 6);
    commit(bed, NULL);
    bed->now.wall_ms += 723000;
    expect_refusal(bed, "mynode::0,1", 0, KR_ERROR_REFUSED, "(12m 3s); no GPU of mynode is free; node2 has 2 free");
    expect_refusal(bed, "mynode", 3, KR_ERROR_REFUSED, "3 cores are asked for, 2 of the 8 of mynode are free");
    bed->now.mono_ms += 31000;
    expect_refusal(bed, "node2::0", 0, KR_ERROR_REFUSED, "node node2 is offline: silent for 31s");
    expect_refusal(bed, "", 0, KR_ERROR_REFUSED, "no node fits: node mynode is offline");
    bed_free(bed);
}

static void test_no_inventory(void) { /* R3, K4: no inventory is not an empty one */
    struct bed *bed = bed_new();
    struct node_info *blind = make_node("mynode", 0);

    blind->gpus_known = false;
    blind->gpu_text = g_strdup("NVML: driver/library version mismatch");
    controller_heartbeat(bed->c, blind, bed->now);
    expect_refusal(bed, "mynode::0", 0, KR_ERROR_REFUSED, "mynode reports no GPU inventory");
    expect_refusal(bed, "mynode::0", 0, KR_ERROR_REFUSED, "version mismatch");
    submit(bed, "mynode", 1); /* without GPUs it is a node like any other */
    commit(bed, NULL);
    g_assert_null(bed->error);
    bed_free(bed);
}

static void test_free_only_on_evidence(void) { /* R2, L20, L62 */
    struct bed *bed = bed_new();
    uint32_t id;

    submit(bed, "mynode::0", 0);
    commit(bed, NULL);
    id = bed->first_id;
    report(bed, id, TASK_RUNNING, false);
    commit(bed, NULL);
    report(bed, id, TASK_COMPLETED, false); /* ended, but something is left on the card */
    commit(bed, NULL);
    g_assert_cmpint(controller_task(bed->c, id)->state, ==, TASK_COMPLETED);
    expect_refusal(bed, "mynode::0", 0, KR_ERROR_REFUSED, "held by task 1");
    report(bed, id, TASK_COMPLETED, true);
    g_assert_nonnull(ledger_holder(controller_ledger(bed->c), "GPU-mynode-0")); /* not before it is durable */
    commit(bed, NULL);
    g_assert_cmpstr(last_type(bed), ==, "ack");
    g_assert_null(controller_task(bed->c, id));
    submit(bed, "mynode::0", 0);
    commit(bed, NULL);
    g_assert_null(bed->error);
    bed_free(bed);
}

static void test_release_not_recorded(void) { /* the release's record fails: held, no ack, tried again */
    struct bed *bed = bed_new();
    uint32_t id;

    submit(bed, "mynode::0", 0);
    commit(bed, NULL);
    id = bed->first_id;
    report(bed, id, TASK_COMPLETED, true);
    commit(bed, "disk is full");
    g_assert_cmpstr(last_type(bed), !=, "ack");
    g_assert_nonnull(ledger_holder(controller_ledger(bed->c), "GPU-mynode-0"));
    controller_tick(bed->c, bed->now);
    commit(bed, NULL);
    g_assert_cmpstr(last_type(bed), ==, "ack");
    g_assert_null(ledger_holder(controller_ledger(bed->c), "GPU-mynode-0"));
    bed_free(bed);
}

static void test_silence_holds(void) { /* R3, L27, L28, K2 */
    struct bed *bed = bed_new();
    uint32_t id;

    submit(bed, "mynode::0", 0);
    commit(bed, NULL);
    id = bed->first_id;
    report(bed, id, TASK_RUNNING, false);
    commit(bed, NULL);
    controller_disconnected(bed->c, "mynode", bed->now);
    bed->now.mono_ms += 100000;
    controller_tick(bed->c, bed->now);
    g_assert_cmpstr(controller_shown_state(bed->c, controller_task(bed->c, id), bed->now), ==, "lost");
    g_assert_cmpint(controller_task(bed->c, id)->state, ==, TASK_RUNNING);
    g_assert_nonnull(ledger_holder(controller_ledger(bed->c), "GPU-mynode-0"));
    bed_free(bed);
}

static void test_vanished(void) { /* the node is back and knows nothing of it */
    struct bed *bed = bed_new();
    uint32_t id;

    submit(bed, "mynode::0", 0);
    commit(bed, NULL);
    id = bed->first_id;
    hello(bed, "mynode", 4); /* still pending: started again */
    g_assert_cmpstr(last_type(bed), ==, "start");
    report(bed, id, TASK_RUNNING, false);
    commit(bed, NULL);
    hello(bed, "mynode", 4);
    commit(bed, NULL);
    g_assert_null(controller_task(bed->c, id));
    g_assert_null(ledger_holder(controller_ledger(bed->c), "GPU-mynode-0"));
    bed_free(bed);
}

static void test_orphan(void) { /* L25: a host restored from an old backup; the node knows better */
    struct bed *bed = bed_new();
    struct node_report *said = g_new0(struct node_report, 1);
    g_autoptr(GPtrArray) reports = g_ptr_array_new_with_free_func((GDestroyNotify)node_report_free);
    struct task_report gone = {.task_id = 50,
                               .epoch = 90,
                               .state = TASK_COMPLETED,
                               .released = true,
                               .proof = {.facts = PROOF_CONTAINER_GONE | PROOF_CARD}};

    said->lease = make_lease(50, 90, "mynode", "GPU-mynode-2");
    said->report = (struct task_report){.task_id = 50, .epoch = 90, .state = TASK_RUNNING};
    g_ptr_array_add(reports, said);
    g_assert_true(controller_hello(bed->c, make_node("mynode", 4), reports, 0, bed->now, NULL));
    expect_refusal(bed, "mynode::2", 0, KR_ERROR_REFUSED, "held by orphaned task 50");
    submit(bed, "mynode::0", 0);
    commit(bed, NULL);
    g_assert_cmpuint(bed->first_id, ==, 51); /* no number twice */
    g_assert_cmpint(controller_task(bed->c, 51)->lease.epoch, ==, 91);
    controller_report(bed->c, "mynode", &gone, bed->now);
    g_assert_cmpstr(last_type(bed), ==, "ack");
    submit(bed, "mynode::2", 0);
    commit(bed, NULL);
    g_assert_null(bed->error);
    bed_free(bed);
}

static void test_orphan_on_a_held_card(
    void) { /* L25: what the old backup believes in is over, the next one has the card */
    struct bed *bed = bed_new();
    struct node_report *said = g_new0(struct node_report, 1);
    g_autoptr(GPtrArray) reports = g_ptr_array_new_with_free_func((GDestroyNotify)node_report_free);
    struct task_report gone = {.task_id = 50, .epoch = 90, .state = TASK_UNSET, .released = true};

    submit(bed, "mynode::2", 0);
    commit(bed, NULL);
    report(bed, bed->first_id, TASK_RUNNING, false);
    commit(bed, NULL);
    said->lease = make_lease(50, 90, "mynode", "GPU-mynode-2");
    said->report = (struct task_report){.task_id = 50, .epoch = 90, .state = TASK_RUNNING};
    g_ptr_array_add(reports, said);
    g_assert_true(controller_hello(bed->c, make_node("mynode", 4), reports, 0, bed->now, NULL));
    expect_refusal(bed, "mynode::2", 0, KR_ERROR_REFUSED, "held by task 1");
    controller_tick(bed->c, bed->now);
    commit(bed, NULL); /* task 1 has vanished */
    controller_tick(bed->c, bed->now);
    expect_refusal(bed, "mynode::2", 0, KR_ERROR_REFUSED, "held by orphaned task 50");
    controller_report(bed->c, "mynode", &gone, bed->now);
    controller_tick(bed->c, bed->now);
    g_assert_null(ledger_holder(controller_ledger(bed->c), "GPU-mynode-2"));
    bed_free(bed);
}

static void test_bare_word(void) { /* R2, L66: a release without its proof is none */
    struct bed *bed = bed_new();
    struct task_report said = {.state = TASK_COMPLETED, .released = true, .proof = {.facts = PROOF_CONTAINER_GONE}};
    uint32_t id;

    submit(bed, "mynode::0", 0);
    commit(bed, NULL);
    id = said.task_id = bed->first_id;
    said.epoch = controller_task(bed->c, id)->lease.epoch;
    controller_report(bed->c, "mynode", &said, bed->now);
    commit(bed, NULL);
    g_assert_true(controller_task(bed->c, id)->holds_lease);
    g_assert_nonnull(strstr(controller_task(bed->c, id)->holding, "no process is left"));
    expect_refusal(bed, "mynode::0", 0, KR_ERROR_REFUSED, "held by task");
    said.proof.facts |= PROOF_CARD;
    controller_report(bed->c, "mynode", &said, bed->now);
    commit(bed, NULL);
    g_assert_null(controller_task(bed->c, id));
    submit(bed, "mynode::0", 0);
    commit(bed, NULL);
    g_assert_null(bed->error);
    bed_free(bed);
}

static void on_killed(void *user, const struct task *task, const GError *error) {
    struct bed *bed = user;

    g_assert_true(task->kill_requested);
    bed->kills++;
    bed->error_code = error ? error->code : 0;
}

static void test_kill(void) {
    struct bed *bed = bed_new();
    uint32_t id;

    submit(bed, "mynode::0", 0);
    commit(bed, NULL);
    id = bed->first_id;
    g_assert_true(controller_kill(bed->c, id, bed->now, on_killed, bed, NULL));
    g_assert_true(controller_kill(bed->c, id, bed->now, on_killed, bed, NULL)); /* twice is once */
    g_assert_cmpint(bed->kills, ==, 0); /* nobody is told before it is durable */
    commit(bed, NULL);
    g_assert_cmpint(bed->kills, ==, 2);
    g_assert_cmpstr(last_type(bed), ==, "stop");
    g_assert_nonnull(ledger_holder(controller_ledger(bed->c), "GPU-mynode-0")); /* stopping holds (K12) */
    report(bed, id, TASK_RUNNING, false);                                       /* late: nothing goes back */
    g_assert_cmpint(controller_task(bed->c, id)->state, ==, TASK_STOPPING);
    report(bed, id, TASK_KILLED, true);
    commit(bed, NULL);
    g_assert_null(controller_task(bed->c, id));
    g_assert_false(controller_kill(bed->c, id, bed->now, on_killed, bed, NULL));
    bed_free(bed);
}

static void test_two_nodes_one_card(void) {
    struct bed *bed = bed_new();
    struct node_info *thief = make_node("thief", 1);
    g_autoptr(GPtrArray) none = g_ptr_array_new();
    g_autoptr(GError) error = NULL;

    g_strlcpy(((struct gpu *)thief->gpus->pdata[0])->uuid, "GPU-mynode-0", GPU_UUID_MAX_BYTES);
    g_assert_false(controller_hello(bed->c, thief, none, 0, bed->now, &error));
    g_assert_nonnull(strstr(error->message, "reported by node mynode already"));
    node_info_free(thief);
    bed_free(bed);
}

static struct node_report *make_report(uint32_t id, int64_t epoch, const char *node, const char *gpus,
                                       enum task_state state, bool released) {
    struct node_report *said = g_new0(struct node_report, 1);

    said->lease = make_lease(id, epoch, node, gpus);
    said->report = (struct task_report){.task_id = id,
                                        .epoch = epoch,
                                        .state = state,
                                        .released = released,
                                        .proof = {.facts = released ? PROOF_CONTAINER_GONE | PROOF_CARD : 0}};
    return said;
}

static void test_ack_before_start(
    void) { /* the ack of the last task on a card must not come behind the next one's start */
    struct bed *bed = bed_new();
    g_autoptr(GPtrArray) reports = g_ptr_array_new_with_free_func((GDestroyNotify)node_report_free);
    guint before;

    controller_disconnected(bed->c, "mynode", bed->now);
    submit(bed, "mynode::0", 0);
    commit(bed, NULL);
    before = bed->sent->len;
    g_ptr_array_add(reports, make_report(9, 9, "mynode", "GPU-mynode-0", TASK_COMPLETED, true));
    g_assert_true(controller_hello(bed->c, make_node("mynode", 4), reports, 0, bed->now, NULL));
    g_assert_cmpuint(bed->sent->len, ==, before + 2);
    g_assert_cmpstr(json_string_value(json_object_get(bed->sent->pdata[before], "type")), ==, "ack");
    g_assert_cmpstr(last_type(bed), ==, "start");
    bed_free(bed);
}

static void test_same_name_on_two_nodes(
    void) { /* a rebuilt host gives names anew: an older node's lease is another one */
    struct bed *bed = bed_new();
    g_autoptr(GPtrArray) reports = g_ptr_array_new_with_free_func((GDestroyNotify)node_report_free);
    struct task_report over = {.task_id = 1, .epoch = 1, .state = TASK_COMPLETED, .released = true};

    submit(bed, "mynode::0", 0);
    commit(bed, NULL);
    g_assert_cmpuint(bed->first_id, ==, 1);
    g_ptr_array_add(reports, make_report(1, 1, "node2", "GPU-node2-1", TASK_RUNNING, false));
    g_assert_true(controller_hello(bed->c, make_node("node2", 2), reports, 0, bed->now, NULL));
    expect_refusal(bed, "node2::1", 0, KR_ERROR_REFUSED, "held by orphaned task 1");
    controller_report(bed->c, "node2", &over, bed->now);
    g_assert_nonnull(
        ledger_holder(controller_ledger(bed->c), "GPU-mynode-0")); /* R2: another node's word frees nothing */
    g_assert_null(ledger_holder(controller_ledger(bed->c), "GPU-node2-1"));
    bed_free(bed);
}

static void test_epochs_of_a_node(void) { /* L25: a rebuilt host goes on above what the node's cards have seen */
    struct bed *bed = bed_new();
    g_autoptr(GPtrArray) none = g_ptr_array_new();
    g_autoptr(GPtrArray) damaged = g_ptr_array_new_with_free_func((GDestroyNotify)node_report_free);
    struct node_info *info = make_node("mynode", 4);
    g_autoptr(GError) error = NULL;

    g_assert_true(controller_hello(bed->c, make_node("mynode", 4), none, 5731, bed->now, NULL));
    submit(bed, "mynode::0", 0);
    commit(bed, NULL);
    g_assert_cmpint(controller_task(bed->c, bed->first_id)->lease.epoch, ==, 5732);
    g_ptr_array_add(damaged, make_report(4294967295, 1, "mynode", "GPU-mynode-1", TASK_RUNNING, false));
    g_assert_false(controller_hello(bed->c, info, damaged, 0, bed->now, &error));
    g_assert_nonnull(strstr(error->message, "its state is damaged"));
    node_info_free(info);
    bed_free(bed);
}

static void test_moved_card(void) { /* L47: a card out of a machine that is gone may serve elsewhere */
    struct bed *bed = bed_new();
    g_autoptr(GPtrArray) none = g_ptr_array_new();
    struct node_info *heir = make_node("heir", 1);
    g_autoptr(GError) error = NULL;

    g_strlcpy(((struct gpu *)heir->gpus->pdata[0])->uuid, "GPU-mynode-0", GPU_UUID_MAX_BYTES);
    submit(bed, "mynode::0", 0);
    commit(bed, NULL);
    controller_disconnected(bed->c, "mynode", bed->now);
    bed->now.mono_ms += 100000;
    g_assert_false(controller_hello(bed->c, heir, none, 0, bed->now, &error)); /* leased there: no */
    hello(bed, "mynode", 4);
    report(bed, bed->first_id, TASK_COMPLETED, true);
    commit(bed, NULL);
    controller_disconnected(bed->c, "mynode", bed->now);
    bed->now.mono_ms += 100000;
    g_assert_true(controller_hello(bed->c, heir, none, 0, bed->now, NULL));
    bed_free(bed);
}

static bool is_online(struct bed *bed, const char *name) {
    const struct cluster *cluster = controller_cluster(bed->c);

    return cluster_is_online(cluster, cluster_find(cluster, name), bed->now);
}

static void test_moved_card_and_a_late_heartbeat(void) { /* L47: the same connection, after a long silence */
    struct bed *bed = bed_new();
    g_autoptr(GPtrArray) none = g_ptr_array_new();
    struct node_info *heir = make_node("heir", 1);

    g_strlcpy(((struct gpu *)heir->gpus->pdata[0])->uuid, "GPU-mynode-0", GPU_UUID_MAX_BYTES);
    bed->now.mono_ms += 20000;
    controller_heartbeat(bed->c, make_node("mynode", 4), bed->now);
    bed->now.mono_ms += 20000;
    g_assert_true(is_online(bed, "mynode"));
    bed->now.mono_ms += 100000;
    g_assert_true(controller_hello(bed->c, heir, none, 0, bed->now, NULL));
    controller_heartbeat(bed->c, make_node("mynode", 4), bed->now);
    controller_heartbeat_same(bed->c, "mynode", bed->now);
    g_assert_false(is_online(bed, "mynode"));
    g_assert_true(is_online(bed, "heir"));
    bed_free(bed);
}

/* ---- health: one bad card is that card's, whoever is on it hears of it ---- */

static const struct record *newest_record(const struct bed *bed) { return g_queue_peek_tail((GQueue *)&bed->records); }

static void on_marked(void *user, const struct task *task, const GError *error) {
    (void)user;
    (void)task;
    g_assert_null(error);
}

static void test_sick_card(void) { /* L57, L58, L60 */
    struct bed *bed = bed_new();
    struct node_info *sick = make_node("mynode", 4);
    struct order order = {.who = "op", .reason = ""};
    const struct task_event *event;

    submit(bed, "mynode::0", 0);
    commit(bed, NULL);
    report(bed, bed->first_id, TASK_RUNNING, false);
    commit(bed, NULL);
    gpu_note_xid(sick->gpus->pdata[0], 95, 1, bed->now.wall_ms);
    gpu_note_xid(sick->gpus->pdata[1], 48, 1, bed->now.wall_ms);
    controller_heartbeat(bed->c, sick, bed->now);
    event = newest_record(bed)->events->pdata[0]; /* whose task runs on it is told at once, and the task runs on */
    g_assert_nonnull(strstr(event->text, "health of GPU 0 (GPU-mynode-0): quarantine: XID 95"));
    g_assert_cmpint(controller_task(bed->c, bed->first_id)->state, ==, TASK_RUNNING);
    commit(bed, NULL);
    controller_tick(bed->c, bed->now);
    g_assert_true(g_queue_is_empty(&bed->records)); /* once */
    expect_refusal(bed, "mynode::1", 0, KR_ERROR_REFUSED, "XID 48");
    expect_refusal(bed, "mynode::1", 0, KR_ERROR_REFUSED, "free GPUs on mynode: 2, 3");
    g_assert_true(controller_mark_gpu(bed->c, "mynode", 1, MARK_UNCORDON, &order, bed->now, on_marked, NULL, NULL));
    commit(bed, NULL);
    submit(bed, "mynode::1,2,3", 0);
    commit(bed, NULL);
    g_assert_cmpstr(bed->error, ==, NULL);
    bed_free(bed);
}

/* A cordoned card without a driver, whose driver is loaded then: it has another name, and is cordoned still. */
static void test_mark_follows_card(void) {
    static const char place[] = "PCI-10de-2684-1a2b3c4d-0000:00:00.0";
    struct bed *bed = bed_new();
    const struct order order = {.who = "op", .reason = "smells burnt"};
    struct node_info *info = make_node("mynode", 4);
    const struct record *record;

    g_strlcpy(((struct gpu *)info->gpus->pdata[0])->uuid, place, GPU_UUID_MAX_BYTES);
    controller_heartbeat(bed->c, info, bed->now);
    g_assert_true(controller_mark_gpu(bed->c, "mynode", 0, MARK_CORDON, &order, bed->now, on_marked, NULL, NULL));
    commit(bed, NULL);
    controller_heartbeat(bed->c, make_node("mynode", 4), bed->now); /* "GPU-mynode-0" now */
    expect_refusal(bed, "mynode::0", 0, KR_ERROR_REFUSED, "smells burnt");
    record = newest_record(bed);
    g_assert_cmpstr(record->mark->subject, ==, "gpu:GPU-mynode-0");
    g_assert_cmpstr(record->mark->reason, ==, "smells burnt");
    g_assert_cmpstr(record->unmark, ==, "gpu:PCI-10de-2684-1a2b3c4d-0000:00:00.0");
    commit(bed, NULL);
    controller_heartbeat(bed->c, make_node("mynode", 4), bed->now);
    g_assert_true(g_queue_is_empty(&bed->records)); /* once */
    expect_refusal(bed, "mynode::0", 0, KR_ERROR_REFUSED, "smells burnt");
    g_assert_true(controller_mark_gpu(bed->c, "mynode", 0, MARK_UNCORDON, &order, bed->now, on_marked, NULL, NULL));
    commit(bed, NULL);
    submit(bed, "mynode::0", 0);
    commit(bed, NULL);
    g_assert_cmpstr(bed->error, ==, NULL);
    bed_free(bed);
}

static void test_black_hole(void) { /* L59 */
    static const char *const owners[] = {"alice@a", "bob@b", "alice@a"};
    struct bed *bed = bed_new();

    for (size_t i = 0; i < G_N_ELEMENTS(owners); i++) {
        const char *argv[] = {"job", NULL};
        struct task_spec spec = {.argv = (char **)(uintptr_t)argv, .owner = (char *)(uintptr_t)owners[i]};
        char *targets[] = {(char *)"node2::1", NULL};
        struct submission submission = {.targets = targets, .spec = &spec};
        struct task_report said = {.state = TASK_FAILED,
                                   .has_exit_code = true,
                                   .exit_code = 1,
                                   .released = true,
                                   .proof = {.facts = PROOF_CONTAINER_GONE | PROOF_CARD}};

        controller_submit(bed->c, &submission, bed->now, on_submitted, bed);
        commit(bed, NULL);
        g_assert_null(bed->error);
        said.task_id = bed->first_id;
        said.epoch = controller_task(bed->c, bed->first_id)->lease.epoch;
        controller_report(bed->c, "node2", &said, bed->now);
        commit(bed, NULL);
    }
    expect_refusal(bed, "node2::1", 0, KR_ERROR_REFUSED, "the last 3 tasks on it failed, and not all of one owner");
    bed->now.wall_ms += 31 * 60000;
    submit(bed, "node2::1", 0);
    commit(bed, NULL);
    g_assert_null(bed->error);
    bed_free(bed);
}

static void test_events(
    void) { /* each state once, in the transaction that records it; what a full disk ate comes again */
    struct bed *bed = bed_new();
    const struct record *record;

    submit(bed, "mynode::0", 0);
    record = newest_record(bed);
    g_assert_cmpstr(((struct task_event *)record->events->pdata[0])->text, ==, "pending");
    commit(bed, NULL);
    report(bed, bed->first_id, TASK_RUNNING, false);
    commit(bed, "disk is full");
    controller_tick(bed->c, bed->now);
    record = newest_record(bed);
    g_assert_cmpuint(record->events->len, ==, 1);
    g_assert_cmpstr(((struct task_event *)record->events->pdata[0])->text, ==, "running");
    commit(bed, NULL);
    report(bed, bed->first_id, TASK_RUNNING, false);
    g_assert_true(g_queue_is_empty(&bed->records));
    bed_free(bed);
}

static void test_numa_and_whole_cores(void) {
    struct bed *bed = bed_new();

    submit(bed, "mynode", 8);
    commit(bed, NULL);
    expect_refusal(bed, "mynode:0", 1, KR_ERROR_REFUSED, "1 cores are asked for, 0 of the 8 of mynode are free");
    bed_free(bed);
}

static void test_auto_placement(void) {
    struct bed *bed = bed_new();

    submit(bed, "mynode", 4);
    commit(bed, NULL);
    submit(bed, "", 2);
    commit(bed, NULL);
    g_assert_cmpstr(controller_task(bed->c, bed->first_id)->lease.node, ==, "node2");
    bed_free(bed);
}

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ledger/R1-one-holder", test_ledger_one_holder);
    g_test_add_func("/ledger/R1-R6-property", test_ledger_property);
    g_test_add_func("/controller/R5-decide-record-act", test_decide_record_act);
    g_test_add_func("/controller/storage-failure", test_storage_failure);
    g_test_add_func("/controller/L16-L17-all-or-nothing", test_all_or_nothing);
    g_test_add_func("/controller/R8-L78-refusals-explain", test_refusals_explain);
    g_test_add_func("/controller/R3-K4-no-inventory", test_no_inventory);
    g_test_add_func("/controller/R2-L20-L62-free-only-on-evidence", test_free_only_on_evidence);
    g_test_add_func("/controller/release-not-recorded", test_release_not_recorded);
    g_test_add_func("/controller/R3-L27-L28-K2-silence-holds", test_silence_holds);
    g_test_add_func("/controller/vanished", test_vanished);
    g_test_add_func("/controller/R2-L66-a-bare-word-releases-nothing", test_bare_word);
    g_test_add_func("/controller/L25-orphan", test_orphan);
    g_test_add_func("/controller/L25-orphan-on-a-held-card", test_orphan_on_a_held_card);
    g_test_add_func("/controller/K12-kill", test_kill);
    g_test_add_func("/controller/R4-two-nodes-one-card", test_two_nodes_one_card);
    g_test_add_func("/controller/ack-before-start", test_ack_before_start);
    g_test_add_func("/controller/R2-same-name-on-two-nodes", test_same_name_on_two_nodes);
    g_test_add_func("/controller/L25-epochs-of-a-node", test_epochs_of_a_node);
    g_test_add_func("/controller/L47-moved-card", test_moved_card);
    g_test_add_func("/controller/L47-late-heartbeat", test_moved_card_and_a_late_heartbeat);
    g_test_add_func("/controller/numa-and-whole-cores", test_numa_and_whole_cores);
    g_test_add_func("/controller/auto-placement", test_auto_placement);
    g_test_add_func("/controller/L57-L58-L60-sick-card", test_sick_card);
    g_test_add_func("/controller/R4-mark-follows-card", test_mark_follows_card);
    g_test_add_func("/controller/L59-black-hole", test_black_hole);
    g_test_add_func("/controller/events", test_events);
    return g_test_run();
}
