/*
 * Simulates a hung disk in a process that preloads this library (LD_PRELOAD). While the symbolic link named by
 * HANGING_DISK exists, the functions below block if their file is below the link's target. Memory-mapped access,
 * and functions that are not listed here, do not block. The library needs neither root nor a separate file system.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define POLL_INTERVAL_US 2000

/* The C library's function of this name. Threads that look it up at the same time store the same value. */
#define ORIGINAL(name)                                                                                                 \
  static __typeof__(&name) original;                                                                                   \
  if (original == NULL) original = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static int hangs(const char *path) {
  const char *link = getenv("HANGING_DISK");
  char directory[PATH_MAX];
  ssize_t length = link == NULL ? -1 : readlink(link, directory, sizeof directory);
  if (length <= 0 || strncmp(path, directory, length) != 0) return 0;
  return path[length] == '/' || path[length] == '\0';
}

static void wait_for_path(const char *path) {
  int error = errno;
  while (hangs(path)) usleep(POLL_INTERVAL_US);
  errno = error;
}

static void wait_for_file(int file) {
  int error = errno;
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length > 0) {
    path[length] = '\0';
    wait_for_path(path);
  }
  errno = error;
}

/* The mode, an argument that callers of `open` pass only if the call may create a file. */
#define MODE_OF(flags)                                                                                                 \
  mode_t mode = 0;                                                                                                     \
  if ((flags) & (O_CREAT | O_TMPFILE)) {                                                                               \
    va_list arguments;                                                                                                 \
    va_start(arguments, flags);                                                                                        \
    mode = va_arg(arguments, mode_t);                                                                                  \
    va_end(arguments);                                                                                                 \
  }

#define OPEN(name)                                                                                                     \
  int name(const char *path, int flags, ...) {                                                                         \
    ORIGINAL(name);                                                                                                    \
    MODE_OF(flags)                                                                                                     \
    wait_for_path(path);                                                                                               \
    return original(path, flags, mode);                                                                                \
  }
OPEN(open)
OPEN(open64)

#define OPEN_AT(name)                                                                                                  \
  int name(int directory, const char *path, int flags, ...) {                                                          \
    ORIGINAL(name);                                                                                                    \
    MODE_OF(flags)                                                                                                     \
    if (path[0] == '/') wait_for_path(path);                                                                           \
    else wait_for_file(directory);                                                                                     \
    return original(directory, path, flags, mode);                                                                     \
  }
OPEN_AT(openat)
OPEN_AT(openat64)

/* A function with a file descriptor. */
#define ON_FILE(type, name, parameters, ...)                                                                           \
  type name parameters {                                                                                               \
    ORIGINAL(name);                                                                                                    \
    wait_for_file(file);                                                                                               \
    return original(__VA_ARGS__);                                                                                      \
  }
ON_FILE(ssize_t, read, (int file, void *bytes, size_t count), file, bytes, count)
ON_FILE(ssize_t, readv, (int file, const struct iovec *parts, int count), file, parts, count)
ON_FILE(ssize_t, pread, (int file, void *bytes, size_t count, off_t offset), file, bytes, count, offset)
ON_FILE(ssize_t, pread64, (int file, void *bytes, size_t count, off64_t offset), file, bytes, count, offset)
ON_FILE(ssize_t, write, (int file, const void *bytes, size_t count), file, bytes, count)
ON_FILE(ssize_t, writev, (int file, const struct iovec *parts, int count), file, parts, count)
ON_FILE(ssize_t, pwrite, (int file, const void *bytes, size_t count, off_t offset), file, bytes, count, offset)
ON_FILE(ssize_t, pwrite64, (int file, const void *bytes, size_t count, off64_t offset), file, bytes, count, offset)
ON_FILE(int, fsync, (int file), file)
ON_FILE(int, fdatasync, (int file), file)
ON_FILE(int, ftruncate, (int file, off_t length), file, length)
ON_FILE(int, ftruncate64, (int file, off64_t length), file, length)

/* A function with a path. */
#define ON_PATH(name, parameters, ...)                                                                                 \
  int name parameters {                                                                                                \
    ORIGINAL(name);                                                                                                    \
    wait_for_path(path);                                                                                               \
    return original(__VA_ARGS__);                                                                                      \
  }
ON_PATH(rename, (const char *path, const char *target), path, target)
ON_PATH(unlink, (const char *path), path)
ON_PATH(mkdir, (const char *path, mode_t mode), path, mode)
