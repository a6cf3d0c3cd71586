#include "hash_file.h"

#include <unistd.h>

#include <cerrno>
#include <string>
#include <vector>

#include "async_work.h"
#include "sha256.h"

namespace lorasmith {
namespace {

constexpr size_t kPieceBytes = size_t{1} << 20;

class Hashing : public AsyncWork {
 public:
  explicit Hashing(int file) : file_(file) {}

  Failure Run() override {
    std::vector<char> piece(kPieceBytes);
    Sha256 sha256;
    for (off_t position = 0;;) {
      const ssize_t count = pread(file_, piece.data(), piece.size(), position);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return Failure{errno, "read"};
      if (count == 0) break;
      sha256.Update(piece.data(), static_cast<size_t>(count));
      position += count;
    }
    digest_ = sha256.Finish();
    return {};
  }

  napi_value Result(napi_env env) override {
    napi_value text;
    napi_create_string_utf8(env, digest_.c_str(), digest_.size(), &text);
    return text;
  }

 private:
  int file_;
  std::string digest_;
};

}  // namespace

napi_value HashFile(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value file;
  int32_t descriptor = -1;
  napi_get_cb_info(env, info, &count, &file, nullptr, nullptr);
  napi_get_value_int32(env, file, &descriptor);
  return StartWork(env, std::make_unique<Hashing>(descriptor), nullptr);
}

}  // namespace lorasmith
