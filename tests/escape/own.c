/* Stands in for the dynamic loader of a tree, so that the kernel runs it as part of any program:
 * of pocker's own too, whose file it then tries to change. No library: there is none yet. */
#include <sys/syscall.h>

static long call(long number, long a, long b, long c, long d, long e) {
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    __asm__ volatile("syscall" : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
}

static void say(const char *name, long result) {
    const char *how = result < 0 ? " refused\n" : " got\n";
    long n = 0, m = 0;
    while (name[n]) n++;
    while (how[m]) m++;
    call(SYS_write, 1, (long)name, n, 0, 0);
    call(SYS_write, 1, (long)how, m, 0, 0);
}

void _start(void) {
    const long file = (long)"/proc/self/exe";
    say("xattr", call(SYS_setxattr, file, (long)"user.x", (long)"y", 1, 0));
    say("truncate", call(SYS_truncate, file, 0, 0, 0, 0));
    say("chmod", call(SYS_chmod, file, 04777, 0, 0, 0));
    say("chown", call(SYS_chown, file, 1000, 1000, 0, 0));
    call(SYS_exit_group, 0, 0, 0, 0, 0);
}
