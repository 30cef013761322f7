/* What the parts of the attack program share. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* NAME=VALUE of the command line; "" where it is not. */
const char *value(const char *name);
/* Both say how the attack went, and end its process. */
void got(const char *format, ...);
void refused(const char *what);
/* Whether the witness on the host can be read. `base` is "" or a way to the host's root. */
int reads(int dir, const char *base);
pid_t decoy(void);
int help(const char *what, char **argv);

/* kernel.c */
void module(void);
void keyring(void);
void proc_keys(void);
void bpf_map(void);
void perf(void);
void userfault(void);
void io_uring(void);
void old_entrance(void);
void user_namespace(void);
void mount_namespace(void);
void clone_namespace(void);
void clone3_namespace(void);
void enter_namespace(void);
void core_pattern(void);
void sysctl(void);
void sysrq(void);
void sysfs(void);
void release_agent(void);
void packets(void);
void raw_ip(void);
void hypervisor(void);
void by_handle(void);
void setuid_file(void);
void unix_socket(void);
void input_of_terminal(void);
void other_trees(void);
