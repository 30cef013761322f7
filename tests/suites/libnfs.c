/* Goes through what libnfs can do with an export, and checks every answer:
 *
 *     libnfs URL    (nfs://HOST/EXPORT?nfsport=PORT&mountport=PORT)
 *
 * What it leaves is made again by tests/suites/libnfs with programs of the system, and compared.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <nfsc/libnfs.h>

#define NAMES 3000
#define BIG (3 * 1024 * 1024 + 77)

static struct nfs_context *nfs;

static void fail(int line, const char *what, long got) {
	fprintf(stderr, "libnfs.c:%d: %s is %ld: %s\n", line, what, got, nfs_get_error(nfs));
	exit(1);
}
/* A call that must answer this; errors are negative errnos. */
#define IS(want, call) do { long got = (call); if (got != (want)) fail(__LINE__, #call, got); } while (0)
#define MUST(holds) do { if (!(holds)) fail(__LINE__, #holds, 0); } while (0)

static unsigned char byte_at(uint64_t n) { return (unsigned char)((n * 2654435761u) >> 13); }

static struct nfsfh *opened(const char *path, int flags) {
	struct nfsfh *fh;
	IS(0, nfs_open(nfs, path, flags, &fh));
	return fh;
}

static struct nfs_stat_64 stat_of(const char *path) {
	struct nfs_stat_64 st;
	IS(0, nfs_lstat64(nfs, path, &st));
	return st;
}

static void content(void) {
	struct nfsfh *fh;
	unsigned char *data = malloc(BIG), *back = malloc(BIG + 1);
	for (uint64_t n = 0; n < BIG; n++) data[n] = byte_at(n);
	IS(0, nfs_creat(nfs, "/d/big", 0640, &fh));
	/* Pieces of odd length; libnfs cuts them by what FSINFO said. */
	for (uint64_t at = 0, part; at < BIG; at += part) {
		part = BIG - at < 700001 ? BIG - at : 700001;
		for (uint64_t done = 0; done < part;) {
			int wrote = nfs_pwrite(nfs, fh, at + done, part - done, data + at + done);
			MUST(wrote > 0);
			done += wrote;
		}
	}
	IS(0, nfs_fsync(nfs, fh));
	IS(0, nfs_close(nfs, fh));
	MUST(stat_of("/d/big").nfs_size == BIG);
	fh = opened("/d/big", O_RDONLY);
	for (uint64_t at = 0, step = 1; at < BIG; step = step * 3 % 1000003 + 1) {
		int got = nfs_pread(nfs, fh, at, step, back);
		MUST(got > 0 && memcmp(back, data + at, got) == 0);
		at += got;
	}
	IS(0, nfs_pread(nfs, fh, BIG, 10, back));
	IS(0, nfs_close(nfs, fh));

	/* Shorter, longer, and a hole. */
	IS(0, nfs_truncate(nfs, "/d/big", 1000));
	fh = opened("/d/big", O_RDWR);
	IS(3, nfs_pwrite(nfs, fh, 100000, 3, "end"));
	IS(0, nfs_close(nfs, fh));
	fh = opened("/d/big", O_RDONLY);
	uint64_t had = 0;
	for (int got; (got = nfs_pread(nfs, fh, had, BIG, back + had)) > 0;) had += got;
	MUST(had == 100003 && memcmp(back, data, 1000) == 0 && memcmp(back + 100000, "end", 3) == 0);
	for (int n = 1000; n < 100000; n++) MUST(back[n] == 0);
	IS(0, nfs_close(nfs, fh));

	fh = opened("/d/big", O_WRONLY | O_APPEND);
	IS(4, nfs_write(nfs, fh, 4, "more"));
	IS(0, nfs_close(nfs, fh));
	MUST(stat_of("/d/big").nfs_size == 100007);
	free(data);
	free(back);
}

static void touch(const char *path, const char *text) {
	struct nfsfh *fh;
	IS(0, nfs_creat(nfs, path, 0644, &fh));
	IS((long)strlen(text), nfs_write(nfs, fh, strlen(text), text));
	IS(0, nfs_close(nfs, fh));
}

static void names(void) {
	char target[64];
	struct nfsfh *fh;
	touch("/d/a", "a");
	touch("/d/b", "bb");
	uint64_t a = stat_of("/d/a").nfs_ino;
	IS(0, nfs_rename(nfs, "/d/a", "/d/b"));
	IS(-ENOENT, nfs_open(nfs, "/d/a", O_RDONLY, &fh));
	MUST(stat_of("/d/b").nfs_ino == a && stat_of("/d/b").nfs_size == 1);
	IS(0, nfs_link(nfs, "/d/b", "/d/linked"));
	MUST(stat_of("/d/linked").nfs_ino == a && stat_of("/d/b").nfs_nlink == 2);
	IS(0, nfs_unlink(nfs, "/d/b"));
	MUST(stat_of("/d/linked").nfs_nlink == 1);
	IS(0, nfs_symlink(nfs, "linked", "/d/symlink"));
	IS(0, nfs_readlink(nfs, "/d/symlink", target, sizeof target));
	MUST(strcmp(target, "linked") == 0);
	MUST(S_ISLNK(stat_of("/d/symlink").nfs_mode));
	IS(0, nfs_mkdir(nfs, "/d/sub"));
	IS(-EEXIST, nfs_mkdir(nfs, "/d/sub"));
	touch("/d/sub/inside", "x");
	IS(-ENOTEMPTY, nfs_rmdir(nfs, "/d/sub"));
	IS(-EEXIST, nfs_open2(nfs, "/d/linked", O_CREAT | O_EXCL | O_RDWR, 0644, &fh));
	IS(0, nfs_rename(nfs, "/d/sub", "/d/moved"));
	MUST(stat_of("/d/moved/inside").nfs_size == 1);
	IS(0, nfs_unlink(nfs, "/d/moved/inside"));
	IS(0, nfs_rmdir(nfs, "/d/moved"));
	IS(-ENOENT, nfs_rmdir(nfs, "/d/moved"));
	IS(0, nfs_mknod(nfs, "/d/fifo", S_IFIFO | 0600, 0));
	MUST(S_ISFIFO(stat_of("/d/fifo").nfs_mode));
}

static void attributes(void) {
	struct timeval times[2] = {{1000000000, 0}, {1111111111, 222222}};
	IS(0, nfs_chmod(nfs, "/d/linked", 0604));
	IS(0, nfs_chown(nfs, "/d/linked", 1234, 5678));
	IS(0, nfs_utimes(nfs, "/d/linked", times));
	struct nfs_stat_64 st = stat_of("/d/linked");
	MUST((st.nfs_mode & 07777) == 0604 && st.nfs_uid == 1234 && st.nfs_gid == 5678);
	MUST(st.nfs_mtime == 1111111111 && st.nfs_mtime_nsec == 222222000 && st.nfs_atime == 1000000000);
	IS(0, nfs_access(nfs, "/d/linked", R_OK | W_OK));
	struct statvfs vfs;
	IS(0, nfs_statvfs(nfs, "/d", &vfs));
	MUST(vfs.f_blocks > 0 && vfs.f_bavail <= vfs.f_bfree && vfs.f_bfree <= vfs.f_blocks);
	MUST(vfs.f_files > 0 && vfs.f_ffree <= vfs.f_files);
	printf("statvfs %llu\n", (unsigned long long)vfs.f_blocks * vfs.f_frsize);
}

/* A directory of more entries than one READDIR(PLUS) carries: each once, with its attributes. */
static void directory(void) {
	static char seen[NAMES];
	char path[64];
	struct nfsdir *dir;
	struct nfsdirent *entry;
	int n, count = 0;
	IS(0, nfs_mkdir(nfs, "/d/many"));
	for (n = 0; n < NAMES; n++) {
		struct nfsfh *fh;
		snprintf(path, sizeof path, "/d/many/name%d", n);
		IS(0, nfs_creat(nfs, path, 0644, &fh));
		IS(0, nfs_close(nfs, fh));
	}
	IS(0, nfs_opendir(nfs, "/d/many", &dir));
	while ((entry = nfs_readdir(nfs, dir)) != NULL) {
		if (entry->name[0] == '.') continue;
		MUST(sscanf(entry->name, "name%d", &n) == 1 && n >= 0 && n < NAMES && !seen[n]);
		MUST(entry->type == 1 && (entry->mode & 07777) == 0644 && entry->nlink == 1);
		snprintf(path, sizeof path, "/d/many/%s", entry->name);
		if (n % 100 == 0) MUST(stat_of(path).nfs_ino == entry->inode);
		seen[n] = 1;
		count++;
	}
	nfs_closedir(nfs, dir);
	MUST(count == NAMES);
	for (n = 0; n < NAMES; n += 2) {
		snprintf(path, sizeof path, "/d/many/name%d", n);
		IS(0, nfs_unlink(nfs, path));
	}
}

int main(int argc, char **argv) {
	if (argc != 2 || (nfs = nfs_init_context()) == NULL) return 2;
	struct nfs_url *url = nfs_parse_url_dir(nfs, argv[1]);
	MUST(url != NULL);
	IS(0, nfs_mount(nfs, url->server, url->path));
	nfs_umask(nfs, 022);
	IS(0, nfs_mkdir(nfs, "/d"));
	content();
	names();
	attributes();
	directory();
	nfs_destroy_url(url);
	IS(0, nfs_umount(nfs));
	nfs_destroy_context(nfs);
	return 0;
}
