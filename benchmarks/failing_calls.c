/* Makes the n-th call that changes (or reads) a file below one folder fail, or kills the process there.
 *
 * Loaded before the C library, so that SQLite's calls and Python's go through it alike. Python arms it through
 * `failing_calls_arm` and reads `failing_calls_seen` and `failing_calls_fired`.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { SPACE = 1, FOLDER = 2, SYNC = 4, READ = 8, RELEASE = 16 };

static char root[4096];
static long fail_at, seen, fired;
static int kinds, error_number, stays, kills;

void failing_calls_arm(const char *folder, long n, int kind, int number, int sticky, int kill_there) {
  snprintf(root, sizeof root, "%s", folder);
  fail_at = n; kinds = kind; error_number = number; stays = sticky; kills = kill_there;
  seen = fired = 0;
}
long failing_calls_seen(void) { return seen; }
long failing_calls_fired(void) { return fired; }

static int below(const char *path) { return fail_at && *root && path && strncmp(path, root, strlen(root)) == 0; }

static int below_fd(int fd) {
  char link[64], path[4096];
  if (!fail_at) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return below(path);
}

static int fails(int kind) {
  if (!(kinds & kind)) return 0;
  seen++;
  if (seen != fail_at && !(stays && seen > fail_at)) return 0;
  fired++;
  if (kills) kill(getpid(), SIGKILL);
  errno = error_number;
  return 1;
}

#define REAL(name) \
  static __typeof__(name) *real; \
  if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

/* A disk that runs full, or a process that dies, has mostly written a part of it. */
#define WRITER(name, parameters, arguments, partial) \
  ssize_t name parameters { \
    REAL(name); \
    if (below_fd(fd)) { \
      int last = fail_at == seen + 1 && (kinds & SPACE); \
      if (last && count > 1 && (kills || error_number == ENOSPC)) { size_t half = count / 2; (void)!real partial; } \
      if (fails(SPACE)) return -1; \
    } \
    return real arguments; \
  }
WRITER(write, (int fd, const void *data, size_t count), (fd, data, count), (fd, data, half))
WRITER(pwrite, (int fd, const void *data, size_t count, off_t at), (fd, data, count, at), (fd, data, half, at))
WRITER(pwrite64, (int fd, const void *data, size_t count, off64_t at), (fd, data, count, at), (fd, data, half, at))

#define BY_FD(result, name, kind, parameters, arguments) \
  result name parameters { REAL(name); if (below_fd(fd) && fails(kind)) return -1; return real arguments; }
BY_FD(int, fsync, SYNC, (int fd), (fd))
BY_FD(int, fdatasync, SYNC, (int fd), (fd))
BY_FD(int, ftruncate, SYNC, (int fd, off_t size), (fd, size))
BY_FD(int, ftruncate64, SYNC, (int fd, off64_t size), (fd, size))
BY_FD(ssize_t, read, READ, (int fd, void *data, size_t count), (fd, data, count))
BY_FD(ssize_t, pread, READ, (int fd, void *data, size_t count, off_t at), (fd, data, count, at))
BY_FD(ssize_t, pread64, READ, (int fd, void *data, size_t count, off64_t at), (fd, data, count, at))

#define BY_PATH(name, kind, parameters, arguments) \
  int name parameters { REAL(name); if (below(path) && fails(kind)) return -1; return real arguments; }
BY_PATH(rename, FOLDER, (const char *path, const char *to), (path, to))
BY_PATH(link, FOLDER, (const char *path, const char *to), (path, to))
BY_PATH(unlink, FOLDER | RELEASE, (const char *path), (path))
BY_PATH(mkdir, FOLDER, (const char *path, mode_t mode), (path, mode))

ssize_t sendfile64(int to, int from, off64_t *at, size_t count) {
  REAL(sendfile64);
  if (below_fd(to) && fails(SPACE)) return -1;
  return real(to, from, at, count);
}
ssize_t sendfile(int to, int from, off_t *at, size_t count) {
  REAL(sendfile);
  if (below_fd(to) && fails(SPACE)) return -1;
  return real(to, from, at, count);
}
ssize_t copy_file_range(int from, off64_t *a, int to, off64_t *b, size_t count, unsigned flags) {
  REAL(copy_file_range);
  if (below_fd(to) && fails(SPACE)) return -1;
  return real(from, a, to, b, count, flags);
}

static int creates(const char *path, int flags) {
  struct stat status;
  return (flags & O_CREAT) && below(path) && stat(path, &status) != 0;
}
#define OPENER(name) \
  int name(const char *path, int flags, ...) { \
    REAL(name); \
    va_list rest; va_start(rest, flags); mode_t mode = (flags & O_CREAT) ? va_arg(rest, mode_t) : 0; va_end(rest); \
    if (creates(path, flags) ? fails(FOLDER) : below(path) && fails(READ)) return -1; \
    return real(path, flags, mode); \
  }
OPENER(open)
OPENER(open64)
