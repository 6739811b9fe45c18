/* Holds a device through VFIO as a machine would: hold GROUP ADDRESS. Makes /run/held when it has it, and stays. */
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

int main(int argc, char **argv) {
    char path[64];
    int group, container = open("/dev/vfio/vfio", O_RDWR);

    if (argc != 3)
        return 2;
    snprintf(path, sizeof path, "/dev/vfio/%.16s", argv[1]);
    group = open(path, O_RDWR);
    if (container < 0 || group < 0 || ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) < 0 ||
        ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) < 0 ||
        ioctl(group, VFIO_GROUP_GET_DEVICE_FD, argv[2]) < 0) {
        perror("hold");
        return 1;
    }
    close(open("/run/held", O_CREAT | O_WRONLY, 0644));
    for (;;)
        pause();
}
