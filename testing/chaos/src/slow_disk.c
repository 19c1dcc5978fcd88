/* Stands before libc's writes: delays them, or says that the disk is full. Preloaded into a member.
 *
 * CHAOS_DISK names a file of three 32-bit numbers, shared with the program that starts the members:
 * milliseconds before each sync, milliseconds before each write, and whether writes find no space.
 * CHAOS_DISK_FOLDER is the folder that it is about; logs and sockets are left alone.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct control {
  volatile uint32_t sync_delay_ms;
  volatile uint32_t write_delay_ms;
  volatile uint32_t is_full;
};

static struct control nothing;
static struct control *control = &nothing;
static const char *folder = "";

__attribute__((constructor)) static void attach(void) {
  const char *path = getenv("CHAOS_DISK");
  const char *about = getenv("CHAOS_DISK_FOLDER");
  if (path == NULL || about == NULL) return;
  int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return;
  void *shared = mmap(NULL, sizeof(struct control), PROT_READ, MAP_SHARED, fd, 0);
  close(fd);
  if (shared == MAP_FAILED) return;
  folder = about;
  control = shared;
}

static int is_ours(int fd) {
  char name[64], path[4096];
  snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(name, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return strncmp(path, folder, strlen(folder)) == 0;
}

static void wait_ms(uint32_t ms) {
  struct timespec left = {ms / 1000, (ms % 1000) * 1000000L};
  while (nanosleep(&left, &left) != 0 && errno == EINTR) {
  }
}

static void before_sync(int fd) {
  if (control->sync_delay_ms != 0 && is_ours(fd)) wait_ms(control->sync_delay_ms);
}

/* Whether the write is to fail. */
static int before_write(int fd) {
  if (control->write_delay_ms == 0 && control->is_full == 0) return 0;
  if (!is_ours(fd)) return 0;
  wait_ms(control->write_delay_ms);
  if (control->is_full == 0) return 0;
  errno = ENOSPC;
  return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int fsync(int fd) {
  before_sync(fd);
  return REAL(fsync)(fd);
}

int fdatasync(int fd) {
  before_sync(fd);
  return REAL(fdatasync)(fd);
}

ssize_t write(int fd, const void *bytes, size_t count) {
  return before_write(fd) ? -1 : REAL(write)(fd, bytes, count);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
  return before_write(fd) ? -1 : REAL(writev)(fd, parts, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
  return before_write(fd) ? -1 : REAL(pwrite)(fd, bytes, count, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
  return before_write(fd) ? -1 : REAL(pwrite64)(fd, bytes, count, at);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) {
  return before_write(fd) ? -1 : REAL(pwritev)(fd, parts, count, at);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) {
  return before_write(fd) ? -1 : REAL(pwritev64)(fd, parts, count, at);
}

int fallocate(int fd, int mode, off_t at, off_t count) {
  return before_write(fd) ? -1 : REAL(fallocate)(fd, mode, at, count);
}

int fallocate64(int fd, int mode, off64_t at, off64_t count) {
  return before_write(fd) ? -1 : REAL(fallocate64)(fd, mode, at, count);
}
