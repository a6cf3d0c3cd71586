// Preloaded into processes with an engine (LD_PRELOAD), it breaks one kernel launch, in the first process that comes so far.
// FAULT_AT_LAUNCH: the number of the launch, from 1.
// FAULT=address: the first cast from that launch on gets a wild pointer, which ends the context of a real card
// (CUDA_ERROR_ILLEGAL_ADDRESS). A cast's first parameter is a pointer; that of other kernels may be a table.
// FAULT=719, or any other number: that launch and all later ones of its process fail with this error, and nothing runs.
// FAULT=gone: the same with CUDA_ERROR_UNKNOWN, and afterwards no process finds the card, as if it had fallen off the bus.
// FAULT_FILE: is created when it happens.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NO_DEVICE = 100, UNKNOWN = 999, MOST_CASTS = 64 };

typedef int (*Launch)(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**, void**);
typedef int (*Initialise)(unsigned);
typedef int (*GetFunction)(void**, void*, const char*);
typedef void* (*FindSymbol)(void*, const char*);

static Launch real_launch;
static Initialise real_initialise;
static GetFunction real_get_function;
static void* casts[MOST_CASTS];
static int cast_count;
static long launches;
static int error_of_this_process;

static int is_fault(const char* name) {
  const char* fault = getenv("FAULT");
  return fault != NULL && strcmp(fault, name) == 0;
}

static int is_cast(const void* function) {
  for (int i = 0; i < cast_count; i++) {
    if (casts[i] == function) return 1;
  }
  return 0;
}

static int happens_now(const void* function) {
  const char* at = getenv("FAULT_AT_LAUNCH");
  const char* file = getenv("FAULT_FILE");
  if (at == NULL || file == NULL || getenv("FAULT") == NULL) return 0;
  if (is_fault("address") ? launches < atol(at) || !is_cast(function) : launches != atol(at)) return 0;
  const int created = open(file, O_CREAT | O_EXCL | O_WRONLY, 0644);
  if (created < 0) return 0;
  close(created);
  fprintf(stderr, "launch %ld is broken on purpose: %s\n", launches, getenv("FAULT"));
  return 1;
}

static int launch(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                  unsigned block_z, unsigned shared_bytes, void* stream, void** parameters, void** extra) {
  static void* wild = (void*)16;
  launches++;
  if (happens_now(function)) {
    if (is_fault("address")) parameters[0] = &wild;
    else error_of_this_process = is_fault("gone") ? UNKNOWN : atoi(getenv("FAULT"));
  }
  if (error_of_this_process != 0) return error_of_this_process;
  return real_launch(function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes, stream, parameters, extra);
}

static int get_function(void** function, void* module, const char* name) {
  const int result = real_get_function(function, module, name);
  if (result == 0 && strncmp(name, "Cast", 4) == 0 && cast_count < MOST_CASTS) casts[cast_count++] = *function;
  return result;
}

static int initialise(unsigned flags) {
  const char* file = getenv("FAULT_FILE");
  if (is_fault("gone") && file != NULL && access(file, F_OK) == 0) return NO_DEVICE;
  return real_initialise(flags);
}

static FindSymbol find_real(void) {
  static const char* const versions[] = {"GLIBC_2.34", "GLIBC_2.17", "GLIBC_2.2.5"};
  for (unsigned i = 0; i < sizeof versions / sizeof *versions; i++) {
    FindSymbol found = (FindSymbol)dlvsym(RTLD_NEXT, "dlsym", versions[i]);
    if (found != NULL) return found;
  }
  abort();
}

// The engine finds the driver's functions by name.
void* dlsym(void* library, const char* name) {
  static FindSymbol real;
  if (real == NULL) real = find_real();
  void* found = real(library, name);
  if (found == NULL) return NULL;
  if (strcmp(name, "cuLaunchKernel") == 0) {
    real_launch = (Launch)found;
    return (void*)launch;
  }
  if (strcmp(name, "cuModuleGetFunction") == 0) {
    real_get_function = (GetFunction)found;
    return (void*)get_function;
  }
  if (strcmp(name, "cuInit") == 0) {
    real_initialise = (Initialise)found;
    return (void*)initialise;
  }
  return found;
}
