#pragma once
/* Named crash points. In a build with -Dfault_points=true, KOHAKURIVER_FAULT="name[:N]" makes the process kill itself
 * (SIGKILL, as a power cut would) when it reaches the named point for the Nth time. In other builds this is nothing. */

#ifdef KR_FAULT_POINTS
void fault_point(const char *name);
#else
#define fault_point(name) ((void)0)
#endif
