// Fibers: functions with stacks of their own that give each other the processor, within one OS thread.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulation {

constexpr size_t kStackBytes = 256 * 1024;
constexpr size_t kPageBytes = 4096;
constexpr size_t kColourBytes = 5 * 64;

// The bottom of a stack of kStackBytes, below which a page cannot be accessed. Stacks that begin at the same place of a
// page would all be in the same lines of the processor's cache.
inline char* NewStack() {
  static size_t made = 0;
  const size_t offset = made++ * kColourBytes % kPageBytes;
  auto* memory = static_cast<char*>(mmap(nullptr, kStackBytes + 2 * kPageBytes, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  if (memory == MAP_FAILED) __builtin_trap();
  mprotect(memory, kPageBytes, PROT_NONE);
  return memory + kPageBytes + offset;
}

// Stacks that no fiber uses, the last one used on top, since it is in the cache.
inline std::vector<char*>& FreeStacks() {
  static std::vector<char*> stacks;
  return stacks;
}

inline char* TakeStack() {
  std::vector<char*>& stacks = FreeStacks();
  if (stacks.empty()) return NewStack();
  char* stack = stacks.back();
  stacks.pop_back();
  return stack;
}

// Where a suspended function continues.
struct Suspended {
#if defined(__x86_64__)
  void* stack_pointer = nullptr;
#else
  ucontext_t context;
#endif
#if defined(__SANITIZE_ADDRESS__)
  void* shadow = nullptr;
  const void* bottom = nullptr;
  size_t size = 0;
#endif
};

#if defined(__x86_64__)

inline void PrepareStack(Suspended& at, char* stack, void (*main)()) {
  auto* top = reinterpret_cast<uint64_t*>(stack + kStackBytes);
  *--top = 0;                                 // keeps the alignment that a call leaves
  *--top = reinterpret_cast<uint64_t>(main);  // where it continues
  at.stack_pointer = top;
}

// Neither called nor returned from: the processor expects a return to where the last call came from, and pays for each
// that goes elsewhere. The compiler saves the registers that it needs.
inline __attribute__((always_inline)) void SwitchStacks(Suspended& from, Suspended& to) {
  void** save = &from.stack_pointer;
  void* load = to.stack_pointer;
  asm volatile(R"(
    leaq -128(%%rsp), %%rsp
    pushq %%rbp
    leaq 1f(%%rip), %%rax
    pushq %%rax
    movq %%rsp, (%0)
    movq %1, %%rsp
    popq %%rax
    jmpq *%%rax
  1:
    popq %%rbp
    leaq 128(%%rsp), %%rsp
  )"
               : "+D"(save), "+S"(load)
               :
               : "rax", "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "xmm0", "xmm1",
                 "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13",
                 "xmm14", "xmm15", "cc", "memory");
}

#else

inline void PrepareStack(Suspended& at, char* stack, void (*main)()) {
  getcontext(&at.context);
  at.context.uc_stack.ss_sp = stack;
  at.context.uc_stack.ss_size = kStackBytes;
  at.context.uc_link = nullptr;
  makecontext(&at.context, main, 0);
}

inline void SwitchStacks(Suspended& from, Suspended& to) { swapcontext(&from.context, &to.context); }

#endif

// Makes `main` start on `stack` when it is first switched to. It must never return.
inline void Prepare(Suspended& at, char* stack, void (*main)()) {
#if defined(__SANITIZE_ADDRESS__)
  ASAN_UNPOISON_MEMORY_REGION(stack, kStackBytes);  // what was on it before
  at.shadow = nullptr;
  at.bottom = stack;
  at.size = kStackBytes;
#endif
  PrepareStack(at, stack, main);
}

// Suspends `from`, which ends here if `last`, and continues `to`.
inline void Switch(Suspended& from, Suspended& to, bool last = false) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(last ? nullptr : &from.shadow, to.bottom, to.size);
  SwitchStacks(from, to);
  __sanitizer_finish_switch_fiber(from.shadow, nullptr, nullptr);
#else
  (void)last;
  SwitchStacks(from, to);
#endif
}

// The first thing that `main` calls: notes the stack of the function that switched to it.
inline void Arrive(Suspended& from) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &from.bottom, &from.size);
#else
  (void)from;
#endif
}

}  // namespace emulation
