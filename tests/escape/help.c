#include "attack.h"

/* What the test itself needs done on the host. */
int help(const char *what, char **argv)
{
	if (strcmp(what, "--whoami") == 0)
		return printf("%d\n", geteuid()) < 0;
	if (strcmp(what, "--decoy") == 0) {
		static char memory[] = "unharmed";
		printf("%d %p\n", getpid(), (void *)memory);
		fflush(stdout);
		pause();
		return 0;
	}
	if (strcmp(what, "--add-key") == 0)
		return syscall(SYS_add_key, "user", argv[2], argv[3], strlen(argv[3]), -4) < 0;
	if (strcmp(what, "--drop-key") == 0) {
		long key = syscall(SYS_keyctl, 10, -4, "user", argv[2], 0);
		return key < 0 || syscall(SYS_keyctl, 9 /* UNLINK */, key, -4) < 0;
	}
	if (strcmp(what, "--handle") == 0) {
		struct {
			struct file_handle head;
			unsigned char bytes[128];
		} handle;
		int mount;
		handle.head.handle_bytes = 128;
		if (name_to_handle_at(AT_FDCWD, argv[2], &handle.head, &mount, 0) < 0)
			return 1;
		printf("%d ", handle.head.handle_type);
		for (unsigned i = 0; i < handle.head.handle_bytes; i++)
			printf("%02x", handle.head.f_handle[i]);
		return printf("\n") < 0;
	}
	return 2;
}

