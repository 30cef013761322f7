/* What a process could do if somebody else's code ran in it: taken PID WHAT…
 *
 * Each of its threads is stopped, made to call the kernel, and put back as it was. WHAT is open:PATH, write:PATH,
 * make:PATH, cut:PATH, unix or inet (a socket) or pair (two of them). Says a line for each thread: TID WHAT: ok, or what the kernel answered.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#define THREADS_MAX 256

static int threads[THREADS_MAX], count;

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static void stop_all(int pid) {
  char path[64];
  struct dirent *entry;
  snprintf(path, sizeof path, "/proc/%d/task", pid);
  DIR *dir = opendir(path);
  if (!dir) fail(path);
  while ((entry = readdir(dir)) && count < THREADS_MAX) {
    int tid = atoi(entry->d_name), status;
    if (tid <= 0) continue;
    /* One that has ended since. */
    if (ptrace(PTRACE_SEIZE, tid, 0, 0)) continue;
    if (ptrace(PTRACE_INTERRUPT, tid, 0, 0)) fail("interrupt");
    if (waitpid(tid, &status, __WALL) != tid || !WIFSTOPPED(status)) continue;
    threads[count++] = tid;
  }
  closedir(dir);
}

/* Where the program calls the kernel: threads that wait are just behind such a place. */
static unsigned long gate(void) {
  for (int i = 0; i < count; i++) {
    struct user_regs_struct regs;
    if (ptrace(PTRACE_GETREGS, threads[i], 0, &regs)) continue;
    errno = 0;
    long word = ptrace(PTRACE_PEEKTEXT, threads[i], regs.rip - 2, 0);
    if (!errno && (word & 0xffff) == 0x050f) return regs.rip - 2;
  }
  fprintf(stderr, "no thread waits in the kernel\n");
  exit(1);
}

static long call(int tid, unsigned long at, long number, long a, long b, long c, long d) {
  struct user_regs_struct before, regs;
  int status;
  if (ptrace(PTRACE_GETREGS, tid, 0, &before)) fail("registers");
  regs = before;
  regs.rip = at;
  regs.rax = number;
  regs.orig_rax = -1;
  regs.rdi = a;
  regs.rsi = b;
  regs.rdx = c;
  regs.r10 = d;
  if (ptrace(PTRACE_SETREGS, tid, 0, &regs)) fail("registers");
  do {
    if (ptrace(PTRACE_SINGLESTEP, tid, 0, 0)) fail("step");
    if (waitpid(tid, &status, __WALL) != tid || !WIFSTOPPED(status)) fail("wait");
    if (ptrace(PTRACE_GETREGS, tid, 0, &regs)) fail("registers");
  } while (regs.rip == at);
  if (ptrace(PTRACE_SETREGS, tid, 0, &before)) fail("registers");
  return regs.rax;
}

/* Below what the thread uses of its stack. */
static long put(int tid, const char *text) {
  struct user_regs_struct regs;
  size_t length = strlen(text) + 1;
  if (ptrace(PTRACE_GETREGS, tid, 0, &regs)) fail("registers");
  unsigned long to = (regs.rsp - 512 - length) & ~15ul;
  for (size_t i = 0; i < length; i += sizeof(long)) {
    long word = 0;
    memcpy(&word, text + i, length - i < sizeof word ? length - i : sizeof word);
    if (ptrace(PTRACE_POKEDATA, tid, to + i, word)) fail("write");
  }
  return to;
}

static long attempt(int tid, unsigned long at, const char *what) {
  long made;
  const char *path = strchr(what, ':');
  if (!strcmp(what, "pair")) {
    /* Where the two would be written does not matter: it is refused, or the address is. */
    made = call(tid, at, SYS_socketpair, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, 0);
  } else if (!strncmp(what, "cut:", 4)) {
    made = call(tid, at, SYS_truncate, put(tid, path + 1), 0, 0, 0);
  } else if (!path) {
    int family = strcmp(what, "inet") ? AF_UNIX : AF_INET;
    made = call(tid, at, SYS_socket, family, SOCK_STREAM | SOCK_CLOEXEC, 0, 0);
  } else {
    int how = *what == 'o' ? O_RDONLY : *what == 'w' ? O_WRONLY : O_WRONLY | O_CREAT | O_EXCL;
    made = call(tid, at, SYS_openat, AT_FDCWD, put(tid, path + 1), how | O_CLOEXEC, 0600);
  }
  if (made >= 0) call(tid, at, SYS_close, made, 0, 0, 0);
  return made;
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  stop_all(atoi(argv[1]));
  unsigned long at = gate();
  for (int i = 0; i < count; i++)
    for (int j = 2; j < argc; j++) {
      long made = attempt(threads[i], at, argv[j]);
      printf("%d %s: %s\n", threads[i], argv[j], made < 0 ? strerror(-made) : "ok");
    }
  for (int i = 0; i < count; i++) ptrace(PTRACE_DETACH, threads[i], 0, 0);
  return 0;
}
