#include "async_work.h"

#include <exception>

namespace lorasmith {
namespace {

struct Started {
  std::unique_ptr<AsyncWork> work;
  Failure failure;
  napi_deferred deferred = nullptr;
  napi_ref values = nullptr;
  napi_async_work handle = nullptr;
};

napi_value StringOf(napi_env env, const std::string& text) {
  napi_value value;
  napi_create_string_utf8(env, text.c_str(), text.size(), &value);
  return value;
}

napi_value ErrorOf(napi_env env, const Failure& failure) {
  napi_value error, number, index;
  napi_create_error(env, nullptr, StringOf(env, failure.what), &error);
  if (failure.error_number != 0) {
    napi_create_int32(env, -failure.error_number, &number);
    napi_set_named_property(env, error, "errno", number);
    napi_set_named_property(env, error, "syscall", StringOf(env, failure.what));
  } else {
    napi_set_named_property(env, error, "code", StringOf(env, failure.code));
  }
  if (failure.index >= 0) {
    napi_create_int64(env, failure.index, &index);
    napi_set_named_property(env, error, "index", index);
  }
  return error;
}

void Execute(napi_env, void* data) {
  auto* started = static_cast<Started*>(data);
  try {
    started->failure = started->work->Run();
  } catch (const std::exception& error) {
    started->failure = Failure{0, error.what()};
  }
}

void Complete(napi_env env, napi_status, void* data) {
  const std::unique_ptr<Started> started(static_cast<Started*>(data));
  if (started->failure) {
    napi_reject_deferred(env, started->deferred, ErrorOf(env, started->failure));
  } else {
    napi_resolve_deferred(env, started->deferred, started->work->Result(env));
  }
  if (started->values != nullptr) napi_delete_reference(env, started->values);
  napi_delete_async_work(env, started->handle);
}

}  // namespace

napi_value StartWork(napi_env env, std::unique_ptr<AsyncWork> work, napi_value values) {
  auto started = std::make_unique<Started>();
  started->work = std::move(work);
  napi_value promise, name;
  napi_create_promise(env, &started->deferred, &promise);
  if (values != nullptr) napi_create_reference(env, values, 1, &started->values);
  napi_create_string_utf8(env, "lorasmith weight-files", NAPI_AUTO_LENGTH, &name);
  napi_create_async_work(env, nullptr, name, &Execute, &Complete, started.get(), &started->handle);
  napi_queue_async_work(env, started->handle);
  started.release();  // Complete deletes it.
  return promise;
}

}  // namespace lorasmith
