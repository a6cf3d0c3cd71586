// Makes a disk slow: fsync and fdatasync take FSYNC_DELAY_MS longer. For LD_PRELOAD.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

static void Delay(void) {
  const char *text = getenv("FSYNC_DELAY_MS");
  const long ms = text == NULL ? 0 : atol(text);
  struct timespec left = {ms / 1000, ms % 1000 * 1000000};
  while (nanosleep(&left, &left) != 0 && errno == EINTR) continue;
}

int fsync(int file) {
  int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
  Delay();
  return real(file);
}

int fdatasync(int file) {
  int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
  Delay();
  return real(file);
}
