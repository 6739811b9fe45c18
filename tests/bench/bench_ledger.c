/* Ledger decisions per second: 200 nodes x 8 GPUs, every decision a placement and a grant or a reasoned refusal, every
 * second grant followed by a release. One JSON line on stdout. */

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "core/placement.h"

enum { N_NODES = 200, N_GPUS = 8, DURATION_MS = 3000 };

static struct node_info *make_node(int n) {
    g_autofree char *name = g_strdup_printf("node%d", n);
    struct node_info *info = node_info_new(name);

    info->cores = 64;
    info->mem_total_bytes = 1LL << 40;
    info->gpus_known = info->engine_ok = true;
    for (int i = 0; i < N_GPUS; i++) {
        struct gpu *gpu = gpu_new();
        gpu->index = i;
        gpu->condition = GPU_CONDITION_OK;
        g_snprintf(gpu->uuid, sizeof gpu->uuid, "GPU-%03d-%d", n, i);
        g_snprintf(gpu->pci, sizeof gpu->pci, "0000:%02x:00.0", i);
        g_ptr_array_add(info->gpus, gpu);
    }
    return info;
}

int main(void) {
    const struct core_time now = {.wall_ms = 1700000000000, .mono_ms = 1000};
    const char *argv[] = {"train", NULL};
    struct task_spec spec = {.argv = (char **)(uintptr_t)argv, .cores = 1};
    const struct proof at_rest = {.facts = PROOF_CARD, .samples = 2};
    struct pool pool;
    static struct lease held[N_NODES * N_GPUS];
    unsigned decisions = 0, refused = 0, n_held = 0;
    g_autoptr(GRand) random = g_rand_new_with_seed(1);
    int64_t begin_ms;

    pool_init(&pool, 30000);
    for (int i = 0; i < N_NODES; i++) {
        struct node_info *info = make_node(i);
        for (guint k = 0; k < info->gpus->len; k++)
            pool_set_proof(&pool, ((struct gpu *)info->gpus->pdata[k])->uuid, &at_rest);
        cluster_heard(cluster_put(pool.cluster, info), now);
    }
    begin_ms = clock_mono_ms();
    while (decisions % 1024 != 0 || clock_mono_ms() - begin_ms < DURATION_MS) {
        struct placement p = {.pool = &pool, .now = now, .batch_epoch = ledger_last_epoch(pool.ledger)};
        g_autoptr(GPtrArray) notes = g_ptr_array_new_with_free_func(g_free);
        g_autoptr(GError) why = NULL;
        struct target target;
        struct lease lease;
        char text[64];

        g_snprintf(text, sizeof text, "node%d::%d", g_rand_int_range(random, 0, N_NODES),
                   g_rand_int_range(random, 0, N_GPUS));
        decisions++;
        if (!target_from_str(text, strlen(text), &target, &why) ||
            !placement_resolve(&p, &target, &spec, &lease, notes, &why)) {
            refused++;
        } else {
            lease.task_id = decisions;
            lease.epoch = ledger_next_epoch(pool.ledger);
            ledger_grant(pool.ledger, &lease, "train", false);
            held[n_held++] = lease;
        }
        if (n_held > N_NODES * N_GPUS / 2) {
            unsigned i = (unsigned)g_rand_int_range(random, 0, (int)n_held);
            ledger_release(pool.ledger, held[i].node, held[i].task_id, held[i].epoch);
            for (size_t k = 0; k < held[i].n_gpus; k++)
                pool_set_proof(&pool, held[i].gpus[k].uuid, &at_rest);
            held[i] = held[--n_held];
        }
    }
    printf("{\"name\":\"ledger_decisions_per_s\",\"value\":%.0f,\"refused_share\":%.2f,\"goal\":100000}\n",
           decisions * 1000.0 / (double)(clock_mono_ms() - begin_ms), (double)refused / decisions);
    ledger_check(pool.ledger);
    pool_clear(&pool);
    return 0;
}
