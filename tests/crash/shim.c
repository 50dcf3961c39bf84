/* Every change that a process makes to the files under a folder is numbered, told in a trace, and the n-th goes
   wrong. Preloaded (LD_PRELOAD); it sleeps until the environment sets CRASH_FOLDER:

     CRASH_FOLDER   the folder, an absolute path without links
     CRASH_TRACE    where each change is told, a line "NUMBER <tab> CALL <tab> PATH <tab> NEW PATH <tab> LENGTH", before
                    it is made: the new path of a rename, and how long the file is. A trace that is there already
                    when the first change is made disarms the process: what is started again after its crash is
                    left alone.
     CRASH_AT       the number of the change that goes wrong; 0, none does
     CRASH_MODE     kill: the process ends before the change
                    tear: half of the bytes of a write are written, then the process ends
                    eio:  the change fails with EIO, once
                    full: from there on, whatever needs room fails with ENOSPC
                    clock: from there on, the clock is an hour behind what it was
     CRASH_ONLY     a word of the command line that a process must have to be counted; unset, each is */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *folder, *mode;
static int state; /* 0: not yet asked, 1: counts, 2: disarmed */
static int trace = -1;
static long count, at;
static volatile int behind; /* seconds */

static int named(const char *word) {
  char line[1 << 16];
  int file = syscall(SYS_openat, AT_FDCWD, "/proc/self/cmdline", O_RDONLY);
  ssize_t size = file < 0 ? 0 : syscall(SYS_read, file, line, sizeof line - 1);
  if (file >= 0) syscall(SYS_close, file);
  line[size < 0 ? 0 : size] = 0;
  for (char *one = line; one < line + size; one += strlen(one) + 1)
    if (!strcmp(one, word)) return 1;
  return 0;
}

/* Whether this process counts. Under the lock. */
static int armed(void) {
  if (state) return state == 1;
  if (!(folder = getenv("CRASH_FOLDER"))) return 0;
  const char *only = getenv("CRASH_ONLY"), *number = getenv("CRASH_AT");
  mode = getenv("CRASH_MODE");
  at = number ? atol(number) : 0;
  state = !only || named(only) ? 1 : 2;
  return state == 1;
}

/* Whether the trace is this process's: it makes it at its first change. Under the lock. */
static int tells(void) {
  const int flags = O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC;
  if (trace < 0) trace = syscall(SYS_openat, AT_FDCWD, getenv("CRASH_TRACE"), flags, 0666);
  if (trace < 0) state = 2;
  return state == 1;
}

static int inside(const char *path) {
  size_t n = strlen(folder);
  return !strncmp(path, folder, n) && (path[n] == '/' || !path[n]);
}

/* The absolute path of `name` seen from the folder `from`; of the file `from` where there is no name. */
static void full_path(int from, const char *name, char *path) {
  char link[64];
  path[0] = 0;
  if (name && name[0] == '/') {
    snprintf(path, PATH_MAX, "%s", name);
    return;
  }
  if (from == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
  else snprintf(link, sizeof link, "/proc/self/fd/%d", from);
  ssize_t n = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
  path[n < 0 ? 0 : n] = 0;
  if (name) snprintf(path + strlen(path), PATH_MAX - strlen(path), "/%s", name);
}

static void end(void) {
  syscall(SYS_kill, getpid(), SIGKILL);
  for (;;) pause();
}

/* Counts one change and tells it. 0: it may be made; 1: half of it is to be written, then the end; else -1. */
static int change(const char *call, int room, int from, const char *name, int onto, const char *new) {
  char path[PATH_MAX], target[PATH_MAX], line[2 * PATH_MAX + 64];
  int before = errno, verdict = 0, lacking = 0;
  pthread_mutex_lock(&lock);
  if (armed()) {
    full_path(from, name, path);
    if (new) full_path(onto, new, target);
    if ((inside(path) || (new && inside(target))) && tells()) {
      count++;
      struct stat now;
      long length = stat(path, &now) ? 0 : (long)now.st_size;
      int size = snprintf(line, sizeof line, "%ld\t%s\t%s\t%s\t%ld\n", count, call, path, new ? target : "", length);
      syscall(SYS_write, trace, line, size);
      int here = at && count == at;
      if (here && !strcmp(mode, "kill")) end();
      if (here && !strcmp(mode, "tear")) verdict = 1;
      if (here && !strcmp(mode, "eio")) verdict = -1, lacking = EIO;
      if (here && !strcmp(mode, "clock")) behind = 3600;
      if (at && count >= at && room && !strcmp(mode, "full")) verdict = -1, lacking = ENOSPC;
    }
  }
  /* Nobody makes a change between this one's half and the end. */
  if (verdict != 1) pthread_mutex_unlock(&lock);
  errno = lacking ? lacking : before;
  return verdict;
}

#define ORDER(call, room, from, name, onto, new)                        \
  {                                                                     \
    int verdict = change(call, room, from, name, onto, new);            \
    if (verdict > 0) end();                                             \
    if (verdict < 0) return -1;                                         \
  }

#define HALF(half)                                                      \
  {                                                                     \
    int verdict = change("write", 1, file, NULL, 0, NULL);              \
    if (verdict > 0) {                                                  \
      half;                                                             \
      end();                                                            \
    }                                                                   \
    if (verdict < 0) return -1;                                         \
  }

ssize_t write(int file, const void *bytes, size_t size) {
  HALF(syscall(SYS_write, file, bytes, size / 2))
  return REAL(write)(file, bytes, size);
}

ssize_t pwrite(int file, const void *bytes, size_t size, off_t offset) {
  HALF(syscall(SYS_pwrite64, file, bytes, size / 2, offset))
  return REAL(pwrite)(file, bytes, size, offset);
}

ssize_t pwrite64(int file, const void *bytes, size_t size, off64_t offset) {
  HALF(syscall(SYS_pwrite64, file, bytes, size / 2, offset))
  return REAL(pwrite64)(file, bytes, size, offset);
}

ssize_t writev(int file, const struct iovec *parts, int n) {
  HALF(n > 1 ? syscall(SYS_writev, file, parts, n / 2) : syscall(SYS_write, file, parts->iov_base, parts->iov_len / 2))
  return REAL(writev)(file, parts, n);
}

/* Opening changes a file where it may make or empty it. */
#define OPENS(from, path, flags)                                        \
  mode_t mode = 0;                                                      \
  if ((flags) & (O_CREAT | __O_TMPFILE)) {                              \
    va_list more;                                                       \
    va_start(more, flags);                                              \
    mode = va_arg(more, mode_t);                                        \
    va_end(more);                                                       \
  }                                                                     \
  if ((flags) & (O_CREAT | O_TRUNC)) ORDER("open", (flags) & O_CREAT, from, path, 0, NULL)

int open(const char *path, int flags, ...) {
  OPENS(AT_FDCWD, path, flags)
  return REAL(open)(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
  OPENS(AT_FDCWD, path, flags)
  return REAL(open64)(path, flags, mode);
}

int openat(int from, const char *path, int flags, ...) {
  OPENS(from, path, flags)
  return REAL(openat)(from, path, flags, mode);
}

int openat64(int from, const char *path, int flags, ...) {
  OPENS(from, path, flags)
  return REAL(openat64)(from, path, flags, mode);
}

int ftruncate(int file, off_t size) {
  ORDER("truncate", 0, file, NULL, 0, NULL)
  return REAL(ftruncate)(file, size);
}

int ftruncate64(int file, off64_t size) {
  ORDER("truncate", 0, file, NULL, 0, NULL)
  return REAL(ftruncate64)(file, size);
}

int fsync(int file) {
  ORDER("fsync", 0, file, NULL, 0, NULL)
  return REAL(fsync)(file);
}

int fdatasync(int file) {
  ORDER("fsync", 0, file, NULL, 0, NULL)
  return REAL(fdatasync)(file);
}

int rename(const char *old, const char *new) {
  ORDER("rename", 0, AT_FDCWD, old, AT_FDCWD, new)
  return REAL(rename)(old, new);
}

int renameat(int from, const char *old, int onto, const char *new) {
  ORDER("rename", 0, from, old, onto, new)
  return REAL(renameat)(from, old, onto, new);
}

int renameat2(int from, const char *old, int onto, const char *new, unsigned flags) {
  ORDER(flags & RENAME_EXCHANGE ? "exchange" : "rename", 0, from, old, onto, new)
  return REAL(renameat2)(from, old, onto, new, flags);
}

int unlink(const char *path) {
  ORDER("unlink", 0, AT_FDCWD, path, 0, NULL)
  return REAL(unlink)(path);
}

int unlinkat(int from, const char *path, int flags) {
  ORDER("unlink", 0, from, path, 0, NULL)
  return REAL(unlinkat)(from, path, flags);
}

int rmdir(const char *path) {
  ORDER("unlink", 0, AT_FDCWD, path, 0, NULL)
  return REAL(rmdir)(path);
}

int mkdir(const char *path, mode_t mode) {
  ORDER("mkdir", 1, AT_FDCWD, path, 0, NULL)
  return REAL(mkdir)(path, mode);
}

int mkdirat(int from, const char *path, mode_t mode) {
  ORDER("mkdir", 1, from, path, 0, NULL)
  return REAL(mkdirat)(from, path, mode);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  int found = REAL(clock_gettime)(clock, now);
  if (!found && clock == CLOCK_REALTIME) now->tv_sec -= behind;
  return found;
}
