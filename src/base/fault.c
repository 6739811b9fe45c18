#include "base/fault.h"

#ifdef KR_FAULT_POINTS
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void fault_point(const char *name) {
    static int hits; /* test builds only; the points that are armed are reached from one thread */
    const char *armed = getenv("KOHAKURIVER_FAULT");
    size_t len = strlen(name);

    if (!armed || strncmp(armed, name, len) != 0 || (armed[len] != '\0' && armed[len] != ':'))
        return;
    if (++hits >= (armed[len] == ':' ? (int)strtol(armed + len + 1, NULL, 10) : 1))
        kill(getpid(), SIGKILL);
}

static const char *mutant;

void fault_set_mutant(const char *name) { mutant = name; }
bool fault_mutant(const char *name) { return mutant && strcmp(mutant, name) == 0; }
#else
/* An empty translation unit is not ISO C. */
extern int fault_points_are_not_compiled;
#endif
