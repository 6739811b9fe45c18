#pragma once
/* The functions of the rows in checks.c, one file per group. Each says at least one sentence. */

struct doctor_case;

/* check_driver.c */
void check_gpu_driver(struct doctor_case *c);
void check_gpu_foreign_driver(struct doctor_case *c);
void check_gpu_not_initialised(struct doctor_case *c);
void check_driver_library(struct doctor_case *c);
void check_driver_auto_upgrade(struct doctor_case *c);
void check_driver_upgrade_pending(struct doctor_case *c);
void check_persistence(struct doctor_case *c);
void check_uvm_node(struct doctor_case *c);
void check_device_nodes(struct doctor_case *c);
void check_fabric_manager(struct doctor_case *c);

/* check_docker.c */
void check_dev_char_links(struct doctor_case *c);
void check_daemon_reload(struct doctor_case *c);
void check_docker_config(struct doctor_case *c);
void check_live_restore(struct doctor_case *c);
void check_default_runtime(struct doctor_case *c);
void check_toolkit_version(struct doctor_case *c);
void check_toolkit_no_cgroups(struct doctor_case *c);

/* check_cdi.c */
void check_cdi_driver(struct doctor_case *c);
void check_cdi_devices(struct doctor_case *c);
void check_cdi_conflict(struct doctor_case *c);
void check_cdi_missing(struct doctor_case *c);

/* check_users.c */
void check_gpu_holders(struct doctor_case *c);
void check_gpu_holder_stuck(struct doctor_case *c);
void check_gpu_monitors(struct doctor_case *c);
void check_drm_clients(struct doctor_case *c);

/* check_vfio.c */
void check_iommu(struct doctor_case *c);
void check_iommu_group_foreign(struct doctor_case *c);
void check_iommu_group_shared(struct doctor_case *c);
void check_vfio_group_incomplete(struct doctor_case *c);
void check_boot_vga(struct doctor_case *c);
void check_drm_modeset(struct doctor_case *c);
void check_gpu_reset(struct doctor_case *c);
void check_kvm_node(struct doctor_case *c);

/* check_node.c */
void check_memlock(struct doctor_case *c);
void check_time_sync(struct doctor_case *c);
void check_state_disk(struct doctor_case *c);
void check_docker_disk(struct doctor_case *c);
void check_token_mode(struct doctor_case *c);
void check_state_mode(struct doctor_case *c);
