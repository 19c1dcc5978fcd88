/* Stands before libc's writes: delays them, or says that the disk is full. Preloaded into a member.
 *
 * CHAOS_DISK names a file of four 32-bit numbers, shared with the program that starts the members:
 * milliseconds before each sync, milliseconds before each write, whether writes find no space, and whether
 * a killed process is to lose what it wrote to its write-ahead log and did not sync, as it would when the
 * power fails. Such writes wait in the process until the sync; whoever reads or closes the file in the
 * process sees to it that they are written. CHAOS_DISK_FOLDER is the folder that all this is about; logs
 * for people and sockets are left alone.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
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
  volatile uint32_t loses_unsynced;
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

/* Whether the file lies in the folder and its name ends so. */
static int lies_in(int fd, const char *ending) {
  char name[64], path[4096];
  snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(name, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  size_t rest = strlen(ending);
  int ends_so = (size_t)length >= rest && strcmp(path + length - rest, ending) == 0;
  return ends_so && strncmp(path, folder, strlen(folder)) == 0;
}

static int is_ours(int fd) { return lies_in(fd, ""); }

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

/* Writes that wait for the sync of their file, oldest first. */
struct waiting {
  struct waiting *next;
  dev_t device;
  ino_t inode;
  off64_t at;
  size_t count;
  char bytes[];
};

/* Above this, writes are not held back any more. */
#define WAITING_BYTES_MAX (64u << 20)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct waiting *waiting;
static size_t waiting_bytes;

/* Writes what waits for this file. Whether all of it could be written. */
static int settle(int fd) {
  struct stat file;
  int fine = 1;
  if (waiting == NULL || fstat(fd, &file) != 0) return 1;
  pthread_mutex_lock(&lock);
  for (struct waiting **link = &waiting; *link != NULL;) {
    struct waiting *one = *link;
    if (one->device != file.st_dev || one->inode != file.st_ino) {
      link = &one->next;
      continue;
    }
    for (size_t done = 0; fine && done < one->count;) {
      ssize_t wrote = REAL(pwrite64)(fd, one->bytes + done, one->count - done, one->at + (off64_t)done);
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote <= 0) fine = 0;
      done += wrote > 0 ? (size_t)wrote : 0;
    }
    *link = one->next;
    waiting_bytes -= one->count;
    free(one);
  }
  pthread_mutex_unlock(&lock);
  return fine;
}

/* Whether the write is held back until its file is synced. */
static int holds_back(int fd, const void *bytes, size_t count, off64_t at) {
  struct stat file;
  if (control->loses_unsynced == 0 || waiting_bytes > WAITING_BYTES_MAX) return 0;
  if (!lies_in(fd, ".wal") || fstat(fd, &file) != 0) return 0;
  struct waiting *one = malloc(sizeof *one + count);
  if (one == NULL) return 0;
  one->next = NULL;
  one->device = file.st_dev;
  one->inode = file.st_ino;
  one->at = at;
  one->count = count;
  memcpy(one->bytes, bytes, count);
  pthread_mutex_lock(&lock);
  struct waiting **link = &waiting;
  while (*link != NULL) link = &(*link)->next;
  *link = one;
  waiting_bytes += count;
  pthread_mutex_unlock(&lock);
  return 1;
}

static ssize_t put(int fd, const void *bytes, size_t count, off64_t at) {
  if (before_write(fd)) return -1;
  if (holds_back(fd, bytes, count, at)) return (ssize_t)count;
  return settle(fd) ? REAL(pwrite64)(fd, bytes, count, at) : -1;
}

int fsync(int fd) {
  before_sync(fd);
  return settle(fd) ? REAL(fsync)(fd) : -1;
}

int fdatasync(int fd) {
  before_sync(fd);
  return settle(fd) ? REAL(fdatasync)(fd) : -1;
}

int close(int fd) {
  settle(fd);
  return REAL(close)(fd);
}

ssize_t read(int fd, void *bytes, size_t count) {
  settle(fd);
  return REAL(read)(fd, bytes, count);
}

ssize_t pread64(int fd, void *bytes, size_t count, off64_t at) {
  settle(fd);
  return REAL(pread64)(fd, bytes, count, at);
}

ssize_t write(int fd, const void *bytes, size_t count) {
  return before_write(fd) ? -1 : REAL(write)(fd, bytes, count);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
  return before_write(fd) ? -1 : REAL(writev)(fd, parts, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) { return put(fd, bytes, count, at); }

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) { return put(fd, bytes, count, at); }

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
