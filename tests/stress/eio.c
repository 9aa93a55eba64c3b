/* Fail one system call on chosen files, as a network file system does: preload this library.

   EIO_PATH: part of the file's path; EIO_CALL: open, read, write, fsync or rename;
   EIO_NTH: which of the calls fails, counted from 1; EIO_LOG: a file that is created when it does.
   A file descriptor is of the path by which it was opened, as /proc/self/fd shows it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int calls;

static int is_chosen(const char *call, const char *path) {
  const char *part = getenv("EIO_PATH"), *kind = getenv("EIO_CALL"), *nth = getenv("EIO_NTH");
  if (!part || !kind || !nth || !path || strcmp(kind, call) || !strstr(path, part)) return 0;
  if (__atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST) != atoi(nth)) return 0;
  const char *log = getenv("EIO_LOG");
  if (log) {
    int (*open_log)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
    int file = open_log(log, O_CREAT | O_WRONLY, 0600);
    if (file >= 0) close(file);
  }
  errno = EIO;
  return 1;
}

static int is_chosen_file(const char *call, int file) {
  char link[64], path[4096];
  if (!getenv("EIO_CALL") || strcmp(getenv("EIO_CALL"), call)) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return is_chosen(call, path);
}

#define REAL(type, name, ...) type (*real)(__VA_ARGS__) = dlsym(RTLD_NEXT, #name)

#define OPEN(name)                                                     \
  int name(const char *path, int flags, ...) {                         \
    va_list more;                                                      \
    va_start(more, flags);                                             \
    int mode = va_arg(more, int);                                      \
    va_end(more);                                                      \
    REAL(int, name, const char *, int, ...);                           \
    return is_chosen("open", path) ? -1 : real(path, flags, mode);     \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                          \
  int name(int folder, const char *path, int flags, ...) {                    \
    va_list more;                                                             \
    va_start(more, flags);                                                    \
    int mode = va_arg(more, int);                                             \
    va_end(more);                                                             \
    REAL(int, name, int, const char *, int, ...);                             \
    return is_chosen("open", path) ? -1 : real(folder, path, flags, mode);    \
  }
OPENAT(openat)
OPENAT(openat64)

ssize_t read(int file, void *data, size_t size) {
  REAL(ssize_t, read, int, void *, size_t);
  return is_chosen_file("read", file) ? -1 : real(file, data, size);
}

ssize_t pread64(int file, void *data, size_t size, off64_t at) {
  REAL(ssize_t, pread64, int, void *, size_t, off64_t);
  return is_chosen_file("read", file) ? -1 : real(file, data, size, at);
}

ssize_t write(int file, const void *data, size_t size) {
  REAL(ssize_t, write, int, const void *, size_t);
  return is_chosen_file("write", file) ? -1 : real(file, data, size);
}

ssize_t writev(int file, const struct iovec *parts, int count) {
  REAL(ssize_t, writev, int, const struct iovec *, int);
  return is_chosen_file("write", file) ? -1 : real(file, parts, count);
}

int fsync(int file) {
  REAL(int, fsync, int);
  return is_chosen_file("fsync", file) ? -1 : real(file);
}

int rename(const char *from, const char *to) {
  REAL(int, rename, const char *, const char *);
  return is_chosen("rename", from) || is_chosen("rename", to) ? -1 : real(from, to);
}
