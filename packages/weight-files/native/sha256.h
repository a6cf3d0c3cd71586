// SHA-256 with the code of OpenSSL that is part of Node: the fastest for each processor.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>

// Node's documentation lists OpenSSL among the libraries that addons may use. These six are its stable interface.
extern "C" {
void* EVP_MD_CTX_new(void);
void EVP_MD_CTX_free(void* context);
const void* EVP_sha256(void);
int EVP_DigestInit_ex(void* context, const void* type, void* engine);
int EVP_DigestUpdate(void* context, const void* bytes, size_t count);
int EVP_DigestFinal_ex(void* context, unsigned char* digest, unsigned int* size);
}

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

inline Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  if (context_ == nullptr || EVP_DigestInit_ex(context_, EVP_sha256(), nullptr) != 1) {
    EVP_MD_CTX_free(context_);
    throw std::runtime_error("OpenSSL has no SHA-256");
  }
}

inline Sha256::~Sha256() { EVP_MD_CTX_free(context_); }

inline void Sha256::Update(const void* bytes, size_t count) { EVP_DigestUpdate(context_, bytes, count); }

inline std::string Sha256::Finish() {
  unsigned char digest[32];
  EVP_DigestFinal_ex(context_, digest, nullptr);
  std::string text;
  for (const unsigned char byte : digest) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

}  // namespace lorasmith
