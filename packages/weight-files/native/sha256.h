// SHA-256 with the code of OpenSSL that is part of Node: the fastest for each processor.
#pragma once

#include <cstddef>
#include <string>

namespace lorasmith {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void Update(const void* bytes, size_t count);

  // Hexadecimal. Call it once, at the end.
  std::string Finish();

 private:
  void* context_;
};

}  // namespace lorasmith
