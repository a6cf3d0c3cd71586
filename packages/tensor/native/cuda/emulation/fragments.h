// A memory pool that fragments: what is freed is a block of its size, which serves requests up to that size. Blocks are
// never joined; what a request leaves of one is a block again. Only memory that the stream has been waited for after it
// was freed is used again or given back.
#pragma once

#include <cstdint>
#include <set>
#include <vector>

namespace emulation {

class Fragments {
 public:
  // Whether a free block serves the request. If none does, the memory must come from the card.
  bool Take(uint64_t bytes) {
    const auto found = free_.lower_bound(bytes);
    if (found == free_.end()) return false;
    const uint64_t rest = *found - bytes;
    free_.erase(found);
    if (rest > 0) free_.insert(rest);
    return true;
  }

  void Free(uint64_t bytes) { unseen_.push_back(bytes); }

  void Synchronize() {
    free_.insert(unseen_.begin(), unseen_.end());
    unseen_.clear();
  }

  // Gives back at most so many bytes, in whole blocks, the smallest first. Returns how many.
  uint64_t GiveBack(uint64_t most) {
    uint64_t given = 0;
    while (!free_.empty() && given + *free_.begin() <= most) {
      given += *free_.begin();
      free_.erase(free_.begin());
    }
    return given;
  }

 private:
  std::multiset<uint64_t> free_;
  std::vector<uint64_t> unseen_;
};

}  // namespace emulation
