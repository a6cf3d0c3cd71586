// Counts the work of kernels. Link it into a program whose kernels were compiled with -fsanitize-coverage=trace-pc: the
// compiler then calls a function here in each basic block. What runs between two threads, on the stack of the process,
// is no kernel's work.
#include "cuda/emulation/work.h"

#include "cuda/emulation/block.h"

extern "C" void __sanitizer_cov_trace_pc() {
  if (emulation::thread == nullptr) return;
  const char* own = static_cast<const char*>(__builtin_frame_address(0));
  const char* stack = emulation::thread->stack;
  if (stack != nullptr && own >= stack && own < stack + emulation::kStackBytes) emulation::work++;
}
