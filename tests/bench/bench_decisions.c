/* How many submissions the core can decide: target text parsed, indices resolved, granted or refused with a reason,
 * and released again, on 200 nodes of 8 GPUs of which about half are held. One JSON object on stdout. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "core/placement.h"
#include "model/target.h"

enum { N_NODES = 200, N_GPUS = 8, N_TARGETS = 4096, SPAN_MS = 2000, BATCH = 256 };

struct bench {
    struct cluster *cluster;
    struct ledger *ledger;
    struct core_time now;
    char *targets[N_TARGETS];
    GQueue held; /* of struct lease, oldest first */
    uint32_t last_task_id;
    guint n_held_gpus;
    long grants, refusals;
};

static struct node_info *make_node(int n) {
    g_autofree char *name = g_strdup_printf("node%03d", n);
    struct node_info *info = node_info_new(name);

    info->boot_id = g_strdup("b");
    info->version = g_strdup("0");
    info->cores = 64;
    info->mem_total_bytes = INT64_C(1) << 40;
    info->gpus_known = info->engine_ok = info->disk_ok = true;
    for (int i = 0; i < N_GPUS; i++) {
        struct gpu *gpu = gpu_new();
        gpu->index = i;
        gpu->condition = GPU_CONDITION_OK;
        g_snprintf(gpu->uuid, sizeof gpu->uuid, "GPU-%08d-0000-0000-0000-%012d", n, i);
        g_snprintf(gpu->pci, sizeof gpu->pci, "0000:%02x:00.0", i + 1);
        g_strlcpy(gpu->name, "NVIDIA H100 80GB HBM3", sizeof gpu->name);
        g_ptr_array_add(info->gpus, gpu);
    }
    return info;
}

/* One or two GPUs, as people ask for them. */
static char *make_target(GRand *rand) {
    int node = g_rand_int_range(rand, 0, N_NODES), first = g_rand_int_range(rand, 0, N_GPUS);

    if (g_rand_boolean(rand))
        return g_strdup_printf("node%03d::%d", node, first);
    return g_strdup_printf("node%03d::%d,%d", node, first, (first + 1) % N_GPUS);
}

static void bench_init(struct bench *bench) {
    GRand *rand = g_rand_new_with_seed(7);

    bench->now = (struct core_time){clock_wall_ms(), clock_mono_ms()};
    bench->cluster = cluster_new(INT64_C(1) << 40);
    bench->ledger = ledger_new();
    for (int n = 0; n < N_NODES; n++) {
        struct cluster_node *node = cluster_put(bench->cluster, make_node(n));
        node->is_connected = true;
        cluster_heard(node, bench->now);
    }
    for (int i = 0; i < N_TARGETS; i++)
        bench->targets[i] = make_target(rand);
    g_rand_free(rand);
}

static void release_oldest(struct bench *bench) {
    g_autofree struct lease *lease = g_queue_pop_head(&bench->held);

    g_assert_true(ledger_release(bench->ledger, lease->task_id, lease->epoch));
    bench->n_held_gpus -= (guint)lease->n_gpus;
}

static void decide(struct bench *bench, const char *text, const struct task_spec *spec) {
    struct placement placement = {bench->cluster, bench->ledger, bench->now, G_MAXINT64};
    g_autoptr(GPtrArray) notes = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;
    struct target target;
    struct lease lease = {0};

    if (!target_from_str(text, strlen(text), &target, &error) ||
        !placement_resolve(&placement, &target, spec, &lease, notes, &error)) {
        bench->refusals++;
        return;
    }
    lease.task_id = ++bench->last_task_id;
    lease.epoch = ledger_next_epoch(bench->ledger);
    lease.granted_ms = bench->now.wall_ms;
    g_assert_true(ledger_grant(bench->ledger, &lease, "train.py", false));
    g_queue_push_tail(&bench->held, lease_copy(&lease));
    bench->n_held_gpus += (guint)lease.n_gpus;
    bench->grants++;
    while (bench->n_held_gpus > N_NODES * N_GPUS / 2)
        release_oldest(bench);
}

int main(void) {
    char *argv[] = {(char *)"true", NULL}, *none[] = {NULL};
    struct task_spec spec = {.argv = argv, .env = none, .mounts = none};
    struct bench bench = {0};
    int64_t begin, end;
    double seconds;

    bench_init(&bench);
    begin = clock_mono_ms();
    do {
        for (int i = 0; i < BATCH; i++)
            decide(&bench, bench.targets[(bench.grants + bench.refusals) % N_TARGETS], &spec);
        end = clock_mono_ms();
    } while (end - begin < SPAN_MS);
    ledger_check(bench.ledger);
    seconds = (double)(end - begin) / 1000;
    printf(
        "{\"nodes\": %d, \"gpus_per_node\": %d, \"decisions_per_second\": %.0f, \"granted\": %ld, \"refused\": %ld}\n",
        N_NODES, N_GPUS, (double)(bench.grants + bench.refusals) / seconds, bench.grants, bench.refusals);
    while (bench.held.length > 0)
        release_oldest(&bench);
    for (int i = 0; i < N_TARGETS; i++)
        g_free(bench.targets[i]);
    ledger_free(bench.ledger);
    cluster_free(bench.cluster);
    return 0;
}
