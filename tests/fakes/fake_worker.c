/* The GPU worker as a program of its own, so that the monitor's tests need not carry the whole binary. */

#include "gpu/gpu_monitor.h"

int main(int argc, char **argv) { return gpu_worker_main(argc, argv); }
