/* Attacks on the kernel, and on what it shares among all processes. */
#include "attack.h"

void module(void)
{
	if (syscall(SYS_init_module, "", 0, "") < 0)
		refused("init_module");
	got("a module");
}

void keyring(void)
{
	const int USER_KEYRING = -4, SEARCH = 10, READ = 11;
	char text[64] = "";
	long key = syscall(SYS_keyctl, SEARCH, USER_KEYRING, "user", value("key"), 0);
	if (key < 0)
		refused("keyctl");
	if (syscall(SYS_keyctl, READ, key, text, sizeof text - 1) < 0)
		refused("keyctl read");
	got("the host's key: %s", text);
}

void proc_keys(void)
{
	static char text[65536];
	int fd = open("/proc/keys", O_RDONLY);
	if (fd < 0)
		refused("open /proc/keys");
	if (read(fd, text, sizeof text - 1) > 0 && strstr(text, value("key")))
		got("the names of the host's keys");
	errno = ENODATA;
	refused("read /proc/keys");
}

void bpf_map(void)
{
	union bpf_attr attr;
	memset(&attr, 0, sizeof attr);
	attr.map_type = BPF_MAP_TYPE_ARRAY;
	attr.key_size = 4;
	attr.value_size = 4;
	attr.max_entries = 1;
	if (syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof attr) < 0)
		refused("bpf");
	got("a map in the kernel");
}

void perf(void)
{
	struct perf_event_attr attr;
	memset(&attr, 0, sizeof attr);
	attr.type = PERF_TYPE_SOFTWARE;
	attr.size = sizeof attr;
	attr.config = PERF_COUNT_SW_CONTEXT_SWITCHES;
	if (syscall(SYS_perf_event_open, &attr, -1, 0, -1, 0) < 0)
		refused("perf_event_open");
	got("counts of every process");
}

void userfault(void)
{
	if (syscall(SYS_userfaultfd, 0) < 0)
		refused("userfaultfd");
	got("userfaultfd");
}

void io_uring(void)
{
	char parameters[120] = {0};
	if (syscall(SYS_io_uring_setup, 1, parameters) < 0)
		refused("io_uring_setup");
	got("a ring");
}

/* The kernel's 32-bit entrance, whose calls have other numbers. */
void old_entrance(void)
{
#ifdef __x86_64__
	int status;
	pid_t child = fork();
	if (child == 0) {
		long result;
		__asm__ volatile("int $0x80" : "=a"(result) : "0"(20L /* getpid */) : "memory", "r8", "r9", "r10", "r11");
		_exit(result == getpid() ? 0 : 1);
	}
	waitpid(child, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		got("calls that a filter of 64-bit ones does not see");
#endif
	errno = ENOSYS;
	refused("int 0x80");
}

void user_namespace(void)
{
	if (unshare(CLONE_NEWUSER) < 0)
		refused("unshare");
	got("a user namespace");
}

void mount_namespace(void)
{
	if (unshare(CLONE_NEWNS) < 0)
		refused("unshare");
	got("a mount namespace");
}

void clone_namespace(void)
{
	long child = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
	if (child == 0)
		_exit(0);
	if (child < 0)
		refused("clone");
	got("a user namespace by clone");
}

void clone3_namespace(void)
{
	uint64_t args[11] = {CLONE_NEWUSER, 0, 0, 0, SIGCHLD};
	long child = syscall(SYS_clone3, args, sizeof args);
	if (child == 0)
		_exit(0);
	if (child < 0)
		refused("clone3");
	got("a user namespace by clone3");
}

void enter_namespace(void)
{
	char path[64];
	const int pids[] = {1, decoy()};
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof path, "/proc/%d/ns/mnt", pids[i]);
		int fd = open(path, O_RDONLY);
		if (fd >= 0 && setns(fd, CLONE_NEWNS) == 0 && reads(AT_FDCWD, ""))
			got("the host's mount namespace");
	}
	refused("open and enter /proc/PID/ns/mnt");
}

static void writable(const char *path)
{
	int fd = open(path, O_WRONLY);
	if (fd < 0)
		refused(path);
	got("%s to write to", path);
}

void core_pattern(void)
{
	writable("/proc/sys/kernel/core_pattern");
}

void sysctl(void)
{
	writable("/proc/sys/vm/overcommit_memory");
}

void sysrq(void)
{
	writable("/proc/sysrq-trigger");
}

void sysfs(void)
{
	mkdir("/tmp/sys", 0755);
	if (access("/sys/kernel", F_OK) < 0 && mount("sysfs", "/tmp/sys", "sysfs", 0, "") < 0)
		refused("mount sysfs");
	if (access("/sys/kernel/profiling", W_OK) == 0)
		got("/sys to write to");
	writable("/tmp/sys/kernel/profiling");
}

/* A hierarchy of the decoy's own: the kernel starts what release_agent says, as root, on the host. */
void release_agent(void)
{
	mkdir("/tmp/cg", 0755);
	if (mount("none", "/tmp/cg", "cgroup", 0, "none,name=pocker-decoy") < 0)
		refused("mount a cgroup hierarchy");
	int fd = open("/tmp/cg/release_agent", O_WRONLY);
	if (fd < 0)
		refused("open release_agent");
	close(fd);
	umount("/tmp/cg");
	got("release_agent to write to");
}

void packets(void)
{
	if (socket(AF_PACKET, SOCK_RAW, htons(3)) < 0)
		refused("socket(AF_PACKET)");
	got("every packet of the host");
}

void raw_ip(void)
{
	if (socket(AF_INET, SOCK_RAW, 1) < 0)
		refused("socket(SOCK_RAW)");
	got("raw IP");
}

void hypervisor(void)
{
	if (socket(AF_VSOCK, SOCK_STREAM, 0) < 0)
		refused("socket(AF_VSOCK)");
	got("a socket to the hypervisor");
}

/* By a file's number alone, through any mount of the same file system: resolv.conf is one. */
void by_handle(void)
{
	struct {
		struct file_handle head;
		unsigned char bytes[128];
	} handle;
	const char *hex = value("handle");
	handle.head.handle_type = atoi(value("handle_type"));
	handle.head.handle_bytes = strlen(hex) / 2;
	for (unsigned i = 0; i < handle.head.handle_bytes; i++)
		sscanf(hex + 2 * i, "%2hhx", &handle.head.f_handle[i]);
	int mount_fd = open("/etc/resolv.conf", O_RDONLY);
	if (mount_fd < 0)
		refused("open /etc/resolv.conf");
	int fd = open_by_handle_at(mount_fd, &handle.head, O_RDONLY);
	if (fd < 0)
		refused("open_by_handle_at");
	got("a file of the host by its number");
}

void setuid_file(void)
{
	const char *files[] = {"/attack-suid", "/graft/attack-suid", 0};
	int root = getuid() == 0;
	for (const char **file = files; *file; file++) {
		int out[2];
		char said[8] = "";
		pipe(out);
		if (fork() == 0) {
			if (root && (setgroups(0, 0) || setresgid(33, 33, 33) || setresuid(33, 33, 33)))
				_exit(1);
			dup2(out[1], 1);
			execl(*file, *file, "--whoami", (char *)0);
			_exit(1);
		}
		close(out[1]);
		read(out[0], said, sizeof said - 1);
		close(out[0]);
		wait(0);
		if (said[0] == '0')
			got("root by %s", *file);
	}
	errno = EPERM;
	refused("both are like any program");
}

void unix_socket(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char through[64];
	const char *bases[] = {"", "/proc/1/root", through, 0};
	int why = 0;
	snprintf(through, sizeof through, "/proc/%d/root", decoy());
	for (const char **base = bases; *base; base++) {
		int fd = socket(AF_UNIX, SOCK_STREAM, 0);
		snprintf(address.sun_path, sizeof address.sun_path, "%s%s", *base, value("socket"));
		if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
			got("the server's socket");
		why = errno;
		close(fd);
	}
	errno = why;
	refused("connect");
}

void input_of_terminal(void)
{
	if (ioctl(0, 0x5412 /* TIOCSTI */, "x") < 0)
		refused("TIOCSTI");
	got("a key pressed on the host's terminal");
}

void other_trees(void)
{
	/* Whatever this process can see of mounts and disks: the other run's mark is in none. */
	char command[512];
	snprintf(command, sizeof command,
		 "for d in /* /dev/shm; do case $d in /proc|/sys|/dev) ;; *)"
		 " find $d -type f -exec grep -qs %s {} \\; -exec echo {} \\; ;; esac; done | grep -q .",
		 value("other"));
	if (system(command) == 0)
		got("what another run wrote");
	errno = ENOENT;
	refused("all files there are");
}

