/* What a hostile program in a pocker tries. Linked statically, so that any root takes it.
 *
 *   attack NAME=VALUE… [-- ATTACK…]     tries each attack, or those named, and says a line of each:
 *   ATTACK got: WHAT | ATTACK refused: WHY
 *
 * Every attack is on a decoy that the test made on the host (its values say where), or only
 * opens what it could then write: nothing of the host's own is changed even where all succeed.
 */
#include "attack.h"

static char **values;
static int value_count;

const char *value(const char *name)
{
	size_t length = strlen(name);
	for (int i = 0; i < value_count; i++)
		if (strncmp(values[i], name, length) == 0 && values[i][length] == '=')
			return values[i] + length + 1;
	return "";
}

void got(const char *format, ...)
{
	va_list list;
	va_start(list, format);
	printf("got: ");
	vprintf(format, list);
	printf("\n");
	fflush(stdout);
	_exit(0);
}

void refused(const char *what)
{
	printf("refused: %s: %s\n", what, strerror(errno));
	fflush(stdout);
	_exit(0);
}

int reads(int dir, const char *base)
{
	static char path[8192], text[256];
	snprintf(path, sizeof path, "%s%s", base, value("witness"));
	int fd = openat(dir, path, O_RDONLY);
	if (fd < 0)
		return 0;
	ssize_t n = read(fd, text, sizeof text - 1);
	close(fd);
	if (n <= 0 || strcmp(text, value("secret")) != 0) {
		errno = ENOENT;
		return 0;
	}
	return 1;
}

static void by_path(void)
{
	if (reads(AT_FDCWD, ""))
		got("the witness by its own path");
	refused("open");
}

static void double_chroot(void)
{
	mkdir("/tmp/jail", 0755);
	if (chroot("/tmp/jail") < 0)
		refused("chroot");
	for (int i = 0; i < 100; i++)
		if (chdir("..") < 0)
			refused("chdir ..");
	if (chroot(".") < 0)
		refused("chroot .");
	if (reads(AT_FDCWD, ""))
		got("the host's root");
	refused("open the witness above the root");
}

static void inherited_descriptors(void)
{
	int open_ones = 0;
	for (int fd = 3; fd < 4096; fd++) {
		struct stat stat;
		if (fstat(fd, &stat) < 0)
			continue;
		open_ones++;
		char up[8192] = "";
		for (int depth = 0; depth < 30; depth++) {
			if (reads(fd, up[0] ? up : "."))
				got("the witness through descriptor %d", fd);
			strcat(up, "../");
		}
	}
	if (open_ones)
		got("%d descriptors that are open", open_ones);
	errno = EBADF;
	refused("all of 3 to 4095");
}

static void proc_root(void)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	int seen = errno;
	while (proc && (entry = readdir(proc))) {
		if (entry->d_name[0] < '0' || entry->d_name[0] > '9')
			continue;
		char path[1024];
		const char *ways[] = {"root", "cwd/../../../../../../..", 0};
		for (const char **way = ways; *way; way++) {
			snprintf(path, sizeof path, "/proc/%s/%s", entry->d_name, *way);
			if (reads(AT_FDCWD, path))
				got("the witness through %s", path);
			seen = errno;
		}
		/* Directories that others have open. */
		snprintf(path, sizeof path, "/proc/%s/fd", entry->d_name);
		DIR *fds = opendir(path);
		struct dirent *fd;
		while (fds && (fd = readdir(fds))) {
			snprintf(path, sizeof path, "/proc/%s/fd/%s/../../../../..", entry->d_name, fd->d_name);
			if (fd->d_name[0] != '.' && reads(AT_FDCWD, path))
				got("the witness through %s", path);
		}
		if (fds)
			closedir(fds);
	}
	errno = seen;
	refused("/proc/PID/{root,cwd,fd}");
}

static void memory_of_pid_1(void)
{
	int fd = open("/proc/1/mem", O_RDONLY);
	if (fd >= 0)
		got("/proc/1/mem");
	refused("open /proc/1/mem");
}

pid_t decoy(void)
{
	return atoi(value("decoy"));
}

static void ptrace_host(void)
{
	if (ptrace(PTRACE_ATTACH, decoy(), 0, 0) < 0)
		refused("PTRACE_ATTACH");
	waitpid(decoy(), 0, __WALL);
	ptrace(PTRACE_DETACH, decoy(), 0, 0);
	got("a process of the host in hand");
}

/* The host's own program, which a root inside could change for its next start. */
static void program_of_pid_1(void)
{
	int fd = open("/proc/1/exe", O_RDONLY);
	if (fd >= 0)
		got("/proc/1/exe");
	refused("open /proc/1/exe");
}

static void ptrace_pid_1(void)
{
	if (decoy() == 1)
		errno = EPERM;
	else if (getpid() > 100)
		errno = ESRCH; /* the host's own first process is not to be touched */
	else if (ptrace(PTRACE_SEIZE, 1, 0, 0) == 0)
		got("the sandbox's first process in hand");
	refused("PTRACE_SEIZE of 1");
}

static void write_memory(void)
{
	char text[] = "x", *there = (char *)strtoull(value("address"), 0, 16);
	struct iovec local = {text, 1}, remote = {there, 1};
	if (process_vm_writev(decoy(), &local, 1, &remote, 1, 0) == 1)
		got("a byte in a process of the host");
	refused("process_vm_writev");
}

static void kill_host(void)
{
	if (kill(decoy(), SIGUSR1) < 0)
		refused("kill");
	got("a signal to a process of the host");
}

static void pidfd(void)
{
	int fd = syscall(SYS_pidfd_open, decoy(), 0);
	if (fd < 0)
		refused("pidfd_open");
	int theirs = syscall(SYS_pidfd_getfd, fd, 0, 0);
	if (theirs < 0)
		refused("pidfd_getfd");
	got("a descriptor of a process of the host");
}

static void mount_tmpfs(void)
{
	mkdir("/tmp/m", 0755);
	if (mount("none", "/tmp/m", "tmpfs", 0, "") < 0)
		refused("mount");
	got("a mount");
}

static void new_mount_api(void)
{
	if (syscall(SYS_fsopen, "tmpfs", 0) < 0)
		refused("fsopen");
	got("fsopen");
}

static void remount(void)
{
	if (mount(0, "/", 0, MS_REMOUNT | MS_BIND, "") < 0)
		refused("remount / with setuid files and devices");
	got("a remount");
}

static void unmount(void)
{
	if (umount2("/dev/shm", MNT_DETACH) < 0)
		refused("umount");
	got("a mount of the sandbox undone");
}

/* The decoy's disk, by a device node wherever one can be made. */
static void mknod_disk(void)
{
	dev_t device = makedev(atoi(value("major")), atoi(value("minor")));
	const char *places[] = {"/dev/disk", "/tmp/disk", "/disk", "/graft/disk", "/tmp/n/disk", 0};
	mkdir("/tmp/n", 0755);
	mount("none", "/tmp/n", "tmpfs", 0, "");
	int why = 0;
	for (const char **place = places; *place; place++) {
		char text[64] = "";
		if (mknod(*place, S_IFBLK | 0666, device) < 0) {
			why = errno;
			continue;
		}
		int fd = open(*place, O_RDONLY);
		why = errno;
		unlink(*place);
		if (fd >= 0 && read(fd, text, sizeof text - 1) > 0)
			got("the disk's first bytes: %.16s", text);
	}
	errno = why;
	refused("mknod and open");
}

/* One that the host made, in a graft. */
static void node_in_graft(void)
{
	int fd = open("/graft/node", O_RDONLY);
	if (fd < 0)
		refused("open");
	got("the device");
}

struct attack {
	const char *name;
	void (*run)(void);
};

static const struct attack attacks[] = {
	{"by-path", by_path},
	/* Before mounts of the kernel are made that take long to read. */
	{"other-trees", other_trees},
	{"double-chroot", double_chroot},
	{"inherited-descriptors", inherited_descriptors},
	{"proc-root", proc_root},
	{"memory-of-pid-1", memory_of_pid_1},
	{"program-of-pid-1", program_of_pid_1},
	{"ptrace", ptrace_host},
	{"ptrace-pid-1", ptrace_pid_1},
	{"write-memory", write_memory},
	{"pidfd", pidfd},
	{"mount", mount_tmpfs},
	{"fsopen", new_mount_api},
	{"remount", remount},
	{"umount", unmount},
	{"mknod", mknod_disk},
	{"node-in-graft", node_in_graft},
	{"module", module},
	{"keyctl", keyring},
	{"proc-keys", proc_keys},
	{"bpf", bpf_map},
	{"perf", perf},
	{"userfaultfd", userfault},
	{"io-uring", io_uring},
	{"int80", old_entrance},
	{"user-namespace", user_namespace},
	{"mount-namespace", mount_namespace},
	{"clone", clone_namespace},
	{"clone3", clone3_namespace},
	{"setns", enter_namespace},
	{"core-pattern", core_pattern},
	{"sysctl", sysctl},
	{"sysrq", sysrq},
	{"sysfs", sysfs},
	{"release-agent", release_agent},
	{"packets", packets},
	{"raw-ip", raw_ip},
	{"vsock", hypervisor},
	{"by-handle", by_handle},
	{"setuid", setuid_file},
	{"unix-socket", unix_socket},
	{"tiocsti", input_of_terminal},
	/* Last: it ends the decoy. */
	{"kill", kill_host},
};

static int wanted(const char *name, int argc, char **argv)
{
	int named = 0;
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--") == 0)
			named = 1;
		else if (named && strcmp(argv[i], name) == 0)
			return 1;
	}
	return !named;
}

int main(int argc, char **argv)
{
	if (argc > 1 && strncmp(argv[1], "--", 2) == 0)
		return help(argv[1], argv);
	values = argv + 1;
	value_count = argc - 1;
	for (unsigned i = 0; i < sizeof attacks / sizeof *attacks; i++) {
		if (!wanted(attacks[i].name, argc, argv))
			continue;
		printf("%s ", attacks[i].name);
		fflush(stdout);
		pid_t child = fork();
		int status;
		if (child == 0) {
			attacks[i].run();
			_exit(1);
		}
		if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
			printf("ended: status %x\n", status);
	}
	return 0;
}
