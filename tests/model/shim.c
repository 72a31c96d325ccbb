/* Ends its process, as by kill -9, at the Nth call that changes a file, and puts its clock forward or back by so many
   seconds: loaded before libc. Its children don't have it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static atomic_long left = -1;
static long ahead = 0;

__attribute__((constructor)) static void begin(void) {
    const char *text = getenv("MODEL_KILL_AT");
    left = text ? atol(text) : -1;
    text = getenv("MODEL_CLOCK");
    ahead = text ? atol(text) : 0;
    unsetenv("MODEL_KILL_AT");
    unsetenv("MODEL_CLOCK");
    unsetenv("LD_PRELOAD");
}

static void count(void) {
    if (left >= 0 && atomic_fetch_sub(&left, 1) == 0)
        kill(getpid(), SIGKILL);
}

#define NEXT(type, name) ((type)dlsym(RTLD_NEXT, name))

int open64(const char *path, int flags, ...) {
    va_list list;
    va_start(list, flags);
    int mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(list, int) : 0;
    va_end(list);
    if (flags & (O_CREAT | O_TRUNC | O_WRONLY | O_RDWR))
        count();
    return NEXT(int (*)(const char *, int, ...), "open64")(path, flags, mode);
}

int rename(const char *from, const char *to) {
    count();
    return NEXT(int (*)(const char *, const char *), "rename")(from, to);
}

int unlink(const char *path) {
    count();
    return NEXT(int (*)(const char *), "unlink")(path);
}

int unlinkat(int at, const char *path, int flags) {
    count();
    return NEXT(int (*)(int, const char *, int), "unlinkat")(at, path, flags);
}

int rmdir(const char *path) {
    count();
    return NEXT(int (*)(const char *), "rmdir")(path);
}

int mkdir(const char *path, mode_t mode) {
    count();
    return NEXT(int (*)(const char *, mode_t), "mkdir")(path, mode);
}

int symlink(const char *to, const char *path) {
    count();
    return NEXT(int (*)(const char *, const char *), "symlink")(to, path);
}

int chmod(const char *path, mode_t mode) {
    count();
    return NEXT(int (*)(const char *, mode_t), "chmod")(path, mode);
}

ssize_t write(int to, const void *bytes, size_t length) {
    if (to > 2)
        count();
    return NEXT(ssize_t (*)(int, const void *, size_t), "write")(to, bytes, length);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = NEXT(int (*)(clockid_t, struct timespec *), "clock_gettime")(clock, now);
    if (!failed && clock == CLOCK_REALTIME)
        now->tv_sec += ahead;
    return failed;
}
