#pragma once
/* The hidden verb `vfio-step`: what the switcher has done in child processes, because it may hang in the kernel.
 *
 *   vfio-step write PATH VALUE          one write(2) to a file of sysfs; the exit status is its errno, 0 for success
 *   vfio-step preflight ROOT NAMED…     may these cards go to one machine? A JSON object on stdout: {"gpus": […]} in the form of
 *                                       the journal (vfio_hold.h), or {"refusal": why}. A word before ROOT: `strict`, a card
 *                                       that nvidia-persistenced holds is refused too; `hooked`, one that DCGM holds is not
 *   vfio-step config ROOT ADDRESS…      do these functions answer on the bus? {} or {"absence": why}
 *   vfio-step check ROOT ACCEL          the findings of `qemu check` as JSON (vfio_check.h) */

enum { VFIO_STEP_USAGE = 255 };

int vfio_step_main(int argc, char **argv);

/* The hidden verb `vfio-switch FOLDER bind OWNER ADDRESS… | give-back OWNER | recover` (vfio_verb.c). FOLDER is the runner's
 * STATE_DIR/vfio; the runner must not run meanwhile. KOHAKURIVER_STEP_DEADLINE_MS sets the deadline of a step. */
int vfio_switch_main(int argc, char **argv);
