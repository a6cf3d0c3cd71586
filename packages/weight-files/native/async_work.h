// Work off the JavaScript thread, whose result is a promise.
#pragma once

#include <node_api.h>

#include <cstdint>
#include <memory>
#include <string>

namespace lorasmith {

// What went wrong: a call of the system with its errno, or a message with a code.
struct Failure {
  int error_number = 0;
  std::string what;    // the call or the message; empty where nothing went wrong
  std::string code;    // empty for calls of the system
  int64_t index = -1;  // of what was worked on, among several things

  explicit operator bool() const { return !what.empty(); }
};

class AsyncWork {
 public:
  virtual ~AsyncWork() = default;

  // On a thread of libuv's pool; it may start threads of its own, and returns when they have ended.
  virtual Failure Run() = 0;

  // On the JavaScript thread, after Run.
  virtual napi_value Result(napi_env env) = 0;
};

// Keeps `values`, an object or null, alive until the work has ended: what holds the arrays whose memory it uses.
// Returns the promise. It is rejected with an Error: of a call of the system, with `errno` (negative) and `syscall`.
napi_value StartWork(napi_env env, std::unique_ptr<AsyncWork> work, napi_value values);

}  // namespace lorasmith
