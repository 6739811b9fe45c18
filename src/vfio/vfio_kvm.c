#include "vfio/vfio_kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"

enum { PAGE_BYTES = 4096, DEADLINE_S = 2, SLOW_US = 20000 };

/* mov $0xffff, %cx; 1: loop 1b; hlt: a tenth of a millisecond on a CPU, a second where each instruction is emulated. */
static const unsigned char guest[] = {0xb9, 0xff, 0xff, 0xe2, 0xfe, 0xf4};

struct vm {
    int kvm, vm, cpu;
    void *memory;
    struct kvm_run *run;
    int run_bytes;
};

static void on_alarm(int signal_number) { (void)signal_number; }

/* What failed, or NULL. */
static const char *make_machine(struct vm *m) {
    struct kvm_userspace_memory_region region = {.memory_size = PAGE_BYTES};

    if (ioctl(m->kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
        return "its version";
    if ((m->vm = ioctl(m->kvm, KVM_CREATE_VM, 0)) < 0)
        return "making a machine";
    m->memory = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (m->memory == MAP_FAILED)
        return "memory";
    memcpy(m->memory, guest, sizeof guest);
    region.userspace_addr = (__u64)(uintptr_t)m->memory;
    return ioctl(m->vm, KVM_SET_USER_MEMORY_REGION, &region) < 0 ? "giving it memory" : NULL;
}

static const char *make_cpu(struct vm *m) {
    struct kvm_regs regs = {.rflags = 2};
    struct kvm_sregs sregs;

    if ((m->cpu = ioctl(m->vm, KVM_CREATE_VCPU, 0)) < 0)
        return "making a CPU";
    m->run_bytes = ioctl(m->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    m->run = m->run_bytes < (int)sizeof *m->run
                 ? MAP_FAILED
                 : mmap(NULL, (size_t)m->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, m->cpu, 0);
    if (m->run == MAP_FAILED)
        return "mapping the CPU";
    if (ioctl(m->cpu, KVM_GET_SREGS, &sregs) < 0)
        return "reading its registers";
    sregs.cs.base = sregs.cs.selector = 0;
    if (ioctl(m->cpu, KVM_SET_SREGS, &sregs) < 0 || ioctl(m->cpu, KVM_SET_REGS, &regs) < 0)
        return "setting its registers";
    return NULL;
}

static int64_t cpu_us(void) {
    struct timespec t = {0};

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static enum vfio_kvm run_guest(const struct vm *m, char **ret_text) {
    struct sigaction action = {.sa_handler = on_alarm}; /* without SA_RESTART: it ends KVM_RUN */
    int64_t begin = cpu_us(), took;
    int status;

    sigaction(SIGALRM, &action, NULL);
    alarm(DEADLINE_S);
    status = ioctl(m->cpu, KVM_RUN, 0);
    alarm(0);
    took = cpu_us() - begin;
    if (status < 0 || m->run->exit_reason != KVM_EXIT_HLT) {
        *ret_text = status < 0 ? g_strdup_printf("a guest does not run: %s", g_strerror(errno))
                               : g_strdup_printf("a guest ended with reason %u", m->run->exit_reason);
        return VFIO_KVM_FAILS;
    }
    *ret_text = g_strdup_printf("a guest ran for %d us", (int)took);
    return took > SLOW_US ? VFIO_KVM_SLOW : VFIO_KVM_WORKS;
}

static void clear(struct vm *m) {
    if (m->run != MAP_FAILED)
        munmap(m->run, (size_t)m->run_bytes);
    if (m->memory != MAP_FAILED)
        munmap(m->memory, PAGE_BYTES);
    fd_cleanup(&m->cpu);
    fd_cleanup(&m->vm);
    fd_cleanup(&m->kvm);
}

enum vfio_kvm vfio_kvm_try(const char *root, char **ret_text) {
    g_autofree char *path = g_build_filename(root, "dev/kvm", NULL);
    struct vm m = {.kvm = open(path, O_RDWR | O_CLOEXEC), .vm = -1, .cpu = -1, .memory = MAP_FAILED, .run = MAP_FAILED};
    enum vfio_kvm result = VFIO_KVM_FAILS;
    const char *failed;

    if (m.kvm < 0) {
        *ret_text = g_strdup_printf("/dev/kvm: %s", g_strerror(errno));
        return errno == ENOENT ? VFIO_KVM_ABSENT : VFIO_KVM_FAILS;
    }
    failed = make_machine(&m);
    if (!failed)
        failed = make_cpu(&m);
    if (failed)
        *ret_text = g_strdup_printf("/dev/kvm is there, but %s fails: %s", failed, g_strerror(errno));
    else
        result = run_guest(&m, ret_text);
    clear(&m);
    return result;
}
