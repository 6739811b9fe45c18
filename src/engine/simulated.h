#pragma once
/* A container engine without containers: an ordinary backend of engine.h for tests, simulation and trying things out.
 * Its "containers" live in a world that outlives the engines that look at it, as dockerd outlives a runner. What a
 * container does is written in its command, one word each, anything else is ignored:
 *   run=MS      runs so long (default 0)          exit=CODE    ends so (default 0)
 *   out=TEXT    prints TEXT and a newline         err=TEXT     the same on stderr
 *   oom         is killed by the kernel at the end (exit 137)
 *   stubborn    ignores SIGTERM                   startfail=TEXT  its start fails with TEXT
 *   undying     ignores SIGKILL too, and cannot be removed while it runs
 * Memory and time are those of the process and its loop; nothing is durable. */

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/engine.h"

struct sim_world;

struct sim_world *sim_world_new(uv_loop_t *loop);
/* All engines on it must be freed before. The loop must run once more. */
void sim_world_free(struct sim_world *world);
void sim_world_add_image(struct sim_world *world, const char *image);
/* An image that is not there, but can be pulled. */
void sim_world_add_registry_image(struct sim_world *world, const char *image);

/* New engine on this world. */
struct engine *engine_simulated_new(struct sim_world *world);

/* Away: calls under way and new ones fail as unreachable; containers run on. */
void sim_world_set_down(struct sim_world *world, bool is_down);
/* The next `count` calls of the operation ("create", "start", "wait", "inspect", "logs", "signal", "remove", "list", "pull") fail
 * as away. `after` also does the operation's work, as a connection does that breaks before its answer. */
void sim_world_break(struct sim_world *world, const char *operation, int count, bool after);
/* The next `count` calls of the operation are answered with this error and do nothing. */
void sim_world_refuse(struct sim_world *world, const char *operation, int count, enum kr_error code);
/* Output comes one entry at a time, so many milliseconds apart; 0: at once. */
void sim_world_slow_output(struct sim_world *world, int pause_ms);
/* As long as it is set, calls of the operation do nothing and get no answer. */
void sim_world_hang(struct sim_world *world, const char *operation, bool is_hanging);

/* What is there; `name` as given at creation. */
int sim_world_count(const struct sim_world *world);
bool sim_world_has(const struct sim_world *world, const char *name);
bool sim_world_is_running(const struct sim_world *world, const char *name);
int sim_world_starts(const struct sim_world *world); /* of all containers, ever */
pid_t sim_world_pid(const struct sim_world *world, const char *name);
/* The last configuration asked for: "cpus=0-3 gpus=GPU-a,GPU-c env=…", for tests. Borrowed. */
const char *sim_world_last_config(const struct sim_world *world);
/* Removed by somebody else. */
void sim_world_remove(struct sim_world *world, const char *name);
/* Prints a line while it runs. */
void sim_world_print(struct sim_world *world, const char *name, enum engine_stream stream, const char *text);

/* ---- for a simulator, which is told what happens and says what befalls ---- */

enum sim_event { SIM_STARTED = 1, SIM_ENDED, SIM_REMOVED };
/* Borrowed for the call. */
struct sim_sight {
    const char *name;
    GHashTable *labels;
    pid_t pid;     /* also of one that has just ended */
    int exit_code; /* once it has ended */
    bool has_run;
};
/* One watcher; it must not call the world or its engines. */
void sim_world_watch(struct sim_world *world,
                     void (*on_event)(void *user, enum sim_event event, const struct sim_sight *sight), void *user);
/* The engine's client is dead: none of its calls is answered any more, and whoever owns it only frees it. What it had asked for
 * is still done after so many milliseconds as `delay_ms` says, as an engine does with what has reached it; -1: it had not. */
void sim_engine_orphan(struct engine *engine, int (*delay_ms)(void *user), void *user);
/* The machine goes down and comes up: what ran has ended with 255, what was asked for and not done is forgotten. */
void sim_world_reboot(struct sim_world *world);
