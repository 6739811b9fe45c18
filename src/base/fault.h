#pragma once
/* Named crash points. In a build with -Dfault_points=true, KOHAKURIVER_FAULT="name[:N]" makes the process kill itself
 * (SIGKILL, as a power cut would) when it reaches the named point for the Nth time. In other builds this is nothing. */

#include <stdbool.h>

/* Mutants: a rule that is switched off by name, so that the simulator can show that it would notice. Never in a release. */

#ifdef KR_FAULT_POINTS
void fault_point(const char *name);
bool fault_mutant(const char *name);
void fault_set_mutant(const char *name); /* static string; NULL: none */
#else
#define fault_point(name) ((void)0)
#define fault_mutant(name) false
#define fault_set_mutant(name) ((void)(name))
#endif
