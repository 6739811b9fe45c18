/* Holds a device through VFIO as a machine would: hold GROUP ADDRESS [wait]. Makes /run/held when it has it, and stays. With `wait` it
 * tries until the group is nobody's. */
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

static int hold(const char *group_number, const char *address) {
    char path[64];
    int group, container = open("/dev/vfio/vfio", O_RDWR);

    snprintf(path, sizeof path, "/dev/vfio/%.16s", group_number);
    group = open(path, O_RDWR);
    if (container >= 0 && group >= 0 && ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) == 0 &&
        ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) == 0 &&
        ioctl(group, VFIO_GROUP_GET_DEVICE_FD, address) >= 0)
        return 1;
    close(group);
    close(container);
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 3)
        return 2;
    while (!hold(argv[1], argv[2])) {
        if (argc < 4) {
            perror("hold");
            return 1;
        }
        usleep(1000);
    }
    close(open("/run/held", O_CREAT | O_WRONLY, 0644));
    for (;;)
        pause();
}
